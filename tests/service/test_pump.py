import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from ser_core.errors import NotReady, Overloaded, SerError
from ser_core.events import Segment, Utterance
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from service.inference.batcher import Batcher
from service.pump import Pump, TimedEvent
from tests.service.running import TIMEOUT_S, FailingBackend, GatedBackend, pcm, until
from tests.synthetic import RATE_HZ, voice

SECOND = pcm(voice(16_000))


@asynccontextmanager
async def pumping(
    backend: GatedBackend | None = None, max_queued: int = 100, *, drops: bool = False
) -> AsyncIterator[tuple[Pump, StreamSession, GatedBackend, Batcher]]:
    backend = backend or GatedBackend()
    async with (
        asyncio.timeout(TIMEOUT_S),
        Batcher(backend, max_batch=2, max_queued=max_queued) as batcher,
    ):
        session = StreamSession(backend.spec, StreamConfig())
        pump = Pump(session, batcher, max_untold=4, drops=drops)
        try:
            yield pump, session, backend, batcher
        finally:
            backend.gate.set()
            pump.cancel()


async def all_events(pump: Pump, leave: int = 0) -> list[TimedEvent]:
    return [timed async for timed in pump.events(leave)]


async def test_events_come_in_order_with_their_timing() -> None:
    async with pumping() as (pump, session, backend, _):
        backend.gate.set()
        for received_s, step in (
            (10.0, lambda: session.receive_audio(SECOND)),  # a segment of 0.8 s
            (11.0, lambda: session.receive_audio(bytes(len(SECOND)) * 3)),  # falls silent
            (12.0, session.close),
        ):
            pump.advance(step, received_s)
        events = await all_events(pump)
        segments = [one for one in events if isinstance(one.event, Segment)]
        assert isinstance(events[-1].event, Utterance)
        assert events[-1].timing is None
        ends = [one.event.end for one in segments if isinstance(one.event, Segment)]
        assert ends == sorted(ends)
        assert [one.timing.received_s for one in segments if one.timing] == [10.0] + [11.0] * 8
        for event, timing in segments:
            assert isinstance(event, Segment)
            assert timing is not None
            assert timing.features_s > 0
            assert (timing.inference_s > 0) == (event.abstain != "no_speech")


async def test_room_waits_for_results_to_be_told() -> None:
    async with pumping() as (pump, session, backend, _):
        for _ in range(3):
            pump.advance(lambda: session.receive_audio(SECOND), 0.0)
        room = asyncio.create_task(pump.room())
        await asyncio.sleep(0)
        assert not room.done()
        backend.gate.set()
        await all_events(pump)
        await room


async def test_leave_does_not_wait_for_the_last() -> None:
    async with pumping() as (pump, session, backend, _):
        pump.advance(lambda: session.receive_audio(SECOND * 2), 0.0)
        assert await all_events(pump, leave=4) == []
        backend.gate.set()
        assert len(await all_events(pump)) == 4


async def test_a_session_that_ends_withdraws_its_segments() -> None:
    async with pumping() as (pump, session, backend, batcher):
        blocker = batcher.submit(np.zeros((198, 13), np.float32))
        await until(lambda: not batcher.n_queued)  # it runs; ours wait
        for _ in range(3):
            pump.advance(lambda: session.receive_audio(SECOND), 0.0)
        pump.cancel()
        backend.gate.set()
        await blocker
        await batcher.stop()
        assert backend.batch_sizes == [1]


async def test_failures_reach_the_session() -> None:
    async with pumping(FailingBackend()) as (pump, session, _, _):
        pump.advance(lambda: session.receive_audio(SECOND), 0.0)
        with pytest.raises(SerError) as caught:
            await all_events(pump)
        assert caught.value.code == "inference_failed"


async def test_a_network_that_does_not_answer_reaches_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.pump._TICK_S", 0.001)

    async with pumping() as (pump, session, _, _):
        pump.advance(lambda: session.receive_audio(SECOND), 0.0)
        with pytest.raises(NotReady, match="does not answer"):
            await all_events(pump)


async def test_a_full_queue_reaches_the_session() -> None:
    async with pumping(max_queued=2) as (pump, session, backend, _):
        with pytest.raises(Overloaded):
            pump.advance(lambda: session.receive_audio(SECOND * 5), 0.0)
        backend.gate.set()
        assert ends_of(await all_events(pump)) == [12_800, 19_200]  # what came before, and no more


def ends_of(events: list[TimedEvent]) -> list[int]:
    return [one.event.end for one in events if isinstance(one.event, Segment)]


async def test_a_session_that_is_behind_gives_up_its_oldest_segments() -> None:
    async with pumping(drops=True) as (pump, session, backend, _):
        hops = [SECOND[start : start + 12_800] for start in range(0, 25_600, 12_800)] * 4
        telling = asyncio.create_task(all_events(pump))
        for n_hops, hop in enumerate(hops):
            await pump.room()  # never waits: there is always one to give up
            pump.advance(lambda hop=hop: session.receive_audio(hop), 0.0)
            await asyncio.sleep(0.02 if n_hops < 2 else 0)  # the first batch begins
        assert pump.n_dropped == 3
        assert pump.take_lateness()
        assert not pump.take_lateness()
        pump.advance(session.close, 0.0)
        backend.gate.set()
        events = [*await telling, *await all_events(pump)]
        ends = ends_of(events)
        assert len(ends) == 7 - pump.n_dropped
        assert ends[0] == 12_800  # its batch ran already
        assert ends[1:] == [38_400, 44_800, 51_200]  # the newest; between them is the gap
        utterance = events[-1].event
        assert isinstance(utterance, Utterance)
        assert utterance.is_final
        assert session.n_awaiting == 0


async def test_a_full_queue_takes_a_segment_and_not_the_session() -> None:
    async with pumping(max_queued=3, drops=True) as (pump, session, backend, _):
        pump.advance(lambda: session.receive_audio(SECOND * 4), 0.0)
        assert pump.n_dropped == 9 - 3
        backend.gate.set()
        ends_s = [end / RATE_HZ for end in ends_of(await all_events(pump))]
        assert ends_s == pytest.approx([3.2, 3.6, 4.0])  # the newest


async def test_lateness_is_news_again_after_it_has_caught_up() -> None:
    async with pumping(drops=True) as (pump, session, backend, _):
        for n_episodes in (1, 2):
            backend.gate.clear()
            for _ in range(6):
                await pump.room()
                pump.advance(lambda: session.receive_audio(SECOND), 0.0)
            assert pump.n_dropped >= n_episodes
            assert pump.take_lateness()
            backend.gate.set()
            await all_events(pump)


async def test_a_segment_that_is_dropped_while_it_is_awaited_does_not_end_the_telling() -> None:
    async with pumping(drops=True) as (pump, session, backend, batcher):
        blockers = [batcher.submit(np.zeros((198, 13), np.float32)) for _ in range(2)]
        await asyncio.sleep(0.02)  # their batch runs; ours waits
        pump.advance(lambda: session.receive_audio(SECOND * 2), 0.0)
        telling = asyncio.create_task(all_events(pump))
        await asyncio.sleep(0)
        await pump.room()
        assert pump.n_dropped == 1
        backend.gate.set()
        assert ends_of(await telling) == [19_200, 25_600, 32_000]
        await asyncio.gather(*blockers)
