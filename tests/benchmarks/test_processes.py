import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.processes import pinned, running, tree_cpu_s, tree_memory_mb
from ser_core.errors import NotReady

CPU = max(os.sched_getaffinity(0))

#: Starts a child that burns half a second of CPU time and says when it has; both then wait.
BURNING = """
import subprocess, sys, time
burn = "import sys, time; hold = bytearray(50_000_000)\\nwhile time.process_time() < 0.55: pass\\n"
burn += f"open({sys.argv[1]!r}, 'w').close(); time.sleep(60)"
subprocess.run([sys.executable, "-c", burn])
"""


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_is_pinned_watched_with_its_children_and_ended_with_them(tmp_path: Path) -> None:
    burnt = tmp_path / "burnt"
    command = [sys.executable, "-c", BURNING, str(burnt)]
    with running(command, CPU, burnt.exists, {}, timeout_s=30) as pid:
        assert os.sched_getaffinity(pid) == {CPU}
        assert tree_cpu_s(pid) >= 0.5  # of 0.55: user and system time are each told in whole ticks
        assert tree_memory_mb(pid) >= 50
        child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        assert os.sched_getaffinity(child) == {CPU}
    assert not is_there(pid)
    ended_by_s = time.monotonic() + 5
    while is_there(child) and _state(child) != "Z" and time.monotonic() < ended_by_s:
        time.sleep(0.01)
    assert not is_there(child) or _state(child) == "Z"  # nobody may be left to wait for it


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_server_that_does_not_start_is_named_with_its_last_words() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such device')"]
    with (
        pytest.raises(NotReady, match=r"ended at its start with status 1: no such device"),
        running(command, CPU, lambda: False, {}, timeout_s=30),
    ):
        pass


def test_a_server_that_does_not_get_ready_is_ended(tmp_path: Path) -> None:
    named = tmp_path / "pid"
    program = f"import os, time; open({str(named)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with (
        pytest.raises(NotReady, match="was not ready after 1 s"),
        running([sys.executable, "-c", program], CPU, lambda: False, {}, timeout_s=1),
    ):
        pass
    assert not is_there(int(named.read_text()))


def test_the_pin_is_taken_off_again() -> None:
    before = os.sched_getaffinity(0)
    with pinned(CPU):
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"],
            capture_output=True,
            text=True,
            check=True,
        )
    assert child.stdout.strip() == str({CPU})
    assert os.sched_getaffinity(0) == before
