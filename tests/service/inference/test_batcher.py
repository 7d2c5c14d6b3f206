import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from ser_core.errors import Overloaded, Restarting, SerError
from ser_core.features import Float32
from service.inference.batcher import Batcher, Scored
from tests import synthetic
from tests.service.running import TIMEOUT_S, FailingBackend, GatedBackend, until


def segments(n: int) -> Float32:
    return np.random.default_rng(n).standard_normal((n, 198, synthetic.N_MFCC), np.float32)


@asynccontextmanager
async def batching(
    backend: GatedBackend | None = None, max_batch: int = 4, max_queued: int = 8
) -> AsyncIterator[tuple[Batcher, GatedBackend]]:
    backend = backend or GatedBackend()
    async with (
        asyncio.timeout(TIMEOUT_S),
        Batcher(backend, max_batch=max_batch, max_queued=max_queued) as batcher,
    ):
        try:
            yield batcher, backend
        finally:
            backend.gate.set()


async def queue_behind(batcher: Batcher, features: Float32) -> "list[asyncio.Future[Scored]]":
    """The first runs (and waits at the gate), the others queue behind it."""
    first = batcher.submit(features[0])
    await until(lambda: not batcher.n_queued)
    return [first, *map(batcher.submit, features[1:])]


async def test_batch_equals_single_and_is_natural() -> None:
    features = segments(6)

    async with batching() as (batcher, backend):
        futures = await queue_behind(batcher, features)
        backend.gate.set()
        scored = await asyncio.gather(*futures)
        singles = np.concatenate([synthetic.logits(row[None]) for row in features])
        np.testing.assert_allclose([s.logits for s in scored], singles, atol=1e-6)
        assert [s.batch_size for s in scored] == [1, 4, 4, 4, 4, 1]
        assert all(s.queue_s >= 0 and s.inference_s > 0 for s in scored)
    assert backend.batch_sizes == [1, 4, 1]


async def test_a_batch_fills_for_a_while_where_segments_come_densely() -> None:
    backend = GatedBackend()
    backend.gate.set()
    async with (
        asyncio.timeout(TIMEOUT_S),
        Batcher(backend, max_batch=8, max_wait_s=0.5) as batcher,
    ):
        features = segments(1)[0]
        await batcher.submit(features)  # alone, and nobody was near: at once
        # The mean gap falls below the wait after some of them.
        await asyncio.gather(*(batcher.submit(features) for _ in range(40)))
        backend.batch_sizes.clear()
        first = batcher.submit(features)
        await asyncio.sleep(0.05)
        assert not first.done()
        await asyncio.gather(first, batcher.submit(features))
    assert backend.batch_sizes == [2]


async def test_a_full_batch_does_not_wait() -> None:
    backend = GatedBackend()
    backend.gate.set()
    async with (
        asyncio.timeout(TIMEOUT_S / 2),
        Batcher(backend, max_batch=4, max_wait_s=TIMEOUT_S) as batcher,
    ):
        features = segments(1)[0]
        await asyncio.gather(*(batcher.submit(features) for _ in range(400)))


async def test_the_loop_goes_on_while_the_network_runs() -> None:
    async with batching() as (batcher, backend):
        future = batcher.submit(segments(1)[0])
        for _ in range(100):
            await asyncio.sleep(0)
        assert not future.done()
        backend.gate.set()
        await future


async def test_a_full_queue_refuses_by_name() -> None:
    async with batching() as (batcher, _):
        await queue_behind(batcher, segments(9))
        with pytest.raises(Overloaded, match="8 segments wait"):
            batcher.submit(segments(1)[0])


async def test_of_several_segments_as_many_are_taken_as_there_is_room_for() -> None:
    async with batching() as (batcher, _):
        await queue_behind(batcher, segments(6))
        assert len(batcher.submit_all(list(segments(5)))) == 3
        assert batcher.submit_all(list(segments(1))) == []


async def test_who_sends_fast_keeps_no_other_waiting() -> None:
    async with batching(max_batch=1, max_queued=20) as (batcher, backend):
        await queue_behind(batcher, segments(1))
        told: list[str] = []

        def submit(flow: str, n_segments: int) -> None:
            for future in batcher.submit_all(list(segments(n_segments)), flow):
                future.add_done_callback(lambda _: told.append(flow))

        submit("fast", 6)
        submit("live", 1)
        submit("file", 4)
        backend.gate.set()
        await until(lambda: len(told) == 11)
        assert told == [*("fast", "live", "file"), *["fast", "file"] * 3, *["fast"] * 2]


async def test_what_was_withdrawn_takes_no_turn() -> None:
    async with batching(max_batch=1, max_queued=20) as (batcher, backend):
        await queue_behind(batcher, segments(1))
        told: list[str] = []
        late = batcher.submit_all(list(segments(5)), "late")
        others = batcher.submit_all(list(segments(5)), "other")
        for name, futures in (("late", late), ("other", others)):
            for future in futures:
                future.add_done_callback(
                    lambda one, name=name: one.cancelled() or told.append(name)
                )
        for future in late[:4]:  # it gives up its oldest, and the newest is not late for that
            assert batcher.withdraw(future)
        backend.gate.set()
        await until(lambda: len(told) == 6)
        assert told[0] == "late"


