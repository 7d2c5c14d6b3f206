"""The client against a scripted server: what it sends, and how each ending reaches the caller."""

import asyncio
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from glrf_client import (
    FLUSH,
    Backoff,
    ClientError,
    ErrorFrame,
    Event,
    Flush,
    Segment,
    SessionClosed,
    SessionCreated,
    StreamClosed,
    StreamError,
    StreamRefused,
    Unreachable,
    connect,
    stream,
)
from glrf_client.recovery import is_mendable
from tests.service.webhooks.receiver import certificate

CONTRACT = Path(__file__).parents[2] / "clients" / "contract"
CREATED, SEGMENT, ERROR, CLOSED = (
    (CONTRACT / f"server.{name}.json").read_text()
    for name in ("session.created", "segment", "error", "session.closed")
)
FATAL = json.dumps(json.loads(ERROR) | {"fatal": True, "code": "overloaded", "retryable": True})
NEVER = Backoff(give_up_after_s=0)
Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler, **options: object) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, **options) as running:  # type: ignore[arg-type]
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"


class Echo:
    """Answers each binary frame with a segment and ends as the contract says; keeps what it got."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.query: dict[str, list[str]] = {}
        self.n_frames = 0

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.query = parse_qs(urlsplit(connection.request.path).query)
        await connection.send(CREATED)
        async for message in connection:
            self.messages.append(message)
            if isinstance(message, bytes):
                await connection.send(json.dumps(json.loads(SEGMENT) | {"index": self.n_frames}))
                self.n_frames += 1
            elif json.loads(message)["type"] == "close":
                await connection.send('{"type": "news", "of": "a later version"}')
                await connection.send(CLOSED)
                return


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


def deaf(is_over: asyncio.Event) -> Handler:
    """A server that greets, and reads nothing until it is over."""

    async def handle(connection: ServerConnection) -> None:
        await connection.send(CREATED)
        await is_over.wait()
        connection.transport.abort()

    return handle


async def test_a_stream_from_opening_to_closing() -> None:
    echo = Echo()
    async with server(echo) as url, connect(
        url, encoding="mulaw", sample_rate=8000, channels=2, roles=["customer", "agent:off"],
        on_overload="drop_oldest",
    ) as session:  # fmt: skip
        await session.send(b"\x01\x02")
        await session.keepalive()
        await session.flush()
        await session.close()
        events = await collect(aiter(session))
    assert [type(event) for event in events] == [SessionCreated, Segment, SessionClosed]
    # A keepalive belongs to the connection and overtakes what waits to be written.
    echo.messages.remove('{"type": "keepalive"}')
    assert echo.messages == [b"\x01\x02", '{"type": "flush"}', '{"type": "close"}']
    assert echo.query == {
        "encoding": ["mulaw"],
        "sample_rate": ["8000"],
        "channels": ["2"],
        "roles": ["customer,agent:off"],
        "on_overload": ["drop_oldest"],
    }


async def test_stream_sends_and_reads_at_once() -> None:
    echo = Echo()
    async with server(echo) as url:
        events = await collect(stream(url, [b"ab", FLUSH, b"cd"]))
    assert len(events) == 4

    assert echo.messages == [b"ab", '{"type": "flush"}', b"cd", '{"type": "close"}']


async def test_a_long_chunk_is_split_below_the_limit() -> None:
    echo = Echo()
    audio = bytes(range(256)) * 5000  # 1.28 MB
    async with server(echo) as url:
        await collect(stream(url, [audio]))
    frames = [message for message in echo.messages if isinstance(message, bytes)]
    assert b"".join(frames) == audio
    assert max(map(len, frames)) <= 1 << 20
    assert all(len(frame) % 8 == 0 for frame in frames)


async def test_a_server_that_does_not_read_stops_the_chunks() -> None:
    n_drawn = 0

    def endless() -> Iterator[bytes]:
        nonlocal n_drawn
        while True:
            n_drawn += 1
            yield bytes(64_000)

    is_over = asyncio.Event()

    async with server(deaf(is_over), max_queue=1) as url:
        events = stream(url, endless(), backoff=NEVER)
        await anext(events)
        reading = asyncio.ensure_future(anext(events))
        n_before = -1
        while n_drawn > n_before:  # until the sender waits
            n_before = n_drawn
            await asyncio.wait((reading,), timeout=0.2)
        is_over.set()
        with pytest.raises(StreamClosed) as closed:
            await reading
        assert closed.value.code == 1006
    assert n_drawn < 1000  # 64 MB; what the kernel's buffers take is far below


async def test_a_refusal_carries_the_problem() -> None:
    problem = (CONTRACT / "rest.problem.json").read_bytes()

    def refuse(connection: ServerConnection, request: Request) -> Response:
        response = connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "")
        response.headers["Retry-After"] = "2"
        del response.headers["Content-Length"]
        response.headers["Content-Length"] = str(len(problem))
        response.body = problem
        return response

    with pytest.raises(StreamRefused) as refused:
        async with server(Echo(), process_request=refuse) as url, connect(url):
            pass
    assert refused.value.status == 503
    assert refused.value.code == "bad_parameter"
    assert refused.value.retry_after_s == 2


async def test_a_refusal_without_a_problem_document() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.BAD_GATEWAY, "<h1>bad gateway</h1>")

    with pytest.raises(StreamRefused, match="bad gateway") as refused:
        async with server(Echo(), process_request=refuse) as url, connect(url):
            pass
    assert refused.value.code is None
    assert refused.value.retry_after_s is None


@pytest.mark.parametrize(
    ("location", "told"),
    [("ws://127.0.0.1:{}/x?state=secret", "ws://127.0.0.1:{}/x"), ("/v2/stream", "/v2/stream")],
)
async def test_no_redirect_is_followed(location: str, told: str) -> None:
    """The key and the caller's headers are for the host that was named."""
    echo = Echo()
    async with server(echo) as other:
        port = other.rpartition(":")[2]

        def redirect(connection: ServerConnection, request: Request) -> Response:
            response = connection.respond(HTTPStatus.FOUND, "")
            response.headers["Location"] = "/earlier"
            response.headers["Location"] = location.format(port)
            return response

        async with server(Echo(), process_request=redirect) as url:
            with pytest.raises(StreamRefused) as refused:
                async with connect(url, api_key="the-secret", headers={"X-Key": "the-secret"}):
                    pass
    assert refused.value.status == 302
    assert f"a redirect to {told.format(port)}, which is not followed" in str(refused.value)
    assert "secret" not in str(refused.value)
    assert not is_mendable(refused.value)
    assert echo.messages == []
    assert echo.query == {}


