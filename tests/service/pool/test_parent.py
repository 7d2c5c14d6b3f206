"""Several workers behind one port: a whole server, from its start to its end."""

import asyncio
import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from service.pool import parent
from service.pool.line import FULL, LEAVING, NO_FILES, READY, Report
from service.pool.parent import Parent, Seat, worker_environment
from service.pool.serving import REPORT_S
from service.settings import Settings
from tests.service.running import NO_TLS, TIMEOUT_S, converse, listen, pcm
from tests.synthetic import voice, write_model

SERVE = [sys.executable, "-W", "error", "-c", "from service.start import run; run()"]
WAIT_S = 60.0


#: As `SERVE`, but a worker is taken for hung after three seconds.
SERVE_IMPATIENTLY = [
    *SERVE[:-1],
    f"import service.pool.parent as p; p._SILENT_TICKS = 3; {SERVE[-1]}",
]


@pytest.fixture
def pool(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    write_model(tmp_path / "tiny.onnx")
    environment = {
        "GLRF_MODEL_DIR": str(tmp_path),
        "GLRF_PORT": "0",
        "GLRF_DEVICE": "cpu",
        "GLRF_JOBS_WORKERS": "0",
        "GLRF_JOBS_DIR": str(tmp_path / "jobs"),
        "GLRF_WORKERS": "2",
        "GLRF_MAX_SESSIONS": "8",
        "GLRF_MAX_LOAD": "0",
    }
    with (
        # A pipe that nobody reads fills up, and then workers wait to write that they have answered.
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            getattr(request, "param", SERVE), env=os.environ | environment, stderr=log, text=True
        ) as process,
    ):
        yield process
        process.kill()


def port_of(process: subprocess.Popen[str], folder: Path) -> int:
    """Of the pool whose log is in `folder`."""

    def announced() -> re.Match[str] | None:
        log = (folder / "log").read_text()
        return re.search(r"running on http://127\.0\.0\.1:(\d+) with 2 workers", log)

    wait_until(lambda: announced() or process.poll() is not None)
    found = announced()
    assert found, "it never listened"
    return int(found[1])


def workers_of(parent: subprocess.Popen[str]) -> list[int]:
    """Its worker processes, the oldest first."""
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    return sorted(map(int, children))


def wait_until(condition) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, "it never happened"
        time.sleep(0.05)


def scraped(url: str) -> dict[tuple[str, ...], float]:
    text = httpx.get(f"{url}/metrics", timeout=TIMEOUT_S, verify=NO_TLS).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def session_counts(url: str) -> set[int]:
    """How many sessions each worker has: connections without streams go to them in turn."""
    return {
        len(httpx.get(f"{url}/v1/sessions", timeout=TIMEOUT_S, verify=NO_TLS).json()["sessions"])
        for _ in range(12)
    }


@pytest.mark.parametrize("pool", [SERVE_IMPATIENTLY], indirect=True)
def test_a_worker_that_hangs_is_told_as_missing_and_killed(
    pool: subprocess.Popen[str], tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{port_of(pool, tmp_path)}"
    wait_until(lambda: scraped(url)["glrf_workers", "answering"] == 2)
    first, second = workers_of(pool)
    os.kill(second, signal.SIGSTOP)
    wait_until(lambda: second not in workers_of(pool))
    wait_until(lambda: scraped(url)["glrf_workers", "answering"] == 2)
    assert first in workers_of(pool)  # who says something, and nothing new, is left alone


@pytest.mark.parametrize(
    ("state", "patience_s"), [(READY, 30), (NO_FILES, 30), (FULL, 30), (LEAVING, 95), (None, 120)]
)
def test_who_starts_or_leaves_may_take_its_time(
    tmp_path: Path, state: bytes | None, patience_s: int
) -> None:
    pool = Parent(Settings(workers=2, shutdown_s=90), tmp_path)
    seat = pool._seats[0]
    seat.process = process = MagicMock()
    seat.report = Report(state, 0, 0) if state else None
    for second in range(1, 200):
        pool._look_for_silent(time.monotonic() + second)
        assert process.kill.call_count == (second >= patience_s)


def test_streams_are_spread_evenly_and_outlive_each_others_workers(
    pool: subprocess.Popen[str], tmp_path: Path
) -> None:
    port = port_of(pool, tmp_path)
    url, stream_url = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}/v1/stream"
    wait_until(
        lambda: scraped(url)["process_resident_memory_bytes",] and len(workers_of(pool)) == 2
    )
    # Two workers that are ready: streams are in both. Until the second is, the first has them all.
    wait_until(lambda: is_spread(stream_url, url))
    # Those two must have left their places, and the parent have heard that they and we are gone.
    wait_until(lambda: scraped(url)["glrf_sessions",] == 0)
    time.sleep(5 * REPORT_S)

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(connect(stream_url)) for _ in range(8)]
            created = [json.loads(await stream.recv()) for stream in streams]
            assert len({message["session_id"] for message in created}) == 8
            assert await asyncio.to_thread(session_counts, url) == {4}
            # Four a worker are the share of eight: one more is refused by either.
            with pytest.raises(InvalidStatus) as refused:
                await connect(stream_url)
            assert refused.value.response.status_code == 503
            before = await asyncio.to_thread(scraped, url)
            assert before["glrf_sessions",] == 8
            os.kill((await asyncio.to_thread(workers_of, pool))[0], signal.SIGKILL)
            ends = await asyncio.gather(*map(goes_on, streams))
            assert sorted(ends) == [False] * 4 + [True] * 4
            after = await asyncio.to_thread(scraped, url)
            assert after["glrf_sessions_opened_total", "stream"] >= 8
            assert all(
                after[key] >= value for key, value in before.items() if key[0].endswith("_total")
            )

    asyncio.run(run())
    wait_until(lambda: len(workers_of(pool)) == 2)
    wait_until(lambda: is_spread(stream_url, url))
    assert asyncio.run(ended_by_sigterm(pool, stream_url)) == [1012, 1012]
    assert pool.wait(WAIT_S) == -signal.SIGTERM


