"""A stream of audio to the server, and its events back, over one WebSocket.

    async with connect("ws://127.0.0.1:8000", encoding="mulaw", sample_rate=8000) as stream:
        await stream.send(audio)
        await stream.close()
        async for event in stream:
            ...

Whoever sends for long must read meanwhile: the server drops a client that does not read.
`stream_audio` does both at once.
"""

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from typing import Final, final

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from glrf_client.address import is_loopback, stream_url
from glrf_client.errors import (
    BadServerMessage,
    StreamClosed,
    StreamError,
    StreamRefused,
    Unreachable,
)
from glrf_client.events import ErrorFrame, Event, SessionClosed, parse_event
from glrf_client.problem import problem_from

#: Frames are never larger on the wire than the contract's 1 MiB; longer chunks are split here.
MAX_FRAME_BYTES: Final = 1 << 20
#: A common multiple of every sample frame (1, 2, 4 or 8 bytes) below the limit.
_SPLIT_BYTES: Final = 1 << 19
#: Server messages kept unread before the connection stops reading: seven minutes of segments.
_MAX_UNREAD: Final = 1024


@final
class Flush:
    """Between chunks of `stream_audio`: end the utterance here."""


FLUSH: Final = Flush()


@asynccontextmanager
async def connect(
    url: str,
    *,
    encoding: str | None = None,
    sample_rate: int | None = None,
    channels: int | None = None,
    roles: str | Sequence[str] | None = None,
    model: str | None = None,
    endpointing: str | None = None,
    smoothing: str | None = None,
    hysteresis: float | None = None,
    min_dwell_ms: int | None = None,
    rules: str | Sequence[str] | None = None,
    partial: bool | None = None,
    start_offset_ms: int | None = None,
    headers: Mapping[str, str] | None = None,
    open_timeout_s: float = 10.0,
) -> AsyncIterator["Stream"]:
    """Opens a stream. `None` leaves a parameter to the server's default.

    `url` is `ws://`, `wss://`, `http://` or `https://`, with or without `/v1/stream`.
    `sample_rate` is in Hz; `roles` has one name a channel. Leaving the context closes the
    connection, whether or not `Stream.close` was called.

    Raises `StreamRefused` when the server says no, `Unreachable` when there is none.
    """
    parameters = {
        "encoding": encoding,
        "sample_rate": sample_rate,
        "channels": channels,
        "roles": roles,
        "model": model,
        "endpointing": endpointing,
        "smoothing": smoothing,
        "hysteresis": hysteresis,
        "min_dwell_ms": min_dwell_ms,
        "rules": rules,
        "partial": partial,
        "start_offset_ms": start_offset_ms,
    }
    address = stream_url(url, parameters)
    try:
        websocket = await open_websocket(
            address,
            additional_headers=headers,
            compression=None,  # audio does not shrink
            proxy=None if is_loopback(address) else True,
            open_timeout=open_timeout_s,
            max_queue=_MAX_UNREAD,
        )
    except InvalidStatus as error:
        response = error.response
        raise StreamRefused(
            *problem_from(response.status_code, response.headers, bytes(response.body or b""))
        ) from error
    except (OSError, InvalidHandshake, InvalidURI) as error:  # TimeoutError is an OSError
        raise Unreachable(
            f"no server at {address.partition('?')[0]}: {error or 'timed out'}"
        ) from error
    try:
        yield Stream(websocket)
    finally:
        await websocket.close()