async def test_segments_that_come_together_are_one_batch() -> None:
    async with batching() as (batcher, backend):
        backend.gate.set()
        for _ in range(50):
            futures = batcher.submit_all(list(segments(3)))
            assert [scored.batch_size for scored in await asyncio.gather(*futures)] == [3, 3, 3]


async def test_withdrawn_work_is_not_run_and_gives_its_place_back() -> None:
    async with batching() as (batcher, backend):
        futures = await queue_behind(batcher, segments(9))
        for future in futures[1:8]:
            future.cancel()
        batcher.submit(segments(1)[0])
        backend.gate.set()
        await futures[8]
    assert backend.batch_sizes == [1, 2]


async def test_what_was_scored_is_not_withdrawn_before_it_is_told() -> None:
    async with batching() as (batcher, backend):
        future = batcher.submit(segments(1)[0])
        backend.gate.set()
        while not backend.batch_sizes:
            time.sleep(0.001)  # noqa: ASYNC251 - the loop must not get to the answer
        time.sleep(0.05)  # noqa: ASYNC251 - the thread has handed it in
        assert not batcher.withdraw(future)
        assert isinstance(await future, Scored)


async def test_a_failure_fails_its_own_batch_only(caplog: pytest.LogCaptureFixture) -> None:
    class FailsOnNan(GatedBackend):
        def score(self, features: Float32) -> Float32:
            if np.isnan(features).any():
                raise ValueError("boom")
            return super().score(features)

    features = segments(6)
    features[5] = np.nan

    async with batching(FailsOnNan()) as (batcher, backend):
        futures = await queue_behind(batcher, features)
        backend.gate.set()
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert all(isinstance(result, Scored) for result in results[:5])
        assert isinstance(results[5], SerError)
        assert results[5].code == "inference_failed"
        assert isinstance(await batcher.submit(features[0]), Scored)
    assert "boom" in caplog.text


async def test_a_failure_after_the_client_left() -> None:
    async with batching(FailingBackend()) as (batcher, _):
        batcher.submit(segments(1)[0]).cancel()


async def test_stop_scores_what_has_queued_and_takes_no_more() -> None:
    backend = GatedBackend()
    batcher = Batcher(backend, max_batch=2)
    batcher.start()
    futures = await queue_behind(batcher, segments(4))
    stopping = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0)
    with pytest.raises(Restarting):
        batcher.submit(segments(1)[0])
    backend.gate.set()
    await stopping
    assert all(isinstance(future.result(), Scored) for future in futures)


async def test_workers_run_side_by_side() -> None:
    backend = GatedBackend()
    async with Batcher(backend, max_batch=1, n_workers=2) as batcher:
        futures = [batcher.submit(row) for row in segments(3)]
        await until(lambda: batcher.n_queued == 1)
        backend.gate.set()
        await asyncio.gather(*futures)


async def test_all_threads_are_ready_before_a_client_comes() -> None:
    class Entered(GatedBackend):
        def __init__(self) -> None:
            super().__init__()
            self.threads: set[str] = set()

        def enter_thread(self) -> None:
            self.threads.add(threading.current_thread().name)

    backend = Entered()
    async with asyncio.timeout(TIMEOUT_S), Batcher(backend, n_workers=3):
        await until(lambda: len(backend.threads) == 3)


async def test_a_thread_that_could_not_be_prepared_scores_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unprepared(GatedBackend):
        def enter_thread(self) -> None:
            raise MemoryError("no buffers")

    async with batching(Unprepared()) as (batcher, backend):
        backend.gate.set()
        assert (await batcher.submit(segments(1)[0])).batch_size == 1
    assert "is not prepared" in caplog.text


class Mendable(GatedBackend):
    """A network that fails until its gate is open."""

    def score(self, features: Float32) -> Float32:
        self.n_begun += 1
        if not self.gate.is_set():
            raise RuntimeError("an illegal memory access was encountered")
        return super().score(features)


async def test_a_network_that_fails_is_asked_until_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.inference.batcher.PROBE_S", 0.001)

    async with batching(Mendable()) as (batcher, backend):
        assert batcher.failing_s == 0
        with pytest.raises(SerError):
            await batcher.submit(segments(1)[0])
        before_s = batcher.failing_s
        assert before_s > 0
        await until(lambda: backend.n_begun > 3)
        assert batcher.failing_s > before_s
        backend.gate.set()
        await until(lambda: batcher.failing_s == 0)
        n_begun = backend.n_begun
        await asyncio.sleep(0.01)
        assert backend.n_begun == n_begun  # and no more


async def test_a_network_that_fails_until_the_end_is_asked_no_more() -> None:
    tasks_before = asyncio.all_tasks()
    async with batching(FailingBackend()) as (batcher, _):
        with pytest.raises(SerError):
            await batcher.submit(segments(1)[0])
        await batcher.stop()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks_before