def is_spread(stream_url: str, url: str) -> bool:
    async def run() -> bool:
        async with connect(stream_url) as one, connect(stream_url) as other:
            await asyncio.gather(one.recv(), other.recv())
            return await asyncio.to_thread(session_counts, url) == {1}

    return asyncio.run(run())


async def goes_on(stream: ClientConnection) -> bool:
    """Whether a stream goes on."""
    try:
        await stream.send(pcm(voice(16_000)))
        async with asyncio.timeout(TIMEOUT_S):
            while json.loads(await stream.recv())["type"] != "segment":
                pass
    except Exception:
        return False
    return True


async def ended_by_sigterm(pool: subprocess.Popen[str], stream_url: str) -> list[int | None]:
    """The close codes of two streams, one a worker."""
    async with connect(stream_url) as one, connect(stream_url) as other:
        await asyncio.gather(one.recv(), other.recv())
        pool.send_signal(signal.SIGTERM)
        transcripts = await asyncio.gather(listen(one), listen(other))
    return [transcript.close_code for transcript in transcripts]


def test_workers_end_with_a_parent_that_was_killed(
    pool: subprocess.Popen[str], tmp_path: Path
) -> None:
    port = port_of(pool, tmp_path)
    transcript = asyncio.run(converse(f"ws://127.0.0.1:{port}/v1/stream", [pcm(voice(16_000 * 3))]))
    assert transcript.close_code == 1000
    wait_until(lambda: len(workers_of(pool)) == 2)
    workers = workers_of(pool)
    pool.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers))


def test_what_keeps_workers_from_starting_is_said_once(tmp_path: Path) -> None:
    environment = {"GLRF_MODEL_DIR": "/nowhere", "GLRF_WORKERS": "3", "GLRF_PORT": "0"}
    done = subprocess.run(
        SERVE, env=os.environ | environment, capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode == 1
    assert re.match(r"glrf: model_not_found: .*/nowhere", done.stderr)
    assert done.stderr.count("\n") == 1


def test_a_temporary_folder_with_no_room_for_sockets_is_said_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    environment = {"TMPDIR": str(folder), "GLRF_WORKERS": "2", "GLRF_PORT": "0"}
    done = subprocess.run(
        SERVE, env=os.environ | environment, capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode == 1
    assert re.fullmatch(r"glrf: bad_parameter: the workers' sockets .*TMPDIR.*\n", done.stderr)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("worker", "python", "cause"),
    [
        ("import os; os.kill(os.getpid(), 9)", sys.executable, "ended with status -9"),
        ("", "/nowhere/python", r"cannot be started \(.*No such file"),
    ],
)
def test_a_first_worker_that_cannot_say_why_it_ends_is_told_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    worker: str,
    python: str,
    cause: str,
) -> None:
    monkeypatch.setattr(parent, "_WORKER", worker)
    monkeypatch.setattr(sys, "executable", python)
    with pytest.raises(SystemExit) as ended:
        Parent(Settings(workers=2), tmp_path).start()
    assert ended.value.code == 1
    assert re.search(f"worker 0 {cause}", caplog.text)


def test_workers_have_their_shares_and_the_same_keys() -> None:
    environment = worker_environment(Settings(workers=3, max_sessions=100, max_files=4))
    assert environment["GLRF_MAX_SESSIONS"] == "34"
    assert environment["GLRF_MAX_FILES"] == "2"
    assert environment["GLRF_MAX_FILES_WAITING"] == "11"
    assert environment["GLRF_WORKERS"] == "1"
    assert environment["GLRF_JOBS_WORKERS"] == "0"
    assert len(environment["GLRF_CHECKPOINT_KEYS"]) >= 32
    assert len(environment["GLRF_TOKEN_KEYS"]) >= 32
    given = worker_environment(Settings(workers=2, token_keys="k" * 32))  # type: ignore[arg-type]
    assert given["GLRF_TOKEN_KEYS"] == "k" * 32


def test_the_next_connection_goes_where_the_least_is_under_way_and_room_is() -> None:
    def seat(state: bytes, n_received: int, n_busy: int, n_handed: int, turn: int) -> Seat:
        found = Seat(0)
        found.report, found.n_handed, found.turn = Report(state, n_received, n_busy), n_handed, turn
        return found

    free, busier = seat(READY, 5, 1, 5, 3), seat(READY, 5, 2, 5, 1)
    under_way, full, leaving = (
        seat(READY, 5, 1, 7, 2),
        seat(FULL, 5, 0, 5, 0),
        seat(LEAVING, 5, 0, 5, 0),
    )
    no_files, silent = seat(NO_FILES, 5, 0, 5, 0), seat(READY, 5, 0, 5, 0)
    silent.n_silent = 3
    seats = [silent, full, no_files, under_way, busier, free]
    assert sorted(seats, key=lambda s: s.rank) == [
        *(free, busier, under_way, no_files, full, silent)
    ]
    assert not leaving.is_open
    assert not Seat(0).is_open


def test_a_report_travels_whole() -> None:
    report = Report(FULL, 2**40, 7)
    assert Report.parsed(report.packed()) == report


def test_the_folder_is_locked_as_long_as_it_is_used(tmp_path: Path) -> None:
    def is_locked() -> bool:
        fd = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    with parent.kept_by_cleaners(str(tmp_path)):
        assert is_locked()
    assert not is_locked()
