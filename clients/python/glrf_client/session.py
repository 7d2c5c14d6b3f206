"""One stream of audio and its events, over as many connections as it takes.

async with connect("http://127.0.0.1:8000", sample_rate=8000) as session:
    await session.send(audio)
    await session.close()
    async for event in session:
        ...
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack

from glrf_client.backoff import Backoff
from glrf_client.errors import BadServerMessage, ClientError, StreamClosed, TimelineLost
from glrf_client.events import (
    Checkpoint,
    Draining,
    ErrorFrame,
    Event,
    Segment,
    SessionClosed,
    SessionCreated,
)
from glrf_client.flight import Flight
from glrf_client.format import AudioFormat
from glrf_client.opus import packet_samples
from glrf_client.outbox import MAX_FRAME_BYTES, Outbox
from glrf_client.pace import Pace
from glrf_client.parameters import (
    ConnectionState,
    StreamParameters,
    query_parameters,
    request_headers,
)
from glrf_client.recovery import Outage, Watch
from glrf_client.timeline import Timeline

if TYPE_CHECKING:
    from glrf_client.connection import Connection

MAX_BUFFER_BYTES: Final = 8 * MAX_FRAME_BYTES
_OPEN_TIMEOUT_S: Final = 10.0
#: A line that was made anew and does not answer for so long gets another one beside it.
_PATIENCE_S: Final = 1.0
#: A checkpoint lies up to 7 s behind what was sent: a smaller buffer would wait for ever.
_CHECKPOINT_LAG_S: Final = 10
#: A server that owes an answer and is silent for so long counts as lost.
_STALL_S: Final = 10.0
#: Audio that a server may hold before it owes a result: where partial segments are not wanted, not
#: quite 2 s of silence and then 2 s of speech, and what finds it.
_OWED_AFTER_MS: Final = 5_000
#: How often to look whether it owes one.
_WATCH_S: Final = 0.25
#: `send` that waits so long while nobody reads is told of: it may wait for ever.
_UNREAD_S: Final = 5.0
#: A server ends a stream over which nothing comes for long: it hears from the client so often.
_KEEPALIVE_S: Final = 10.0
#: What the writer sends at once: short enough that a reconnect does not repeat much.
_SPLIT_S: Final = 1

log = logging.getLogger("glrf_client")


@asynccontextmanager
async def connect(url: str, **parameters: Unpack[StreamParameters]) -> AsyncIterator["Session"]:
    """Opens a stream to send to and read from; leaving the context drops it.

    `url` is `ws://`, `wss://`, `http://` or `https://`, with or without `/v1/stream`. The first
    connection is tried once; what is lost later is mended as `Session` tells. Raises
    `StreamRefused` when the server says no, `Unreachable` when there is none.
    """
    session = Session(url, parameters)
    try:
        await session.open()
        yield session
    finally:
        await session.abort()


class Session:
    """An open stream. Iterating it gives the events until the server has closed it.

    When the connection is lost it connects anew, with the last checkpoint, and sends again what
    that does not cover; events that were given already are left out. The one timeline goes on,
    nothing is lost and nothing comes twice. The iterator raises what could not be mended:
    `StreamError`, `StreamClosed`, `Unreachable`, `StreamRefused`, `TimelineLost`.

    Who reads the events finds a connection lost: read while you send. The next one is made even
    if the reading is cancelled, as `asyncio.wait_for` does. `send` waits while
    `max_buffer_bytes` are not yet covered by a checkpoint: for ever, where nobody reads. Audio
    that comes faster than the server allows is held back here.
    """

    def __init__(self, url: str, parameters: StreamParameters) -> None:
        self._url = url
        self._query = query_parameters(parameters)
        self._headers = request_headers(parameters.get("api_key"), parameters.get("headers"))
        self._open_timeout_s = parameters.get("open_timeout_s", _OPEN_TIMEOUT_S)
        self._stall_s = parameters.get("stall_s", _STALL_S)
        self._tell = parameters.get("on_connection") or _to_nobody
        self._format = AudioFormat.told(
            parameters.get("encoding"), parameters.get("sample_rate"), parameters.get("channels")
        )
        self._start_offset_ms = parameters.get("start_offset_ms") or 0
        max_bytes = parameters.get("max_buffer_bytes", MAX_BUFFER_BYTES)
        least = self._format.sample_rate * self._format.frame_bytes * _CHECKPOINT_LAG_S
        if max_bytes < least:
            raise ValueError(
                f"max_buffer_bytes={max_bytes} is too little here: give {least} or more"
            )
        self._outbox = Outbox(max_bytes)
        self._timeline = Timeline()
        self._checkpoint: Checkpoint | None = None
        self._rest = b""  # the beginning of a sample frame
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._connection: Connection | None = None
        self._writer: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[ClientError | None] | None = None
        self._was_created = self._is_closing = self._is_done = self._was_left = False
        self._is_reading = self._was_warned = False
        self._n_read = 0
        self._failure: ClientError | None = None
        self._outage = Outage(parameters.get("backoff") or Backoff())
        self._pace = Pace(0.0)
        self._watch = Watch(self._stall_s)
        self._flight = Flight(self._format, 0, 0.0)
        self._is_greeted = False
        self._told_ms = self._start_offset_ms  # up to here results came

    # --- out ---------------------------------------------------------------------------------

    async def send(self, audio: bytes | bytearray | memoryview) -> None:
        """Takes raw audio in any chunking, or one Opus packet; waits while the buffer is full.

        An incomplete last sample frame is kept until the rest comes. Raises what ended the stream,
        `StreamClosed` when it was left, `ValueError` after `close`.
        """
        audio = bytes(memoryview(audio))  # the caller may fill its buffer again
        await self._wait_for_room()
        if self._format.is_packets:
            self._outbox.add_packet(audio, packet_samples(audio))
            self._news.set()
            return
        audio = self._rest + audio
        n_whole = len(audio) - len(audio) % self._format.frame_bytes
        self._rest = audio[n_whole:]
        a_second = self._format.sample_rate * self._format.frame_bytes
        split = _SPLIT_S * a_second if self._format.is_raw else max(1, n_whole)
        self._outbox.add_audio(audio[:n_whole], split)
        self._news.set()

    async def flush(self) -> None:
        """Ends the utterance here; its result comes as a final `Utterance`."""
        await self._command(type="flush")

    async def update(
        self,
        *,
        smoothing: str | None = None,
        hysteresis: float | None = None,
        min_dwell_ms: int | None = None,
        endpointing: str | None = None,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        """Changes options from here on; what the server cannot change comes as an `ErrorFrame`."""
        options = {
            "smoothing": smoothing,
            "hysteresis": hysteresis,
            "min_dwell_ms": min_dwell_ms,
            "endpointing": endpointing,
            "thresholds": thresholds,
        }
        changed = {name: value for name, value in options.items() if value is not None}
        await self._command(type="update", **changed)

    async def keepalive(self) -> None:
        """Says that the client is still there; a stream that is muted says so by itself."""
        if self._connection is not None:
            try:
                await self._connection.send('{"type": "keepalive"}')
            except ClientError:
                return  # whoever reads the events mends it

    async def close(self) -> None:
        """Says that there is no more audio. Read on until the iterator ends: results follow."""
        if not self._is_closing:
            if self._rest:
                # Half a sample: the server says so, in its own words, and ignores that frame.
                await self._wait_for_room()
                rest, self._rest = self._rest, b""
                self._outbox.add_packet(rest, len(rest))
            await self._command(type="close")
            self._is_closing = True

    async def abort(self) -> None:
        """Drops the stream without waiting for results; who reads or sends gets `StreamClosed`."""
        self._was_left = self._was_left or not self._is_done
        self._is_done = True
        self._room.set()
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.wait((self._mending,))
        connection = await self._disconnect()
        if connection is not None:
            await connection.close()

    async def _command(self, **message: Any) -> None:
        await self._wait_for_room()
        self._outbox.add_command(json.dumps(message))
        self._news.set()

    async def _wait_for_room(self) -> None:
        while True:
            if self._failure is not None:
                raise self._failure
            if self._is_closing:
                raise ValueError("close was sent: nothing can follow it")
            if self._is_done:
                raise StreamClosed(1000, "the session was left")
            if not self._outbox.is_full:
                return
            self._room.clear()
            n_read = self._n_read
            try:
                async with asyncio.timeout(None if self._was_warned else _UNREAD_S):
                    await self._room.wait()
            except TimeoutError:
                if not self._is_reading and self._n_read == n_read:
                    log.warning(
                        "the buffer is full and nobody reads the events: read while sending"
                    )
                    self._was_warned = True

    async def _write(self, connection: "Connection", flight: Flight) -> None:
        """Sends what is in the outbox, for as long as the connection lives."""
        said_s = time.monotonic()
        while True:
            message, length = self._outbox.next, self._outbox.next_length
            audio_s, now_s = self._format.places_s(length), time.monotonic()
            try:
                if flight.is_ping_due(length, now_s):
                    await connection.ping(partial(self._pong, flight, flight.ping(now_s)))
                elif message is None or flight.is_full(length):
                    left_s = said_s + _KEEPALIVE_S - now_s
                    if left_s <= 0:
                        await self.keepalive()
                        said_s = now_s
                    else:
                        await self._wait_for_news(min(left_s, flight.until_ping_s(now_s)))
                elif wait_s := self._pace.wait_s(audio_s, now_s):
                    await asyncio.sleep(wait_s)
                else:
                    await connection.send(message)
                    said_s = now_s
                    self._pace.sent(audio_s)
                    self._outbox.sent()
                    is_command = isinstance(message, str)
                    flight.sent(self._outbox.sent_to, now_s, is_command=is_command)
                    self._room.set()
            except ClientError:
                return  # whoever reads learns why

    async def _wait_for_news(self, at_most_s: float) -> None:
        """Something to send, or room for it on the line."""
        self._news.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most_s):
                await self._news.wait()

    def _pong(self, flight: Flight, place: int) -> None:
        flight.answered(place)
        self._news.set()

    # --- in ----------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        if self._is_reading:
            raise ClientError("the events of a session are read by one task at a time")
        self._is_reading = True
        try:
            return await self._next()
        finally:
            self._is_reading = False
            self._n_read += 1

    async def _next(self) -> Event:
        while not self._is_done or self._mending is not None:
            if self._mending is not None:
                await self._mended(self._mending)
                continue
            assert self._connection is not None
            try:
                event = await self._receive(self._connection)
                if event is not None and self._take(event):
                    return event
            except BadServerMessage as error:
                self._fail(error)
                raise
            except ClientError as error:
                if self._is_done:
                    break  # it was left meanwhile
                self._mending = asyncio.create_task(self._mend(error))
        if self._was_left:
            raise StreamClosed(1000, "the session was left")
        raise StopAsyncIteration

    async def _mended(self, mending: "asyncio.Task[ClientError | None]") -> None:
        """Waits for that task, which goes on when the reader is cancelled; raises its error."""
        await asyncio.wait((mending,))
        self._mending = None
        if self._was_left:  # which cancelled it
            return
        self._is_done = self._is_done or self._connection is None  # `on_connection` may raise
        error = mending.result()
        if error is not None:
            raise error

    async def _receive(self, connection: "Connection") -> Event | None:
        """The next message; raises `StreamClosed` too for a server that owes one and is silent."""
        while True:
            now_s = time.monotonic()
            self._watch.check(self._is_owed, now_s)
            self._flight.check(connection.is_backed_up, now_s)
            try:
                event = await connection.receive(_WATCH_S)
            except TimeoutError:
                continue
            self._watch.heard()
            self._flight.heard()
            return event

    @property
    def _is_owed(self) -> bool:
        """Whether the server has something to tell: its greeting, results, the stream's end."""
        arrived = self._flight.arrived
        arrived_ms = self._start_offset_ms + 1000 * self._format.places_s(arrived)
        is_unheard = arrived_ms - self._told_ms > _OWED_AFTER_MS
        is_ending = self._is_closing and arrived >= self._outbox.end
        return not self._is_greeted or is_ending or is_unheard

    def _take(self, event: Event) -> bool:
        """Whether the event is for the consumer, and new."""
        match event:
            case Checkpoint():
                self._keep(event)
                return False
            case Draining():
                # What is written now would be heard twice; the results so far still come.
                log.info("the server is ending; going on elsewhere")
                self._stop_writing()
                self._watch.drain(event.deadline_ms, time.monotonic())
                return False
            case SessionCreated():
                is_first, self._was_created = not self._was_created, True
                self._is_greeted = True
                self._pace.limit(event.limits)
                self._tell(ConnectionState(state="live", resumed=not is_first))
                return is_first
            case SessionClosed():
                self._is_done = True
                self._tell(ConnectionState(state="closed"))
                return True
            case ErrorFrame(code="bad_parameter"):  # what refuses an update
                place = self._outbox.last_command_at
                return self._timeline.is_new_refusal(event.message, place)
            case Segment():
                self._told_ms = max(self._told_ms, event.end_ms)
        return self._timeline.is_new(event)

    def _keep(self, checkpoint: Checkpoint) -> None:
        if not (self._format.is_raw or self._format.is_packets):
            return
        position = self._position(checkpoint)
        if self._outbox.can_rewind_to(position):
            # One that is only renewed tells nothing of what was sent.
            last_ms = self._start_offset_ms
            if self._checkpoint is not None:
                last_ms = self._checkpoint.resume_from_ms
            if checkpoint.resume_from_ms > last_ms:
                self._outage.over()
            self._checkpoint = checkpoint
            self._told_ms = max(self._told_ms, checkpoint.resume_from_ms)
        self._outbox.keep_from(position)
        self._timeline.keep_from(position)
        self._room.set()

    def _position(self, checkpoint: Checkpoint) -> int:
        """The place in the outbox that a checkpoint stands at."""
        try:
            return self._format.place_at(checkpoint.resume_from_ms - self._start_offset_ms)
        except ValueError as error:
            raise BadServerMessage(f"checkpoint: {error}") from error

    # --- connections -------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects, and begins to write what is to be sent from the last checkpoint on."""
        # Here: it takes a tenth of a second.
        from glrf_client.connection import Connection, opened_soon

        token = {} if self._checkpoint is None else {"resume": self._checkpoint.token}
        position = 0 if self._checkpoint is None else self._position(self._checkpoint)

        def opening() -> Coroutine[Any, Any, Connection]:
            return Connection.open(
                self._url,
                self._query | token,
                headers=self._headers,
                open_timeout_s=self._open_timeout_s,
            )

        is_first = not self._was_created
        self._connection = await (opening() if is_first else opened_soon(opening, _PATIENCE_S))
        self._outbox.rewind(position)
        self._timeline.rewind()
        now_s = time.monotonic()
        self._outage.opened(now_s)
        self._pace = Pace(now_s)
        self._watch, self._is_greeted = Watch(self._stall_s), False
        self._flight = Flight(self._format, self._outbox.sent_to, now_s)
        self._writer = asyncio.create_task(self._write(self._connection, self._flight))

    async def _mend(self, error: ClientError) -> ClientError | None:
        """Waits and connects anew until there is a connection; the error that no try can mend."""
        while (wait_s := await self._lost(error)) is not None:
            await asyncio.sleep(wait_s)
            try:
                await self.open()
            except ClientError as again:
                error = again
            else:
                log.info("connected again after %d tries", self._outage.n_tries)
                return None
        self._fail(error)
        return error

    async def _lost(self, error: ClientError) -> float | None:
        """Drops the connection; seconds until another try, `None` when none can help."""
        connection = await self._disconnect()
        if connection is not None:
            await connection.drop()
        if isinstance(error, TimelineLost) and self._checkpoint is not None:
            error.resume_from_ms = self._checkpoint.resume_from_ms
        is_stalled = self._watch.is_stalled
        wait_s = self._outage.next_try_s(error, time.monotonic(), is_stalled=is_stalled)
        if wait_s is None or not self._can_resume():
            return None
        log.info("%s; trying again in %.2f s", error, wait_s)
        self._tell(ConnectionState(state="waiting", delay_s=wait_s, cause=error))
        return wait_s

    def _can_resume(self) -> bool:
        """Whether all that no checkpoint covers is still here."""
        return self._checkpoint is not None or self._outbox.can_rewind_to(0)

    def _fail(self, error: ClientError) -> None:
        self._failure, self._is_done = error, True
        self._tell(ConnectionState(state="closed", cause=error))
        self._room.set()

    def _stop_writing(self) -> None:
        if self._writer is not None:
            self._writer.cancel()

    async def _disconnect(self) -> "Connection | None":
        """Stops writing; the connection that there was."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        # Not before: who is cancelled meanwhile leaves it to be closed by `abort`.
        connection, self._connection = self._connection, None
        return connection


def _to_nobody(_: ConnectionState) -> None:
    pass
