"""Readers that are slow or none, and that give up or are ended while a stream is mended."""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from glrf_client import (
    Backoff,
    ConnectionState,
    Event,
    Flush,
    Session,
    SessionClosed,
    SessionCreated,
    StreamClosed,
    StreamRefused,
    connect,
)
from tests.clients.resuming_server import RATE_HZ, ResumingServer, abort, golden
from tests.clients.test_resume import AUDIO, FAST, Timeline, chunks, timeline_of, unbroken
from tests.clients.test_session import CLOSED, CREATED, Echo, collect, server

__all__ = ["unbroken"]  # a fixture


@dataclass
class SlowServer(ResumingServer):
    """Takes its time for each handshake after the first, and counts them and connections."""

    n_asked: int = 0
    n_open: int = 0
    is_asked_again: asyncio.Event = field(default_factory=asyncio.Event)

    async def _serve(self, connection: ServerConnection) -> None:
        self.n_open += 1
        try:
            await super()._serve(connection)
        finally:
            self.n_open -= 1

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.n_asked += 1
        if self.queries:
            self.is_asked_again.set()
            await asyncio.sleep(0.15)
        return await super()._admit(connection, request)


async def test_a_reader_that_gives_up_now_and_then_does_not_end_the_tries(
    unbroken: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the wait, however often it gives up, nor the connection that is being made."""
    monkeypatch.setattr("glrf_client.session._PATIENCE_S", 10.0)
    server = SlowServer(
        breaks=[(20, abort), (1, abort)], refusals=[(503, {"Retry-After": "0.2"})] * 2
    )

    async def send(session: Session) -> None:
        for chunk in chunks():
            await (session.flush() if isinstance(chunk, Flush) else session.send(chunk))
        await session.close()

    began_s = time.monotonic()
    events: list[Event] = []
    async with server.running() as url, asyncio.timeout(10), connect(
        url, sample_rate=RATE_HZ, backoff=FAST
    ) as session:  # fmt: skip
        sender = asyncio.create_task(send(session))
        while not events or not isinstance(events[-1], SessionClosed):
            with contextlib.suppress(TimeoutError):
                events.append(await asyncio.wait_for(anext(session), 0.02))
        await sender
    assert timeline_of(events) == unbroken
    assert time.monotonic() - began_s > 2 * 0.2 + 4 * 0.15
    assert server.n_asked == 1 + 2 + 2


@pytest.mark.parametrize("n_asked", [1, 2], ids=["waiting", "connecting"])
async def test_leaving_while_a_lost_stream_comes_back(n_asked: int) -> None:
    """Its reader ends, and no connection is left or made."""
    server = SlowServer(breaks=[(1, abort)])
    slow = Backoff(first_s=1000, longest_s=1000, give_up_after_s=1e6)
    is_waiting = asyncio.Event()

    def watch(connection: ConnectionState) -> None:
        if connection.state == "waiting":
            is_waiting.set()

    async with server.running() as url, asyncio.timeout(20):
        async with connect(
            url,
            sample_rate=RATE_HZ,
            backoff=FAST if n_asked == 2 else slow,
            on_connection=watch,
        ) as session:
            await session.send(AUDIO)
            assert isinstance(await anext(session), SessionCreated)
            reading = asyncio.ensure_future(anext(session))
            await (server.is_asked_again if n_asked == 2 else is_waiting).wait()
        with pytest.raises(StreamClosed, match="the session was left"):
            await asyncio.wait_for(reading, 1)
        await asyncio.sleep(0.4)
        assert server.n_open == 0
        assert server.n_asked == n_asked


async def test_what_could_not_be_mended_is_told_to_the_next_reader() -> None:
    server = SlowServer(breaks=[(1, abort)], refusals=[(401, {})])
    async with server.running() as url, asyncio.timeout(20), connect(
        url, sample_rate=RATE_HZ, backoff=FAST
    ) as session:  # fmt: skip
        await session.send(AUDIO)
        await anext(session)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(session), 0.1)
        await asyncio.sleep(0.3)
        with pytest.raises(StreamRefused, match="401"):
            await anext(session)
        with pytest.raises(StopAsyncIteration):
            await anext(session)


async def test_what_a_display_raises_ends_the_stream() -> None:
    def fail(state: ConnectionState) -> None:
        if state.state == "waiting":
            raise RuntimeError("no display")

    server = ResumingServer(breaks=[(1, abort)])
    async with server.running() as url, asyncio.timeout(20), connect(
        url, sample_rate=RATE_HZ, on_connection=fail
    ) as session:  # fmt: skip
        await session.send(AUDIO)
        await anext(session)
        with pytest.raises(RuntimeError, match="no display"):
            await anext(session)
        with pytest.raises(StopAsyncIteration):
            await anext(session)


async def test_it_is_told_when_nobody_reads(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glrf_client.session._UNREAD_S", 0.1)

    async def send(session: Session) -> None:
        for _ in range(80):
            await session.send(bytes(32_000))
        await session.close()

    async with server(Echo()) as url, connect(url, max_buffer_bytes=1 << 20) as session:
        sending = asyncio.create_task(send(session))
        await asyncio.sleep(0.4)
        assert not sending.done()
        await collect(aiter(session))
        await sending
    assert [record.getMessage() for record in caplog.records if record.name == "glrf_client"] == [
        "the buffer is full and nobody reads the events: read while sending"
    ]


async def test_who_reads_slowly_reads(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of much audio come at once, and no checkpoint among them."""
    monkeypatch.setattr("glrf_client.session._UNREAD_S", 0.2)
    n_bytes, was_full = 1 << 20, False

    async def late(connection: ServerConnection) -> None:
        nonlocal was_full
        n_left = n_bytes
        await connection.send(CREATED)
        await connection.send(json.dumps(golden("checkpoint", resume_from_ms=0)))
        await connection.send(json.dumps(golden("segment", index=0)))
        async for message in connection:
            if isinstance(message, str):
                await connection.send(CLOSED)
                return
            n_left -= len(message)
            if n_left <= 0 and not was_full:
                was_full = True
                for index in range(1, 60):
                    await connection.send(json.dumps(golden("segment", index=index)))
                end_ms = n_bytes // 16 - 1000
                await connection.send(json.dumps(golden("checkpoint", resume_from_ms=end_ms)))

    async def send(session: Session) -> None:
        await session.send(bytes(n_bytes))
        await session.send(b"ab")
        await session.close()

    async with server(late) as url, connect(
        url, sample_rate=8000, max_buffer_bytes=n_bytes
    ) as session:  # fmt: skip
        await anext(session)
        await anext(session)  # behind the checkpoint
        sending = asyncio.create_task(send(session))
        async for _ in session:
            await asyncio.sleep(0.02)
        await sending
    assert was_full
    assert [record for record in caplog.records if record.name == "glrf_client"] == []
