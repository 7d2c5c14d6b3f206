import asyncio
import base64
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from benchmarks.streams import (
    CHUNK_BYTES,
    WINDOW_BYTES,
    PostStream,
    Stage,
    WebSocketStream,
    clip_pcm,
    json_field,
    raw,
    run_stage,
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


def post_stage(respond: Respond, n_streams: int, n_windows: int) -> Stage:
    async def run() -> Stage:
        async with http_server(respond) as url:
            return await run_stage(
                lambda index, n: PostStream.open(url, raw, index, n),
                n_streams,
                n_windows,
                lambda: 0.0,
            )

    return asyncio.run(run())


def test_each_window_is_posted_and_its_lag_counted_from_when_it_was_due() -> None:
    bodies: list[bytes] = []

    async def respond(body: bytes) -> bytes:
        bodies.append(body)
        await asyncio.sleep(0.05)
        return answer(b"{}")

    stage = post_stage(respond, n_streams=2, n_windows=3)
    assert stage.n_due == len(stage.lags_ms) == len(bodies) == 6
    assert {len(body) for body in bodies} == {WINDOW_BYTES}
    assert len(set(bodies)) == 6  # another place of the clip each
    assert 50 <= stage.lag_ms(0.5) < 400
    assert not stage.is_hopeless
    assert stage.fault is None


def test_a_refused_window_is_missing_and_the_next_is_sent() -> None:
    n_seen = 0

    async def respond(body: bytes) -> bytes:
        nonlocal n_seen
        n_seen += 1
        return answer(b"busy", "503 Service Unavailable") if n_seen == 1 else answer(b"{}")

    stage = post_stage(respond, n_streams=1, n_windows=3)
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

    stage = post_stage(respond, n_streams=2, n_windows=100)  # 40 s
    assert stage.is_hopeless
    assert stage.lags_ms == []


def test_streams_that_cannot_open_are_missing() -> None:
    async def refused(index: int, n_streams: int) -> PostStream:
        return await PostStream.open("http://127.0.0.1:1/", raw, index, n_streams)

    stage = asyncio.run(run_stage(refused, 2, 3, lambda: 0.0))
    assert stage.n_missing == 6
    assert stage.fault is not None
    assert "ConnectionRefused" in stage.fault


def test_cpu_time_is_of_whole_hops_a_stream() -> None:
    async def respond(body: bytes) -> bytes:
        return answer(b"{}")

    async def run() -> Stage:
        read = iter([1.0, 1.5])
        async with http_server(respond) as url:
            return await run_stage(
                lambda index, n: PostStream.open(url, raw, index, n), 2, 4, lambda: next(read)
            )

    stage = asyncio.run(run())
    # Half a second of CPU time in three hops, 1.2 s, of two streams.
    assert stage.cpu_ms == pytest.approx(1000 * 0.5 / (2 * 1.2), rel=0.1)


def test_a_websocket_gets_chunks_in_real_time_and_whole_segments_count() -> None:
    chunks: list[bytes] = []

    async def connected(websocket: ServerConnection) -> None:
        await websocket.send(json.dumps({"type": "session.created"}))
        n_ms = 0
        async for chunk in websocket:
            assert isinstance(chunk, bytes)
            chunks.append(chunk)
            n_ms += 100
            if n_ms >= 800 and n_ms % 400 == 0:
                told = {"type": "segment", "end_ms": n_ms, "partial": n_ms < 2000}
                await websocket.send(json.dumps(told))

    async def run() -> Stage:
        async with serve(connected, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            url = f"ws://127.0.0.1:{port}/"
            return await run_stage(
                lambda index, n: WebSocketStream.open(url, index, n), 1, 3, lambda: 0.0
            )

    stage = asyncio.run(run())
    assert stage.n_due == len(stage.lags_ms) == 3
    assert stage.lag_ms(1.0) < 400
    assert 28 <= len(chunks) <= 31  # the last few may not be received when the stage ends
    assert b"".join(chunks) == clip_pcm()[: len(chunks) * CHUNK_BYTES]


def test_an_error_frame_ends_the_stream_with_its_message() -> None:
    async def connected(websocket: ServerConnection) -> None:
        await websocket.send(json.dumps({"type": "error", "message": "overloaded, come again"}))
        async for _ in websocket:
            pass

    async def run() -> Stage:
        async with serve(connected, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"
            return await run_stage(
                lambda index, n: WebSocketStream.open(url, index, n), 1, 2, lambda: 0.0
            )

    stage = asyncio.run(run())
    assert stage.n_missing == 2
    assert stage.fault is not None
    assert "come again" in stage.fault


def test_json_bodies_hold_the_window_in_base64() -> None:
    content_type, body = json_field("audio")(b"\x01\x02")
    assert content_type == "application/json"
    assert base64.b64decode(json.loads(body)["audio"]) == b"\x01\x02"
    _, body = json_field("windows", is_list=True)(b"\x01\x02")
    assert [base64.b64decode(text) for text in json.loads(body)["windows"]] == [b"\x01\x02"]
