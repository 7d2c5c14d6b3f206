import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ser_core.errors import Overloaded, SerError
from ser_core.events import Segment, Utterance
from ser_core.session import StreamConfig, StreamSession
from service.inference.batcher import Batcher
from service.pump import Pump, Told
from tests.service.running import TIMEOUT_S, FailingBackend, GatedBackend, pcm
from tests.synthetic import voice

SECOND = pcm(voice(16_000))


def play(
    script: Callable[[Pump, StreamSession, GatedBackend, Batcher], Awaitable[None]],
    backend: GatedBackend | None = None,
    max_queued: int = 100,
) -> None:
    backend = backend or GatedBackend()

    async def run() -> None:
        async with (
            asyncio.timeout(TIMEOUT_S),
            Batcher(backend, max_batch=2, max_queued=max_queued) as batcher,
        ):
            session = StreamSession(backend.spec, StreamConfig())
            pump = Pump(session, batcher, max_untold=4)
            try:
                await script(pump, session, backend, batcher)
            finally:
                backend.gate.set()
                pump.cancel()

    asyncio.run(run())


async def all_told(pump: Pump, leave: int = 0) -> list[Told]:
    return [told async for told in pump.told(leave)]


def test_events_come_in_order_with_their_timing() -> None:
    async def script(
        pump: Pump, session: StreamSession, backend: GatedBackend, batcher: Batcher
    ) -> None:
        backend.gate.set()
        for received_s, step in (
            (10.0, lambda: session.receive_audio(SECOND)),  # a segment of 0.8 s
            (11.0, lambda: session.receive_audio(bytes(len(SECOND)) * 3)),  # falls silent
            (12.0, session.close),
        ):
            pump.advance(step, received_s)
        told = await all_told(pump)
        segments = [one for one in told if isinstance(one.event, Segment)]
        assert isinstance(told[-1].event, Utterance)
        assert told[-1].timing is None
        ends = [one.event.end for one in segments if isinstance(one.event, Segment)]
        assert ends == sorted(ends)
        assert [one.timing.received_s for one in segments if one.timing] == [10.0] + [11.0] * 8
        for event, timing in segments:
            assert isinstance(event, Segment)
            assert timing is not None
            assert timing.features_s > 0
            assert (timing.inference_s > 0) == (event.abstain != "no_speech")

    play(script)


def test_room_waits_for_results_to_be_told() -> None:
    async def script(
        pump: Pump, session: StreamSession, backend: GatedBackend, batcher: Batcher
    ) -> None:
        for _ in range(3):
            pump.advance(lambda: session.receive_audio(SECOND), 0.0)
        room = asyncio.create_task(pump.room())
        await asyncio.sleep(0)
        assert not room.done()
        backend.gate.set()
        await all_told(pump)
        await room

    play(script)


def test_leave_does_not_wait_for_the_last() -> None:
    async def script(
        pump: Pump, session: StreamSession, backend: GatedBackend, batcher: Batcher
    ) -> None:
        pump.advance(lambda: session.receive_audio(SECOND * 2), 0.0)
        assert await all_told(pump, leave=4) == []
        backend.gate.set()
        assert len(await all_told(pump)) == 4

    play(script)


def test_a_session_that_ends_withdraws_its_segments() -> None:
    async def script(
        pump: Pump, session: StreamSession, backend: GatedBackend, batcher: Batcher
    ) -> None:
        for _ in range(3):
            pump.advance(lambda: session.receive_audio(SECOND), 0.0)
        pump.cancel()
        backend.gate.set()
        await batcher.stop()
        assert backend.batch_sizes == []

    play(script)


def test_failures_reach_the_session() -> None:
    async def script(
        pump: Pump, session: StreamSession, backend: GatedBackend, batcher: Batcher
    ) -> None:
        pump.advance(lambda: session.receive_audio(SECOND), 0.0)
        with pytest.raises(SerError) as caught:
            await all_told(pump)
        assert caught.value.code == "inference_failed"

    play(script, FailingBackend())


def test_a_full_queue_reaches_the_session() -> None:
    async def script(
        pump: Pump, session: StreamSession, backend: GatedBackend, batcher: Batcher
    ) -> None:
        with pytest.raises(Overloaded):
            pump.advance(lambda: session.receive_audio(SECOND * 5), 0.0)

    play(script, max_queued=2)
