import errno
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from service.jobs import supervisor
from service.settings import Settings

#: Says its process id, and ends with its standard input, as a worker does.
STAND_IN = """
import os, pathlib, sys
with open(os.environ["GLRF_JOBS_DIR"] + "/started", "a") as file:
    file.write(f"{os.getpid()}\\n")
sys.stdin.read()
"""


def started(folder: Path, n: int) -> list[int]:
    deadline_s = time.monotonic() + 60
    while True:
        text = (folder / "started").read_text() if (folder / "started").exists() else ""
        pids = [int(line) for line in text.splitlines()]
        if len(pids) >= n:
            return pids
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_dies_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "_WORKER", STAND_IN)
    with supervisor.workers(Settings(jobs_dir=tmp_path, jobs_workers=1)):
        [first] = started(tmp_path, 1)
        os.kill(first, signal.SIGKILL)
        _, second = started(tmp_path, 2)
        assert is_alive(second)
    assert not is_alive(second)


def test_one_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    start, failures = subprocess.Popen, [OSError(errno.EMFILE, "Too many open files")] * 2

    def fail_first(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        if failures:
            raise failures.pop()
        return start(*arguments, **options)

    monkeypatch.setattr(supervisor, "_WORKER", STAND_IN)
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(subprocess, "Popen", fail_first)
    with supervisor.workers(Settings(jobs_dir=tmp_path, jobs_workers=1)):
        [pid] = started(tmp_path, 1)
        assert is_alive(pid)
    assert caplog.text.count("cannot be started ([Errno 24] Too many open files)") == 2


def test_none_is_started_where_none_is_asked_for(tmp_path: Path):
    with supervisor.workers(Settings(jobs_dir=tmp_path, jobs_workers=0)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_child_has_the_options_of_its_parent(tmp_path: Path):
    settings = Settings(
        jobs_dir=tmp_path,
        device="cpu",
        jobs_url="sqlite:///x",  # type: ignore[arg-type]
        jobs_keep_audio=True,
    )
    environment = supervisor.environment(settings)
    assert environment["GLRF_DEVICE"] == "cpu"
    assert environment["GLRF_JOBS_URL"] == "sqlite:///x"
    assert environment["GLRF_JOBS_KEEP_AUDIO"] == "True"


def test_a_hangup_that_is_ignored_stays_so():
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with supervisor.unwound_by_sigterm():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
