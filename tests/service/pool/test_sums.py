"""`/metrics` of several workers."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.metrics import Metrics
from service.pool.sums import Sums


def values(text: bytes) -> dict[tuple[str, ...], float]:
    """Samples by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@asynccontextmanager
async def worker(
    folder: Path, index: int, n_streams: int, *, n_chunks: int = 7
) -> AsyncIterator[Sums]:
    """One that has `n_streams` open and told as many segments; what the store last told it."""
    metrics = Metrics()
    metrics.ready.set(1)
    metrics.sessions.set(n_streams)
    metrics.load.set(n_streams / 10)
    metrics.jobs.totals = {"chunks": n_chunks}
    for _ in range(n_streams):
        metrics.segments.labels("happy", "none").inc()
        metrics.lag_s.observe(0.001)
    sums = Sums(metrics, folder, index, 2)
    await sums.start()
    try:
        yield sums
    finally:
        await sums.stop()


async def test_counts_add_up_and_what_is_no_count_does_not(tmp_path: Path) -> None:
    async with worker(tmp_path, 0, 2) as one, worker(tmp_path, 1, 4) as other:
        for asked in (one, other):
            told = values(await asked.exposition())
            assert told["glrf_sessions",] == 6
            assert told["glrf_segments_total", "none", "happy"] == 6
            assert told["glrf_lag_seconds_bucket", "0.005"] == 6
            assert told["glrf_lag_seconds_count",] == 6
            assert told["glrf_ready",] == 1
            assert abs(told["glrf_load",] - 0.3) < 1e-9  # of the capacity of both
            assert told["glrf_jobs_chunks_total",] == 7  # the store's, not the workers'
            assert told["glrf_workers", "answering"] == 2
            assert told["glrf_workers", "missing"] == 0


async def test_of_the_store_the_one_that_is_asked_speaks_alone(tmp_path: Path) -> None:
    async with worker(tmp_path, 1, 1, n_chunks=50):
        pass  # it died when there was more
    async with (
        worker(tmp_path, 0, 1, n_chunks=3) as asked,
        worker(tmp_path, 1, 1, n_chunks=9) as follower,  # asked long ago
    ):
        assert values(await asked.exposition())["glrf_jobs_chunks_total",] == 3
        assert values(await follower.exposition())["glrf_jobs_chunks_total",] == 9


async def test_the_sum_has_the_form_of_one(tmp_path: Path) -> None:
    async with worker(tmp_path, 0, 1) as one, worker(tmp_path, 1, 1):
        both = (await one.exposition()).decode().splitlines()
    alone = Metrics().exposition().decode().splitlines()
    heads = [line for line in alone if line.startswith("#")]
    assert [line for line in both if line.startswith("#")] == heads


async def test_no_counter_goes_back_when_a_worker_dies_and_another_follows(tmp_path: Path) -> None:
    async with worker(tmp_path, 0, 1) as one:
        async with worker(tmp_path, 1, 4):
            assert values(await one.exposition())["glrf_segments_total", "none", "happy"] == 5
        dead = values(await one.exposition())
        assert dead["glrf_segments_total", "none", "happy"] == 5
        assert dead["glrf_sessions",] == 1  # what it had open is no more
        async with worker(tmp_path, 1, 2) as follower:
            for asked in (one, follower):
                told = values(await asked.exposition())
                assert told["glrf_segments_total", "none", "happy"] == 7
                assert told["glrf_sessions",] == 3


async def test_one_that_stands_still_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.pool.sums._TIMEOUT_S", 0.5)
    async with worker(tmp_path, 0, 1) as one:
        async with worker(tmp_path, 1, 4):
            pass
        (tmp_path / "1.metrics").unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(tmp_path / "1.metrics"))
            silent.listen()
            told = values(await asyncio.wait_for(one.exposition(), 10))
        assert told["glrf_segments_total", "none", "happy"] == 5


async def test_who_does_not_answer_is_missing(tmp_path: Path) -> None:
    async with worker(tmp_path, 0, 2) as one:
        told = values(await one.exposition())
        assert (told["glrf_workers", "answering"], told["glrf_workers", "missing"]) == (1, 1)
        async with worker(tmp_path, 1, 4):
            pass
        told = values(await one.exposition())
        assert (told["glrf_workers", "answering"], told["glrf_workers", "missing"]) == (1, 1)


async def test_where_nothing_can_be_written_the_figures_are_told_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with worker(tmp_path, 0, 2) as one:
        await one.exposition()
        monkeypatch.setattr(Path, "write_bytes", full)
        for _ in range(2):
            assert values(await one.exposition())["glrf_sessions",] == 2
        assert len(caplog.records) == 1  # one line, not one a scrape
        async with worker(tmp_path, 1, 4):  # one that begins meanwhile serves
            assert values(await one.exposition())["glrf_workers", "answering"] == 1
    assert "No space left" in caplog.text
