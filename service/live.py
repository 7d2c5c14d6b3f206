"""One live session, whatever front end its audio comes through.

`WS /v1/stream`, Twilio and AudioHook drive the same thing: audio into a session, its segments
through the batcher, results out. Three tasks run side by side: a reader (audio and commands in), a
writer (results out) and the wait for the service's end. The first that finishes decides how the
session ends. What a front end adds are the messages of its own protocol.

All that is told goes to the front end, to those who watch the session (`service.broadcast`), and,
where it was asked for, to a webhook (`service.relay`).
"""

import abc
import asyncio
import logging
import time
import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar

from fastapi import WebSocket, WebSocketDisconnect

from ser_core.errors import (
    BadMessage,
    Idle,
    Restarting,
    SerError,
    SessionTooLong,
    SlowClient,
)
from ser_core.events import Alert, Checkpoint, Segment, Utterance, Warning
from service import manifest, problems, session_info, wire
from service.analysis import narrowband_warning
from service.auth import caller_of
from service.broadcast import Broadcast
from service.checkpoint import StreamState
from service.frames import Frame, frame_of
from service.pace import AudioMeter, Pace
from service.pump import STEP_S, Pump, TimedEvent
from service.requests import StreamQuery
from service.resumption import batcher_of, session_of
from service.runtime import Runtime

#: On shutdown, how long a session may take to score and send what it has.
LAST_WORDS_S = 2.0

CLIENT_CLOSED = "client_closed"  # why a session ended that ended well
CLIENT_LEFT = "client_left"

#: What a webhook is told: what a back office acts on, not every 0.4 s.
_FOR_WEBHOOKS = (wire.UtteranceMessage, wire.AlertMessage, wire.SessionClosed)

log = logging.getLogger(__name__)


