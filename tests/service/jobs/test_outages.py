"""Disk, store, folder or decoder fail for a while: what was accepted is scored all the same."""

import contextlib
import os
import shutil
import signal
import socketserver
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from service.jobs import job_service, supervisor
from service.jobs.scoring import MAX_ATTEMPTS
from service.jobs.supervisor import workers
from service.settings import Settings
from tests.service.jobs.conftest import LIVELY
from tests.service.jobs.handing_in import PATIENCE_S, STEREO, finished, submitted
from tests.service.running import RunningServer, wav
from tests.synthetic import voice

#: Four minutes, which take long enough to be disturbed.
LONG = wav(np.tile(voice(16_000 * 8), 30))
#: A worker whose looks and repetitions come soon.
HASTY = """
from service.jobs import executor, sweep
executor.RETRY_S, sweep.CLEAR_EVERY_S = 0.5, 1.0
"""
#: One that tries again at once.
RESTLESS = "from service.jobs import executor; executor.MAX_RETRY_S = 0.05\n"
#: One that waits for a decoder for two seconds only.
IMPATIENT = "from service import decoding; decoding.STALL_S = 2.0\n"
#: DBOS cannot write while `GLRF_JOBS_DIR` holds a file `full`: nor steps, nor how a workflow ended.
FULL_DISK = """
import os, pathlib
import sqlalchemy as sa
from dbos._sys_db import SystemDatabase
full = pathlib.Path(os.environ["GLRF_JOBS_DIR"], "full")
def failing(name):
    whole = getattr(SystemDatabase, name)
    def method(self, *args, **kwargs):
        if full.exists():
            (full.parent / name).touch()
            raise sa.exc.OperationalError("", {}, Exception("database or disk is full"))
        return whole(self, *args, **kwargs)
    setattr(SystemDatabase, name, method)
failing("_record_operation_result_txn")
failing("update_workflow_outcome")
"""
#: The store fails when a worker takes its leave.
NO_LEAVE = """
import sqlalchemy as sa
from service.jobs.store import JobStore
def leave(self, executor_id):
    raise {error}
JobStore.leave = leave
"""
#: Each step has a pause, before its chunk and after it, until `GLRF_JOBS_DIR` holds a file.
HALTED = """
import asyncio, os, pathlib
from service.jobs.scoring import Scoring
folder = pathlib.Path(os.environ["GLRF_JOBS_DIR"])
next_chunk = Scoring.next_chunk
async def halt(name):
    (folder / name).touch()
    while not (folder / (name + "_goes_on")).exists():
        await asyncio.sleep(0.05)
async def halted(self, job_id):
    await halt("begun")
    has_more = await next_chunk(self, job_id)
    await halt("scored")
    return has_more
Scoring.next_chunk = halted
"""
RUN = LIVELY + "from service.jobs.worker import run; run(is_child=True)"


@pytest.fixture
def settings(job_settings: Settings, tmp_path: Path) -> Settings:
    return job_settings.model_copy(update={"jobs_dir": tmp_path})


