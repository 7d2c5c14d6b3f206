import asyncio
import base64
import json
import math
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.streams import (
    CHUNK_BYTES,
    WINDOW_BYTES,
    PostConnection,
    Stage,
    json_field,
    post_stage,
    raw,
    websocket_stage,
)

Respond = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def http_server(respond: Respond) -> AsyncIterator[str]:
    """A server of POST that gives `respond` each body; what comes back is the whole answer."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.partition("Content-Length: ")[2].partition("\r\n")[0])
                writer.write(await respond(await reader.readexactly(length)))
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass  # the client has closed
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/score"


def answer(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def posted(
    respond: Respond,
    n_streams: int,
    n_windows: int,
    server_cpu_s: Callable[[], float] = lambda: 0.0,
) -> Stage:
    """A stage against that server, which runs in a thread of its own."""
    with in_thread(http_server(respond)) as url:
        return post_stage(url, raw, n_streams, n_windows, server_cpu_s)


@contextmanager
def in_thread(server: AbstractAsyncContextManager[str]) -> Iterator[str]:
    """Runs a server on an event loop of its own; yields its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        ended = server.__aexit__(None, None, None)
        asyncio.run_coroutine_threadsafe(ended, loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_others(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@asynccontextmanager
async def websocket_server(
    connected: Callable[[ServerConnection], Awaitable[None]],
) -> AsyncIterator[str]:
    async with serve(connected, "127.0.0.1", 0, close_timeout=0.1) as server:
        yield f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


def test_each_window_is_posted_and_its_lag_counted_from_when_it_was_due() -> None:
    bodies: list[bytes] = []

    async def respond(body: bytes) -> bytes:
        bodies.append(body)
        await asyncio.sleep(0.05)
        return answer(b"{}")

    stage = posted(respond, n_streams=2, n_windows=3)
    assert stage.n_due == len(stage.lags_ms) == len(bodies) == 6
    assert {len(body) for body in bodies} == {WINDOW_BYTES}
    assert len(set(bodies)) == 6  # another place of the clip each
    assert 50 <= stage.lag_ms(0.5) < 400
    assert not stage.is_hopeless
    assert stage.fault is None


async def test_answers_may_come_in_chunks() -> None:
    async def respond(body: bytes) -> bytes:
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        return head + b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"

    with in_thread(http_server(respond)) as url:
        connection = await PostConnection.open(url, raw)
        answers = [await connection.post(bytes(WINDOW_BYTES)) for _ in range(2)]
        connection.close()
    assert answers == [b"abc0123456789"] * 2


def test_a_refused_window_is_missing_and_the_next_is_sent() -> None:
    n_seen = 0

    async def respond(body: bytes) -> bytes:
        nonlocal n_seen
        n_seen += 1
        return answer(b"busy", "503 Service Unavailable") if n_seen == 1 else answer(b"{}")

    stage = posted(respond, n_streams=1, n_windows=3)
    assert (stage.n_missing, len(stage.lags_ms)) == (1, 2)
    assert stage.fault is not None
    assert "503" in stage.fault
    assert "busy" in stage.fault
    assert stage.lag_ms(0.99) == math.inf
    assert stage.lag_ms(0.5) < 400


def test_a_stage_whose_server_answers_no_more_is_broken_off() -> None:
    async def respond(body: bytes) -> bytes:
        await asyncio.sleep(60)
        return answer(b"{}")

    stage = posted(respond, n_streams=2, n_windows=100)  # 40 s
    assert stage.is_hopeless
    assert stage.lags_ms == []


def test_streams_that_cannot_open_are_missing() -> None:
    stage = post_stage("http://127.0.0.1:1/", raw, 2, 2, lambda: 0.0)
    assert stage.n_missing == 4
    assert stage.fault is not None
    assert "127.0.0.1" in stage.fault
    stage = websocket_stage("http://127.0.0.1:1", 2, 2, lambda: 0.0)
    assert stage.n_missing == 4
    assert stage.is_hopeless
    assert stage.fault is not None


def test_cpu_time_is_of_whole_hops_a_stream() -> None:
    async def respond(body: bytes) -> bytes:
        return answer(b"{}")

    read = iter([1.0, 1.5])
    stage = posted(respond, 2, 4, lambda: next(read))
    # Half a second of CPU time in three hops, 1.2 s, of two streams.
    assert stage.cpu_ms == pytest.approx(1000 * 0.5 / (2 * 1.2), rel=0.1)


def test_websockets_get_chunks_in_real_time_and_answers_count_by_their_end() -> None:
    heard: list[bytes] = []

    async def connected(websocket: ServerConnection) -> None:
        await websocket.send(json.dumps({"type": "session.created"}))
        n_ms = 0
        async for chunk in websocket:
            assert isinstance(chunk, bytes)
            heard.append(chunk)
            n_ms += 100
            if n_ms >= 2000 and n_ms % 400 == 0:
                await asyncio.sleep(0.05)
                await websocket.send(json.dumps({"type": "segment", "end_ms": n_ms}))

    read = iter([1.0, 1.5])
    with in_thread(websocket_server(connected)) as url:
        stage = websocket_stage(url, 2, 2, lambda: next(read))
    # Two hops of two streams; where a hop begins and ends, one more or less may be due.
    assert 3 <= stage.n_due <= 5
    assert stage.n_missing == 0
    assert 50 <= stage.lag_ms(0.5) < 400
    assert stage.cpu_ms == pytest.approx(1000 * 0.5 / (2 * 0.8), rel=0.1)
    assert not stage.is_hopeless
    assert stage.fault is None
    assert {len(chunk) for chunk in heard} == {CHUNK_BYTES}


def test_a_websocket_server_that_answers_no_more_is_hopeless(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.streams._GRACE_S", 0.1)

    async def connected(websocket: ServerConnection) -> None:
        async for _ in websocket:
            pass

    with in_thread(websocket_server(connected)) as url:
        stage = websocket_stage(url, 1, 7, lambda: 0.0)
    assert stage.is_hopeless
    assert stage.n_missing == stage.n_due
    assert stage.lag_ms(0.5) == math.inf


def test_a_stream_that_the_server_ends_is_told_with_its_last_words() -> None:
    async def connected(websocket: ServerConnection) -> None:
        await websocket.send(json.dumps({"type": "error", "message": "overloaded, come again"}))

    with in_thread(websocket_server(connected)) as url:
        stage = websocket_stage(url, 2, 2, lambda: 0.0)
    assert stage.is_hopeless
    assert stage.fault is not None
    assert "come again" in stage.fault


def test_json_bodies_hold_the_window_in_base64() -> None:
    content_type, body = json_field("audio")(b"\x01\x02")
    assert content_type == "application/json"
    assert base64.b64decode(json.loads(body)["audio"]) == b"\x01\x02"
    _, body = json_field("windows", is_list=True)(b"\x01\x02")
    assert [base64.b64decode(text) for text in json.loads(body)["windows"]] == [b"\x01\x02"]