class LiveSession(abc.ABC):
    """One admitted session; `run` is its whole life.

    With `kept` it goes on from a checkpoint. `external` are the ids that the front end's platform
    gave it. Raises `BadParameter` and `UnsupportedEncoding` for a query that cannot be served, and
    `CheckpointRejected`.
    """

    front_end: ClassVar[session_info.FrontEnd]
    tells_checkpoints: ClassVar[bool] = False  # from where another session could go on

    def __init__(
        self,
        socket: WebSocket,
        runtime: Runtime,
        query: StreamQuery,
        request_id: str,
        kept: StreamState | None = None,
        *,
        external: dict[str, str] | None = None,
        webhook_url: str | None = None,
    ) -> None:
        self._config = config = query.config(runtime.settings.vad)
        self._batcher = batcher_of(runtime, query, kept)
        self._socket = socket
        self._metrics, self._capacity = runtime.metrics, runtime.capacity
        self._settings = runtime.settings
        self._query = query
        self._request_id = request_id
        self.id = uuid.uuid4().hex if kept is None else kept.session_id
        spec = self._batcher.backend.spec
        self._session = session_of(spec, config, kept, checkpoints=self.tells_checkpoints)
        self._is_resumed = kept is not None
        self._pump = Pump(
            self._session,
            self._batcher,
            runtime.settings.max_untold_events,
            drops=query.on_overload == "drop_oldest",
            on_drop=self._metrics.dropped.inc,
        )
        self.caller = caller_of(socket.scope)
        pace = Pace(self._settings.max_stream_speed, self._settings.burst_s)
        self._meter = AudioMeter(runtime.quotas, self.caller, pace)
        self._heard_s = self._metrics.audio_s.labels(self.front_end)
        self._narrator = wire.Narrator(spec, query.parsed_roles(), query.start_offset_ms)
        self.broadcast = Broadcast(self._settings.max_watchers, self._metrics.watchers)
        self._relay = runtime.relay_to(webhook_url, self.caller)
        self._external = external or {}
        self._seq = 0
        self._sending = asyncio.Lock()
        self._is_finishing = False
        self._n_dropped_samples = 0 if kept is None else kept.n_dropped_samples
        self._n_dropped_before = 0 if kept is None else kept.n_dropped_segments
        self._is_late = False
        self._stop = asyncio.Event()
        self._is_waiting = False  # the reader, for a frame
        self._frame_s = time.monotonic()  # when the last one came
        self._stop_reason: Exception = Restarting(
            "the service is restarting", remedy="connect again, with the last checkpoint"
        )
        self._ended = asyncio.Event()
        self._since = datetime.now(UTC)

    # --- what the service asks of it ---------------------------------------------------------

    @property
    def demand(self) -> float:
        """Segments a second at real time."""
        return self._batcher.backend.spec.segments_hz * len(self._config.scored_channels)

    def stop(self, reason: Exception | None = None) -> None:
        """Tell what is scored, then close: by default with 1012, for the service shuts down."""
        if reason is not None and not self._stop.is_set():
            self._stop_reason = reason
        self._stop.set()

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stop.is_set()

    async def ended(self) -> None:
        """Waits until the connection was told its end."""
        await self._ended.wait()

    @property
    def entry(self) -> session_info.SessionEntry:
        """Its line in `GET /v1/sessions`."""
        backend = self._batcher.backend
        return session_info.SessionEntry(
            session_id=self.id,
            front_end=self.front_end,
            since=self._since.isoformat(timespec="milliseconds"),
            roles=manifest.channels(self._narrator.roles),
            model=manifest.model_card(backend.spec, backend.sha256),
            external=self._external,
        )

    # --- its life ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves the connection to its end; raises nothing of a client's making."""
        reason = "internal_error"
        try:
            reason = await self._serve()
        except WebSocketDisconnect as error:
            reason = self._reason_of_leaving()
            _let_go(error)
        except SerError as error:
            reason = error.code
            self._metrics.refused(reason)
            await self._end_with(error)
            _let_go(error)
        except Exception as error:
            log.exception("session %s failed (request %s)", self.id, self._request_id)
            failure = problems.internal_error(error)
            self._metrics.refused(failure.code)
            await self._end_with(failure)
            _let_go(error)
        finally:
            self._pump.cancel()
            await self._tell_closed(reason)
            self._ended.set()
            self._metrics.sessions_closed.labels(reason).inc()
            heard_s = self._session.received_samples / self._config.sample_rate_hz
            whose = f"{self.id} ({self.front_end}) of {self.caller.name}"
            log.info("session %s ended: %s, %.1f s", whose, reason, heard_s)

    async def _serve(self) -> str:
        """Reads and writes until one of them ends; the reason, or an exception."""
        self._metrics.sessions_opened.labels(self.front_end).inc()
        await self._open()
        log.info("session %s (%s) of %s began", self.id, self.front_end, self.caller.name)
        await self._greet()
        too_long = SessionTooLong(
            "the longest session is reached", remedy="connect again, with the last checkpoint"
        )
        expiry = asyncio.get_running_loop().call_later(
            self._settings.max_session_s, self.stop, too_long
        )
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        stop = asyncio.create_task(self._stop.wait())
        tasks = {reader, writer, stop}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if reader.done() or writer.done():
                # The reader ends by a close alone, and then the writer tells the rest.
                await _first_failure(reader, writer)
            elif stop.done():
                reader.cancel()
                try:
                    async with asyncio.timeout(LAST_WORDS_S):
                        await self._drain(writer)
                except TimeoutError:
                    self._is_late = True  # who does not read would not read the end either
                raise self._stop_reason
        finally:
            expiry.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return await self._say_goodbye()

    async def _drain(self, writer: "asyncio.Task[None]") -> None:
        """Tells that the end is near, then what is scored."""
        if isinstance(self._stop_reason, Restarting):
            await self._send(wire.SessionDraining, deadline_ms=round(LAST_WORDS_S * 1000))
        self._finish()
        await writer

    def _finish(self) -> None:
        """No more audio comes: the writer ends when all is told."""
        self._is_finishing = True
        self._pump.wake()

    # --- what a front end is -----------------------------------------------------------------

    @abc.abstractmethod
    async def _open(self) -> None:
        """Completes the opening of its protocol."""

    @abc.abstractmethod
    async def _read(self) -> None:
        """Takes frames until a close. Raises `WebSocketDisconnect` when the client leaves."""

    def _deliver_at_once(self, message: wire.Message) -> bool:
        """Sends one message if that can be done without waiting, and says whether it was."""
        del message
        return False

    @abc.abstractmethod
    async def _deliver(self, message: wire.Message) -> None:
        """Sends one message to the client, where its protocol has a place for it."""

    @abc.abstractmethod
    async def _say_goodbye(self) -> str:
        """After all is told: the last message and the close; why the session ended."""

    @abc.abstractmethod
    async def _end_with(self, error: SerError) -> None:
        """Tells a fatal error and closes; a client that left gets neither."""

    def _reason_of_leaving(self) -> str:
        return CLIENT_LEFT

    # --- in ----------------------------------------------------------------------------------

    async def _next_frame(self) -> Frame:
        """Raises `Idle`, `TooLarge`, and `WebSocketDisconnect` when the client leaves."""
        self._is_waiting = True
        try:
            message = await self._receive()
        finally:
            self._is_waiting = False
        return Frame(*frame_of(message), time.perf_counter())

    async def _receive(self) -> Any:
        limit_s = self._settings.idle_timeout_s
        while True:
            left_s = self._frame_s + limit_s - time.monotonic()
            try:
                async with asyncio.timeout(left_s):
                    message = await self._socket.receive()
            except TimeoutError as error:
                if time.monotonic() - self._frame_s < limit_s:
                    continue  # frames came by `hear_at_once`
                raise Idle(
                    f"no frame came for {limit_s:g} s",
                    remedy='send audio, silence too, or {"type": "keepalive"}',
                ) from error
            self._frame_s = time.monotonic()
            return message

    def _hear_at_once(self, data: bytes) -> bool:
        """Takes whole sample frames where nothing has to be waited for, and says whether it did.

        It may be called where audio comes from the network, without waking a task; what it leaves
        goes the way of all frames.
        """
        n_samples = len(data) // self._session.frame_bytes
        rate_hz = self._config.sample_rate_hz
        if (
            not self._is_waiting
            or self._stop.is_set()
            or n_samples > STEP_S * rate_hz
            or not self._pump.has_room
            or self._pump.has_lateness_news
            or self._meter.is_charged
        ):
            return False
        self._frame_s = time.monotonic()
        try:
            self._meter.hear_at_once(n_samples / rate_hz)
            self._heard_s.inc(n_samples / rate_hz)
            self._pump.advance(lambda: self._session.receive_audio(data), time.perf_counter())
        except Exception as error:  # no task of ours is running, so nobody else would see it
            self.stop(error)
        return True

    async def _hear(self, data: bytes, received_s: float) -> None:
        """Whole sample frames in the stream's encoding; raises `LimitReached` and `Overloaded`."""
        audio_s = len(data) // self._session.frame_bytes / self._config.sample_rate_hz
        await self._meter.hear(audio_s, is_replay=self._session.is_replaying)
        self._heard_s.inc(audio_s)
        await self._take(data, received_s)

    async def _take(self, data: bytes, received_s: float) -> None:
        frame_bytes = self._session.frame_bytes
        step_bytes = int(STEP_S * self._config.sample_rate_hz) * frame_bytes
        for start in range(0, len(data), step_bytes):
            if start:
                await asyncio.sleep(0)  # a large frame shares the loop with the other sessions
            await self._pump.room()
            await self._warn_if_late()
            step = data[start : start + step_bytes]
            self._pump.advance(lambda step=step: self._session.receive_audio(step), received_s)

    async def _warn_if_late(self) -> None:
        if self._pump.take_lateness():
            await self._send(
                wire.WarningMessage,
                channel=self._config.scored_channels[0],
                code="late",
                message="the service is behind: the oldest unscored segments are dropped",
            )

    async def _complain(self, code: str, message: str) -> None:
        """A non-fatal error: the stream goes on."""
        self._metrics.refused(code)
        error = BadMessage(message, code=code)
        await self._send(
            wire.ErrorMessage, **wire.error_fields(error, self._request_id, fatal=False)
        )

    # --- out ---------------------------------------------------------------------------------

    async def _greet(self) -> None:
        backend, config = self._batcher.backend, self._config
        roles = self._narrator.roles
        for index, role in enumerate(roles):
            if not role.scored:
                log.info("session %s: channel %d (%s) is off", self.id, index, role.name)
        await self._send(
            wire.SessionCreated,
            config=session_info.options(config, self._query, roles),
            **session_info.maker(backend),
            limits=session_info.limits(self._settings),
            expires_at=session_info.expires_at(self._settings, self._since),
        )
        narrowband = narrowband_warning(config, backend.spec)
        if narrowband is not None and not self._is_resumed:
            await self._send(wire.WarningMessage, **narrowband.model_dump())
        async for timed in self._pump.events():  # the first checkpoint
            await self._tell(timed)

    async def _write(self) -> None:
        """Sends results as they come, until the session is finishing and all is told."""
        while True:
            async for timed in self._pump.events():
                await self._tell(timed)
            if self._is_finishing:
                return
            await self._pump.more()

    async def _tell(self, timed: TimedEvent) -> None:
        match timed.event:
            case Segment() as segment:
                timing = timed.timing
                assert timing is not None
                began_s = time.perf_counter()
                lag_s = began_s - timing.received_s
                await self._send(
                    wire.SegmentMessage,
                    lag_ms=round(lag_s * 1000),
                    **self._narrator.segment(segment),
                )
                self._metrics.count_segment(segment)
                self._capacity.segment_sent()
                if self._meter.is_live:
                    self._metrics.lag_s.observe(lag_s)
                send_s = time.perf_counter() - began_s
                self._metrics.stages(features=timing.features_s, send=send_s)
                if segment.abstain != "no_speech":
                    self._metrics.stages(queue=timing.queue_s, inference=timing.inference_s)
            case Utterance() as utterance:
                await self._send(wire.UtteranceMessage, **self._narrator.utterance(utterance))
            case Alert() as alert:
                await self._send(wire.AlertMessage, **self._narrator.alert(alert))
            case Checkpoint() as checkpoint:
                await self._keep(checkpoint)
            case Warning() as warning:
                await self._send(
                    wire.WarningMessage,
                    channel=warning.channel,
                    code=warning.code,
                    message=warning.message,
                )

    async def _keep(self, checkpoint: Checkpoint) -> None:
        """Where another session could go on, for a front end that tells checkpoints."""
        raise NotImplementedError  # the others' sessions make none, so it is never called there

    async def _send(self, kind: type[wire.Message], **fields: Any) -> None:
        """Tells one message in its turn.

        Raises `SlowClient` when it cannot be written in time, and `WebSocketDisconnect` when
        nobody is there.
        """
        async with self._sending:
            message = self._message(kind, **fields)
            self._seq += 1
            self._publish(message)
            if self._deliver_at_once(message):
                return
            try:
                async with asyncio.timeout(self._settings.send_timeout_s):
                    await self._deliver(message)
            except TimeoutError as error:
                raise SlowClient(
                    f"results could not be sent for {self._settings.send_timeout_s:g} s",
                    remedy="read the results as they come, then connect again",
                ) from error
            except RuntimeError as error:  # the connection was closed under us
                raise WebSocketDisconnect(1006) from error

    def _message(self, kind: type[wire.Message], **fields: Any) -> wire.Message:
        return kind.model_validate({"seq": self._seq, "session_id": self.id, **fields})

    def _publish(self, message: wire.Message) -> None:
        """To all that only listen. A checkpoint is not theirs: who holds it can go on with it."""
        if isinstance(message, wire.CheckpointMessage):
            return
        self.broadcast.tell(message)
        if self._relay is not None and isinstance(message, _FOR_WEBHOOKS):
            event = message.model_dump(mode="json")
            self._relay.put(event | {"front_end": self.front_end, "external": self._external})

    def _closed(self, reason: str) -> dict[str, Any]:
        """The members of `SessionClosed`."""
        n_dropped = self._n_dropped_samples + self._session.lost_samples
        n_dropped *= len(self._config.scored_channels)
        dropped_ms = round(n_dropped * 1000 / self._config.sample_rate_hz)
        hop_samples = self._batcher.backend.spec.segments.hop_samples
        n_segments = self._n_dropped_before + self._pump.n_dropped
        dropped_ms += self._narrator.clock.length_ms(n_segments * hop_samples)
        return {
            "reason": reason,
            "summary": tuple(map(self._narrator.summary, self._session.summaries())),
            "usage": self._narrator.usage(self._session.usage, dropped_ms),
        }

    async def _tell_closed(self, reason: str) -> None:
        """Those who listen are told every end, also one that the client cannot be told."""
        try:
            if not self.broadcast.is_over:
                self._publish(self._message(wire.SessionClosed, **self._closed(reason)))
            if self._relay is not None:
                await self._relay.finish()
        except Exception:
            log.exception("the end of session %s could not be told", self.id)


async def _first_failure(reader: "asyncio.Task[None]", writer: "asyncio.Task[None]") -> None:
    """Waits for both; the first exception ends the wait."""
    await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_EXCEPTION)
    for task in (reader, writer):
        if task.done():
            task.result()


def _let_go(error: BaseException | None) -> None:
    """Drops the tracebacks of an error that was dealt with.

    They hold frames, which hold the tasks that hold the error: a circle with the whole session in
    it, in memory until a full garbage collection, and those come seldom.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