def _until(is_so: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def _n_begun(settings: Settings) -> int:
    """Attempts at chunks of all jobs."""
    store = sqlite3.connect(settings.jobs_dir / "jobs.sqlite")
    with contextlib.closing(store):
        return store.execute("SELECT sum(n_begun) FROM glrf_jobs").fetchone()[0]


def test_a_disk_that_was_full(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_WORKER", HASTY + FULL_DISK + RUN)
    full = settings.jobs_dir / "full"
    full.touch()
    with RunningServer(settings) as server, workers(settings):
        job = submitted(server.http)
        _until((full.parent / "update_workflow_outcome").exists)  # and its thread dies
        full.unlink()
        assert finished(server.http, job["id"])["status"] == "succeeded"


def test_a_share_that_is_mounted_late(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_WORKER", RESTLESS + RUN)
    audio, away = settings.jobs_dir / "audio", settings.jobs_dir / "away"
    with RunningServer(settings) as server:
        job = submitted(server.http)
        audio.rename(away)
        refused = server.http.post("/v1/jobs", content=STEREO)
        assert (refused.status_code, refused.json()["code"]) == (503, "jobs_unavailable")
        assert "glrf-recordings" in refused.json()["remedy"]
        audio.mkdir()  # whoever made it, it is not the share
        assert server.http.post("/v1/jobs", content=STEREO).status_code == 503
        (audio / "lost+found").mkdir()
        with workers(settings):
            _until(lambda: _n_begun(settings) > MAX_ATTEMPTS + 1)
            shutil.rmtree(audio)
            away.rename(audio)
            assert finished(server.http, job["id"])["status"] == "succeeded"
            assert finished(server.http, submitted(server.http)["id"])["status"] == "succeeded"


def test_a_recording_that_is_gone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_WORKER", HASTY + RUN)
    with RunningServer(settings) as server:
        gone, there = (submitted(server.http)["id"] for _ in range(2))
        (settings.jobs_dir / "audio" / gone).unlink()
        with workers(settings):
            assert finished(server.http, gone)["error"]["code"] == "job_audio_lost"
            assert finished(server.http, there)["status"] == "succeeded"


def test_a_recording_that_cannot_be_opened_holds_up_no_other_job(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_WORKER", HASTY + RUN)
    settings = settings.model_copy(update={"shutdown_s": 0.5})
    with RunningServer(settings) as server:
        hangs, other = (submitted(server.http)["id"] for _ in range(2))
        recording = settings.jobs_dir / "audio" / hangs
        recording.unlink()
        os.mkfifo(recording)  # whoever opens it waits, as on a disk that does not answer
        with workers(settings):
            assert finished(server.http, other)["status"] == "succeeded"
            assert server.http.get(f"/v1/jobs/{hangs}").json()["status"] == "running"


def test_a_recording_stays_where_the_service_is_to_blame(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hopeless = "from service.jobs import scoring; scoring.MAX_ATTEMPTS = 0\n"
    monkeypatch.setattr(supervisor, "_WORKER", hopeless + RUN)
    with RunningServer(settings) as server, workers(settings):
        job = finished(server.http, submitted(server.http)["id"])
        assert job["error"]["code"] == "job_crashed"
        recording = settings.jobs_dir / "audio" / job["id"]
        assert recording.read_bytes() == STEREO
        assert server.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
        assert not recording.exists()


@pytest.mark.parametrize(
    ("worker", "sent"),
    [(HASTY, signal.SIGKILL), (RESTLESS + IMPATIENT, signal.SIGSTOP)],
    ids=["killed", "of a disk that hangs"],
)
def test_a_job_outlives_a_decoder(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, worker: str, sent: signal.Signals
) -> None:
    monkeypatch.setattr(supervisor, "_WORKER", worker + RUN)
    settings = settings.model_copy(update={"jobs_max_bytes": 2**24})
    with RunningServer(settings) as server, workers(settings):
        job = submitted(server.http, LONG)
        reached: list[int] = []
        _until(lambda: reached.extend(_signal_decoders(sent)) or reached)
        assert finished(server.http, job["id"])["status"] == "succeeded"


def test_a_job_that_is_deleted_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "_WORKER", HALTED + RUN)
    settings = settings.model_copy(update={"log_level": "info"})
    with RunningServer(settings) as server, workers(settings):
        job = submitted(server.http)
        _until((settings.jobs_dir / "begun").exists)
        assert server.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
        (settings.jobs_dir / "begun_goes_on").touch()
        told: list[str] = []
        _until(
            lambda: (
                told.append(capfd.readouterr().err)
                or f"job {job['id']} was deleted while it was scored" in "".join(told)
            )
        )
        assert "Traceback" not in "".join(told)


def test_a_job_that_is_deleted_between_two_chunks_leaves_no_decoder(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_WORKER", HALTED + RUN)
    settings = settings.model_copy(update={"jobs_max_bytes": 2**24})
    (settings.jobs_dir / "begun_goes_on").touch()
    with RunningServer(settings) as server, workers(settings):
        job = submitted(server.http, LONG)
        _until((settings.jobs_dir / "scored").exists)
        assert _decoders()
        assert server.http.delete(f"/v1/jobs/{job['id']}").status_code == 204
        (settings.jobs_dir / "scored_goes_on").touch()
        _until(lambda: not _decoders())


def _signal_decoders(number: int) -> list[int]:
    """Tells the decoders of the workers that this process started; which these are."""
    decoders = _decoders()
    for decoder in decoders:
        os.kill(decoder, number)
    return decoders


def _decoders() -> list[int]:
    """Of the workers that this process started: the children of their fork servers."""
    found: list[int] = []
    for worker in _children(os.getpid()):
        if b"service.jobs.worker" not in Path(f"/proc/{worker}/cmdline").read_bytes():
            continue
        for fork_server in _children(worker):
            found += _children(fork_server)
    return found


def _children(process: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


@pytest.mark.parametrize(
    ("error", "status"),
    [('sa.exc.OperationalError("", {}, Exception("it is away"))', 0), ('ValueError("a bug")', 1)],
)
def test_a_worker_ends_where_the_store_is_away_at_its_end(
    settings: Settings, error: str, status: int
) -> None:
    settings = settings.model_copy(update={"jobs_max_bytes": 2**24})
    with RunningServer(settings) as server:
        job = submitted(server.http, LONG)
        with subprocess.Popen(
            [sys.executable, "-c", NO_LEAVE.format(error=error) + RUN],
            env=supervisor.environment(settings),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as worker:
            try:
                _until(lambda: server.http.get(f"/v1/jobs/{job['id']}").json()["progress"] > 0)
                worker.terminate()  # while a thread of DBOS is in the job
                _, told = worker.communicate(timeout=PATIENCE_S)
            finally:
                worker.kill()
    assert worker.returncode == status
    assert (b"it is away" if status == 0 else b"a bug") in told


def test_a_worker_that_ends_between_two_chunks_says_so_and_no_more(settings: Settings) -> None:
    settings = settings.model_copy(update={"jobs_max_bytes": 2**24})
    (settings.jobs_dir / "begun_goes_on").touch()
    with RunningServer(settings) as server:
        submitted(server.http, LONG)
        with subprocess.Popen(
            [sys.executable, "-c", HALTED + RUN],
            env=supervisor.environment(settings),
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as worker:
            try:
                _until((settings.jobs_dir / "scored").exists)
                worker.terminate()
                (settings.jobs_dir / "scored_goes_on").touch()
                _, told = worker.communicate(timeout=PATIENCE_S)
            finally:
                worker.kill()
    assert (worker.returncode, told) == (0, b"")


def test_a_repeated_request_needs_no_room(settings: Settings) -> None:
    settings = settings.model_copy(update={"jobs_max": 1})
    with RunningServer(settings) as server:
        key = {"Idempotency-Key": "k"}
        first, again = (server.http.post("/v1/jobs", content=STEREO, headers=key) for _ in range(2))
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["id"] == again.json()["id"]
        assert server.http.post("/v1/jobs", content=STEREO).status_code == 503


def test_a_store_that_is_locked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.jobs.database._SQLITE_WAIT_MS", 100)
    with RunningServer(settings) as server:
        submitted(server.http)
        lock = sqlite3.connect(settings.jobs_dir / "jobs.sqlite", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        answer = server.http.post(
            "/v1/jobs", content=STEREO, params={"roles": "JaneDoe,agent"}, timeout=60
        )
        lock.execute("ROLLBACK")
        lock.close()
        assert (answer.status_code, answer.json()["code"]) == (503, "jobs_unavailable")
        assert "Retry-After" in answer.headers
        assert server.metric("glrf_refusals_total", code="jobs_unavailable") == 1
        assert "JaneDoe" not in caplog.text
        submitted(server.http)


class Silent(socketserver.BaseRequestHandler):
    """Takes a connection, and never says a word, as a database behind a dead volume."""

    def handle(self) -> None:
        while self.request.recv(1024):
            pass


def test_a_database_that_never_answers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(job_service, "_PATIENCE_S", 0.1)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Silent) as database:
        database.daemon_threads = True
        threading.Thread(target=database.serve_forever, daemon=True).start()
        port = database.server_address[1]
        url = f"postgresql://user:secret@127.0.0.1:{port}/jobs?connect_timeout=30"
        silent = Settings(**{**settings.model_dump(), "jobs_url": SecretStr(url)})
        with RunningServer(silent) as server:
            for _ in range(12):  # more than there are threads for the store
                began_s = time.monotonic()
                assert server.http.get("/metrics").status_code == 200
                assert time.monotonic() - began_s < 5
            answer = server.http.post("/v1/jobs", content=STEREO)
            assert (answer.status_code, answer.json()["code"]) == (503, "jobs_unavailable")
            answer = server.http.post("/v1/files", content=STEREO)
            assert answer.status_code == 200
            assert server.metric("glrf_jobs_store_up") == 0
            began_s = time.monotonic()
        assert time.monotonic() - began_s < 10  # its end does not wait for the database
        database.shutdown()
    assert "jobs cannot be counted" in caplog.text
    assert "secret" not in caplog.text