async def test_no_server() -> None:
    with socket.socket() as held:  # bound, not listening: nobody else gets the port
        held.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{held.getsockname()[1]}"

        with pytest.raises(Unreachable, match=url):
            async with connect(url):
                pass


async def test_a_certificate_that_is_not_accepted(tmp_path: Path) -> None:
    """That of a private CA, or of any while the clock is wrong, which may mend itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))

    with pytest.raises(Unreachable, match="a certificate was not accepted") as error:
        async with server(Echo(), ssl=context) as url, connect(url.replace("ws:", "wss:")):
            pass
    assert isinstance(error.value.__cause__, ssl.SSLCertVerificationError)
    assert is_mendable(error.value)


def scripted(*frames: str, code: int, reason: str = "") -> Handler:
    async def handler(connection: ServerConnection) -> None:
        for frame in frames:
            await connection.send(frame)
        await connection.close(code, reason)

    return handler


async def read(handler: Handler) -> tuple[list[Event], Exception | None]:
    events: list[Event] = []
    async with server(handler) as url:
        try:
            async for event in stream(url, [b"ab"] * 3, backoff=NEVER):
                events.append(event)
        except (StreamClosed, StreamError) as error:
            return events, error
    return events, None


async def test_a_fatal_error_is_raised_whatever_the_sender_meets() -> None:
    events, error = await read(scripted(CREATED, FATAL, code=1013))
    assert len(events) == 1
    assert isinstance(error, StreamError)
    assert error.code == "overloaded"
    assert error.retryable


async def test_an_error_that_is_not_fatal_is_an_event() -> None:
    events, error = await read(scripted(CREATED, ERROR, CLOSED, code=1000))
    assert error is None
    assert isinstance(events[1], ErrorFrame)
    assert events[1].code == "odd_frame"


@pytest.mark.parametrize(("code", "reason"), [(1012, "restarting"), (1000, ""), (4415, "WAV")])
async def test_a_close_without_session_closed_is_raised(code: int, reason: str) -> None:
    events, error = await read(scripted(CREATED, code=code, reason=reason))
    assert len(events) == 1
    assert isinstance(error, StreamClosed)
    assert (error.code, error.reason) == (code, reason)


async def test_an_error_of_the_chunks_is_raised() -> None:
    def chunks() -> Iterator[bytes | Flush]:
        yield b"ab"
        raise OSError("the microphone is gone")

    with pytest.raises(OSError, match="the microphone is gone"):
        async with server(Echo()) as url:
            await collect(stream(url, chunks()))


async def test_stopping_early_stops_the_sender_and_closes() -> None:
    tasks_before = asyncio.all_tasks()
    has_left = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await connection.send(CREATED)
        async for _ in connection:
            pass
        has_left.set()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"ab"
        await asyncio.Event().wait()

    async with server(handler) as url:
        async with aclosing(stream(url, waiting())) as events:
            async for _ in events:
                break
        await asyncio.wait_for(has_left.wait(), 5)
    assert asyncio.all_tasks() == tasks_before


async def test_leaving_a_server_that_does_not_read_takes_half_a_second() -> None:
    """The goodbye does not fit in a full socket."""
    is_over = asyncio.Event()

    async with server(deaf(is_over), max_queue=1) as url:
        async with connect(url) as session:
            await anext(session)
            # By itself the session sends no more than a few seconds that are not taken.
            connection = session._connection
            assert connection is not None
            filling = [asyncio.create_task(connection.send(bytes(64_000))) for _ in range(100)]
            await asyncio.sleep(0.5)
            assert connection.is_backed_up
            began_s = time.monotonic()
        took_s = time.monotonic() - began_s
        is_over.set()
        await asyncio.gather(*filling, return_exceptions=True)
    assert took_s < 0.9


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_nothing_is_taken_once_the_session_was_left(is_waiting: bool) -> None:
    async with server(Echo()) as url:
        async with connect(url, max_buffer_bytes=1 << 20) as session:
            if is_waiting:
                # Nobody reads how much may be sent: 5 s go, then the buffer fills.
                await session.send(bytes(2 << 20))
                sending = asyncio.create_task(session.send(b"ab"))
                await asyncio.sleep(0.1)
                assert not sending.done()
        with pytest.raises(StreamClosed, match="the session was left"):
            await asyncio.wait_for(sending if is_waiting else session.send(b"ab"), 2)


async def test_two_readers_are_one_too_many() -> None:
    async with server(Echo()) as url, connect(url) as session:
        await anext(session)
        reading = asyncio.ensure_future(anext(session))
        await asyncio.sleep(0)
        try:
            with pytest.raises(ClientError, match="by one task at a time"):
                await anext(session)
            await session.send(b"ab")
            assert isinstance(await reading, Segment)
        finally:
            reading.cancel()


async def test_a_muted_stream_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glrf_client.session._KEEPALIVE_S", 0.05)
    echo = Echo()
    async with server(echo) as url, connect(url) as session:
        await asyncio.sleep(0.3)
        await session.send(b"ab")
        await session.close()
        await collect(aiter(session))
    assert 3 <= echo.messages.count('{"type": "keepalive"}') <= 6
    assert echo.messages[-2:] == [b"ab", '{"type": "close"}']


async def test_half_a_sample_at_the_end_is_a_frame_of_its_own() -> None:
    """The server ignores the frame that it is in."""
    echo = Echo()
    async with server(echo) as url:
        await collect(stream(url, [b"ab", b"cd", b"ef", b"g"]))
    assert b"".join(echo.messages[:-2]) == b"abcdef"  # type: ignore[arg-type]
    assert echo.messages[-2:] == [b"g", '{"type": "close"}']


@pytest.mark.parametrize("encoding", ["pcm_s16le", "opus"])
async def test_a_buffer_may_be_filled_again_once_it_was_taken(encoding: str) -> None:
    echo = Echo()
    async with server(echo) as url, connect(url, encoding=encoding) as session:
        buffer = bytearray(b"\xf8\xff\xfe\x00")
        await session.send(buffer)
        buffer[:] = bytes(4)
        await session.flush()
        await session.send(memoryview(b"\x08\x09"))
        await session.close()
        await collect(aiter(session))
        with pytest.raises(TypeError):
            await session.send("text")  # type: ignore[arg-type]
    frames = [message for message in echo.messages if isinstance(message, bytes)]
    assert frames == [b"\xf8\xff\xfe\x00", b"\x08\x09"]