class Stream:
    """An open stream. Iterating it gives the events until the server has closed it.

    The iterator ends after `session.closed`; it raises `StreamError` at a fatal error frame and
    `StreamClosed` when the connection ends otherwise. Error frames that are not fatal are events.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._is_done = False

    async def send(self, audio: bytes) -> None:
        """Sends whole sample frames in the stream's encoding; waits while the server is behind."""
        if len(audio) <= MAX_FRAME_BYTES:
            await self._send(audio)
            return
        for start in range(0, len(audio), _SPLIT_BYTES):
            await self._send(audio[start : start + _SPLIT_BYTES])

    async def flush(self) -> None:
        """Ends the utterance now; its result comes as a final `Utterance`."""
        await self._command("flush")

    async def keepalive(self) -> None:
        """Says that the client is still there though it has no audio to send."""
        await self._command("keepalive")

    async def close(self) -> None:
        """Says that there is no more audio. Read on until the iterator ends: results follow."""
        await self._command("close")

    async def abort(self) -> None:
        """Drops the connection without waiting for results."""
        await self._websocket.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._is_done:
            event = parse_event(await self._receive())
            if isinstance(event, ErrorFrame) and event.fatal:
                raise StreamError(
                    event.code,
                    event.message,
                    retryable=event.retryable,
                    retry_after_ms=event.retry_after_ms,
                    request_id=event.request_id,
                )
            if isinstance(event, SessionClosed):
                self._is_done = True
            if event is not None:
                return event
        raise StopAsyncIteration

    async def _command(self, command: str) -> None:
        await self._send(json.dumps({"type": command}))

    async def _send(self, message: bytes | str) -> None:
        try:
            await self._websocket.send(message)
        except ConnectionClosed as error:
            raise self._closed(error) from error

    async def _receive(self) -> str:
        try:
            message = await self._websocket.recv()
        except ConnectionClosed as error:
            raise self._closed(error) from error
        if isinstance(message, bytes):
            raise BadServerMessage("a binary message; the server sends text only")
        return message

    def _closed(self, error: ConnectionClosed) -> StreamClosed:
        if error.rcvd is None:
            return StreamClosed(1006, "the connection was lost")
        return StreamClosed(error.rcvd.code, error.rcvd.reason)


Chunks = Iterable[bytes | Flush] | AsyncIterable[bytes | Flush]


async def stream_audio(
    url: str,
    chunks: Chunks,
    *,
    encoding: str | None = None,
    sample_rate: int | None = None,
    channels: int | None = None,
    roles: str | Sequence[str] | None = None,
    model: str | None = None,
    endpointing: str | None = None,
    smoothing: str | None = None,
    hysteresis: float | None = None,
    min_dwell_ms: int | None = None,
    rules: str | Sequence[str] | None = None,
    partial: bool | None = None,
    start_offset_ms: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> AsyncGenerator[Event, None]:
    """Sends all chunks and gives the events as they come, until `session.closed`.

    `chunks` are bytes of whole sample frames, or `FLUSH`; it is drawn from only as fast as the
    server takes the audio, so memory stays bounded whatever its length. Parameters and errors
    are those of `connect` and `Stream`; an error that `chunks` raises ends the stream and is
    raised here. To stop early, wrap it in `contextlib.aclosing`.
    """
    async with connect(
        url,
        encoding=encoding,
        sample_rate=sample_rate,
        channels=channels,
        roles=roles,
        model=model,
        endpointing=endpointing,
        smoothing=smoothing,
        hysteresis=hysteresis,
        min_dwell_ms=min_dwell_ms,
        rules=rules,
        partial=partial,
        start_offset_ms=start_offset_ms,
        headers=headers,
    ) as stream:
        failure: Exception | None = None

        async def send_all() -> None:
            nonlocal failure
            try:
                async for chunk in _as_async(chunks):
                    await (stream.flush() if isinstance(chunk, Flush) else stream.send(chunk))
                await stream.close()
            except StreamClosed:
                return  # whoever reads the events learns why
            except Exception as error:
                failure = error
                await stream.abort()

        sender = asyncio.create_task(send_all())
        try:
            async for event in stream:
                yield event
        except StreamClosed:
            if failure is not None:
                raise failure from None
            raise
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)


async def _as_async(chunks: Chunks) -> AsyncIterator[bytes | Flush]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
