"""Lines that are slow, which are kept, and lines that are dead, which are not."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.server import ServerConnection

from glrf_client import ConnectionState, Event, SessionClosed, connect, stream
from tests.chaos.proxy import Proxy
from tests.clients.resuming_server import RATE_HZ, ResumingServer
from tests.clients.test_resume import AUDIO, FAST, Timeline, chunks, timeline_of, unbroken
from tests.clients.test_session import CLOSED, CREATED, server

__all__ = ["unbroken"]  # a fixture


@contextlib.asynccontextmanager
async def slow_line(url: str, up_bytes_s: float) -> AsyncIterator[str]:
    """The server behind a line on which so much goes up a second, and down as much as there is."""

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bytes_s: float | None
    ) -> None:
        while data := await reader.read(1024):
            await asyncio.sleep(0.0 if bytes_s is None else len(data) / bytes_s)
            writer.write(data)
            await writer.drain()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        ways = (carry(reader, there[1], up_bytes_s), carry(there[0], writer, None))
        tasks = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in (writer, there[1]):
            end.transport.abort()

    async with await asyncio.start_server(join, "127.0.0.1", 0) as relay:
        yield f"ws://127.0.0.1:{relay.sockets[0].getsockname()[1]}"


@pytest.fixture
def states() -> list[ConnectionState]:
    return []


def is_unbroken(states: list[ConnectionState]) -> bool:
    return [state.state for state in states] == ["live", "closed"]


async def test_results_keep_a_slow_line(
    unbroken: Timeline, states: list[ConnectionState], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its buffers take the whole stream at once, and 4 s to empty."""
    monkeypatch.setattr("glrf_client.flight._PING_S", 0.1)
    monkeypatch.setattr("glrf_client.flight._QUIET_S", 1.5)
    async with (
        ResumingServer().running() as url,
        slow_line(url, len(AUDIO) / 4) as slow,
        asyncio.timeout(60),
    ):
        events = stream(
            slow,
            list(chunks()),
            sample_rate=RATE_HZ,
            backoff=FAST,
            stall_s=1.5,
            on_connection=states.append,
        )
        assert timeline_of([event async for event in events]) == unbroken
    assert is_unbroken(states)


async def test_results_are_owed_once_the_audio_has_arrived(
    states: list[ConnectionState], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is heard for the first time at its end: pongs alone come meanwhile."""
    monkeypatch.setattr("glrf_client.flight._QUIET_S", 2.0)
    audio = AUDIO[: RATE_HZ * 2 * 4]

    async def silent(connection: ServerConnection) -> None:
        await connection.send(CREATED)
        async for message in connection:
            if isinstance(message, str) and json.loads(message)["type"] == "close":
                await connection.send(CLOSED)
                return

    async with (
        server(silent) as url,
        slow_line(url, len(audio) / 3) as slow,
        asyncio.timeout(60),
    ):
        events = stream(
            slow,
            [audio],
            sample_rate=RATE_HZ,
            backoff=FAST,
            stall_s=1.0,
            on_connection=states.append,
        )
        assert isinstance([event async for event in events][-1], SessionClosed)
    assert is_unbroken(states)


@pytest.mark.parametrize("n_before", [0, 60])
async def test_a_dead_line_is_left(
    n_before: int, unbroken: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing is sent, and while audio is; nobody waits for a result that is owed."""
    monkeypatch.setattr("glrf_client.flight._PING_S", 0.1)
    monkeypatch.setattr("glrf_client.flight._QUIET_S", 0.5)
    monkeypatch.setattr("glrf_client.session._WATCH_S", 0.01)
    scripted = ResumingServer()
    async with (
        scripted.running() as url,
        Proxy(lambda: [int(url.rpartition(":")[2])]) as proxy,
        connect(
            proxy.url, sample_rate=RATE_HZ, backoff=FAST, stall_s=1000.0
        ) as session,
        asyncio.timeout(30),
    ):  # fmt: skip
        events: list[Event] = [await anext(session)]
        audio = list(chunks())
        for chunk in audio[:n_before]:
            await (session.send(chunk) if isinstance(chunk, bytes) else session.flush())
        for line in proxy.lines:
            line.suffer("black_hole")
        while len(scripted.queries) < 2:
            with contextlib.suppress(TimeoutError):
                events.append(await asyncio.wait_for(anext(session), 0.1))
        for chunk in audio[n_before:]:
            await (session.send(chunk) if isinstance(chunk, bytes) else session.flush())
        await session.close()
        assert timeline_of(events + [event async for event in session]) == unbroken
    assert len(scripted.queries) == 2
