"""`WS /v1/stream`: one session over one WebSocket.

Three things run side by side: a reader (audio and commands in), a writer (results out) and the
wait for the service's end. The first that finishes decides how the session ends; whatever it
is, the client gets an `error` or `session.closed` message first, then the close code.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException, WebSocket, WebSocketDisconnect

from ser_core.decode import SNIFF_BYTES, sniff_container
from ser_core.errors import (
    BadMessage,
    BadParameter,
    CheckpointRejected,
    Idle,
    InputError,
    Restarting,
    SerError,
    SessionTooLong,
    SlowClient,
    TooLarge,
    UnsupportedEncoding,
)
from ser_core.events import Alert, Checkpoint, Segment, Utterance, Warning
from ser_core.opus import BadPacket
from service import greeting, problems, wire
from service.analysis import narrowband_warning
from service.auth import SUBPROTOCOL, caller_of
from service.checkpoint import StreamState
from service.pump import STEP_S, Pump, Told
from service.quotas import AudioMeter, Pace
from service.requests import StreamQuery, check_same_endpointing, parse_query, smoothing_fields
from service.resumption import Checkpoints, batcher_of, opened, reject, session_of
from service.runtime import Runtime

#: On shutdown, how long a stream may take to score and send what it has.
LAST_WORDS_S = 2.0

CLIENT_CLOSED = "client_closed"  # why a stream ended that ended well

log = logging.getLogger(__name__)
router = APIRouter()


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    """Admits a stream or refuses it by an HTTP problem document before the upgrade."""
    runtime: Runtime = socket.app.state.runtime
    request_id: str = socket.scope["state"]["request_id"]
    try:
        query = parse_query(StreamQuery, socket.query_params.multi_items())
        runtime.check_ready()
        query, kept = opened(runtime, query)
        session = Stream(socket, runtime, query, request_id, kept)
        admitted = contextlib.ExitStack()
        admitted.enter_context(runtime.stream_admitted(session))
    except CheckpointRejected as error:
        await reject(socket, runtime, error, request_id)
        return
    except SerError as error:
        runtime.metrics.refused(error.code)
        # The contract knows one status for all that is wrong with a stream's parameters.
        status = 400 if isinstance(error, InputError) else None
        await socket.send_denial_response(problems.response(error, request_id, status=status))
        return
    if kept is not None:
        runtime.metrics.sessions_resumed.inc()
    with admitted:
        await session.run()


@router.get("/v1/stream", include_in_schema=False)
async def stream_without_upgrade() -> None:
    """A plain request is told what the path is (RFC 9110, Section 15.5.22)."""
    raise HTTPException(426, headers={"Upgrade": "websocket", "Connection": "Upgrade"})


class Stream:
    """One admitted session; `run` is its whole life.

    With `kept` it goes on from a checkpoint. Raises `BadParameter` and `UnsupportedEncoding` for a
    query that cannot be served, and `CheckpointRejected`.
    """

    def __init__(
        self,
        socket: WebSocket,
        runtime: Runtime,
        query: StreamQuery,
        request_id: str,
        kept: StreamState | None = None,
    ) -> None:
        config = query.config(runtime.settings.vad)
        self._batcher = batcher_of(runtime, query, kept)
        self._socket = socket
        self._metrics = runtime.metrics
        self._settings = runtime.settings
        self._query = query
        self._request_id = request_id
        self._session_id = uuid.uuid4().hex if kept is None else kept.session_id
        self._config = config
        self._session = session_of(self._batcher.backend.spec, config, kept)
        self._is_resumed = kept is not None
        self._pump = Pump(
            self._session,
            self._batcher,
            runtime.settings.max_untold_events,
            drops=query.on_overload == "drop_oldest",
        )
        self.caller = caller_of(socket.scope)
        pace = Pace(self._settings.max_stream_speed, self._settings.burst_s)
        self._meter = AudioMeter(runtime.quotas, self.caller, pace)
        self._capacity = runtime.capacity
        self._narrator = wire.Narrator(
            self._batcher.backend.spec, query.parsed_roles(), query.start_offset_ms
        )
        self._seq = 0
        self._sending = asyncio.Lock()
        # What a stream begins with says whether it is a file: one that goes on does not begin.
        self._head = b"" if kept is None else bytes(SNIFF_BYTES)
        self._is_finishing = False
        self._n_dropped_samples = 0 if kept is None else kept.n_dropped_samples
        self._n_dropped_before = 0 if kept is None else kept.n_dropped_segments
        self._checkpoints = Checkpoints(
            runtime, self._batcher, query, config.sample_rate_hz, self._session_id
        )
        self._cut_off: SerError | None = None
        self._is_late = False
        self._stop = asyncio.Event()
        self._stop_reason: SerError = Restarting(
            "the service is restarting", remedy="connect again, with the last checkpoint"
        )
        self._ended = asyncio.Event()

    @property
    def demand(self) -> float:
        """Segments a second at real time."""
        spec = self._batcher.backend.spec
        rate_hz = spec.features.sample_rate_hz / spec.segments.hop_samples
        return rate_hz * len(self._config.scored_channels)

    def stop(self, reason: SerError | None = None) -> None:
        """Tell what is scored, then close: by default with 1012, for the service shuts down."""
        if reason is not None and not self._stop.is_set():
            self._stop_reason = reason
        self._stop.set()

    async def ended(self) -> None:
        """Waits until the connection was told its end."""
        await self._ended.wait()

    async def run(self) -> None:
        """Accepts the WebSocket and serves it to its end; raises nothing of a client's making."""
        reason = "internal_error"
        try:
            reason = await self._serve()
        except WebSocketDisconnect:
            reason = "client_left"
            if self._cut_off is not None:
                reason = self._cut_off.code
                self._metrics.refused(reason)
        except SerError as error:
            reason = error.code
            await self._end_with(error)
        except Exception as error:
            log.exception("session %s failed (request %s)", self._session_id, self._request_id)
            await self._end_with(problems.internal_error(error))
        finally:
            self._pump.cancel()
            self._ended.set()
            self._metrics.sessions_closed.labels(reason).inc()
            self._metrics.dropped.inc(self._pump.n_dropped)
            heard_s = self._session.received_samples / self._config.sample_rate_hz
            log.info("session %s ended: %s, %.1f s", self._session_id, reason, heard_s)

    async def _serve(self) -> str:
        """Reads and writes until one of them ends; the reason, or an exception."""
        self._socket.scope.setdefault("extensions", {})["glrf.too_large"] = self._refuse_unread
        spoken = SUBPROTOCOL if SUBPROTOCOL in self._socket.scope["subprotocols"] else None
        await self._socket.accept(spoken, headers=[(b"x-request-id", self._request_id.encode())])
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
                # The reader ends by `close` alone, and then the writer tells the rest.
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
        await self._say_goodbye()
        return CLIENT_CLOSED

    async def _drain(self, writer: "asyncio.Task[None]") -> None:
        """Tells that the end is near, then what is scored, and from where to go on elsewhere."""
        if isinstance(self._stop_reason, Restarting):
            await self._send(wire.SessionDraining, deadline_ms=round(LAST_WORDS_S * 1000))
        self._is_finishing = True
        self._pump.wake()
        await writer
        if self._checkpoints.has_unsent:
            await self._send_checkpoint()

    # --- in ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Takes frames until `close`. Raises `WebSocketDisconnect` when the client leaves."""
        while True:
            try:
                async with asyncio.timeout(self._settings.idle_timeout_s):
                    message = await self._socket.receive()
            except TimeoutError as error:
                raise Idle(
                    f"no frame came for {self._settings.idle_timeout_s:g} s",
                    remedy='send audio, silence too, or {"type": "keepalive"}',
                ) from error
            received_s = time.perf_counter()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))
            data, text = message.get("bytes"), message.get("text")
            n_bytes = len(data) if data is not None else len(text or "")
            if n_bytes > wire.MAX_FRAME_BYTES:
                raise _too_large(f"a frame of {n_bytes} bytes")
            if data is not None:
                await self._take_audio(data, received_s)
            elif await self._obey(wire.parse_command(text or ""), received_s):
                return

    async def _take_audio(self, data: bytes, received_s: float) -> None:
        n_missing = SNIFF_BYTES - len(self._head)
        self._head += data[:n_missing]
        if n_missing and (container := sniff_container(self._head)):
            raise UnsupportedEncoding(
                f"the stream begins with a {container} file, not with {self._config.encoding}",
                remedy="send raw samples, or the file to POST /v1/files",
                code="container_in_stream",
            )
        frame_bytes = self._session.frame_bytes
        if not data:
            await self._complain("empty_frame", "a binary frame without audio was ignored")
            return
        if self._config.encoding == "opus":
            await self._take_packet(data, received_s)
            return
        if len(data) % frame_bytes:
            self._n_dropped_samples += len(data) // frame_bytes
            await self._complain(
                "odd_frame",
                f"a frame of {len(data)} bytes is not whole samples of {frame_bytes} bytes "
                f"({self._config.encoding}, {self._config.n_channels} channels); it was ignored",
            )
            return
        n_samples = len(data) // frame_bytes
        await self._meter.hear(n_samples / self._config.sample_rate_hz)
        self._metrics.streamed_s.inc(n_samples / self._config.sample_rate_hz)
        step_bytes = int(STEP_S * self._config.sample_rate_hz) * frame_bytes
        for start in range(0, len(data), step_bytes):
            if start:
                await asyncio.sleep(0)  # a large frame shares the loop with the other sessions
            await self._pump.room()
            await self._warn_if_late()
            step = data[start : start + step_bytes]
            self._pump.advance(lambda step=step: self._session.receive_audio(step), received_s)

    async def _take_packet(self, packet: bytes, received_s: float) -> None:
        """One Opus packet; a bad one is told, and its time goes by as silence."""
        bad: list[BadPacket] = []

        def hear() -> None:
            try:
                self._session.receive_audio(packet)
            except BadPacket as error:
                bad.append(error)

        await self._pump.room()
        n_before = self._session.received_samples
        self._pump.advance(hear, received_s)
        n_samples = self._session.received_samples - n_before
        self._metrics.streamed_s.inc(n_samples / self._config.sample_rate_hz)
        for error in bad:
            self._n_dropped_samples += error.n_samples
            await self._complain(error.code, error.detail)

    async def _warn_if_late(self) -> None:
        if self._pump.take_lateness():
            await self._send(
                wire.WarningMessage,
                channel=self._config.scored_channels[0],
                code="late",
                message="the service is behind: the oldest unscored segments are dropped",
            )

    async def _obey(self, command: wire.Command, received_s: float) -> bool:
        """Whether the command was to close."""
        await self._pump.room()
        match command:
            case wire.Flush():
                self._pump.advance(self._session.flush, received_s)
            case wire.Close():
                self._pump.advance(self._session.close, received_s)
                self._is_finishing = True
                self._pump.wake()
                return True
            case wire.Update():
                try:
                    check_same_endpointing(command.endpointing, self._config)
                    changes = smoothing_fields(command)
                    self._pump.advance(
                        lambda: self._session.update(command.thresholds, **changes), received_s
                    )
                except BadParameter as error:
                    # Well-formed, so the stream goes on with the options that it had.
                    await self._complain(error.code, error.detail)
            case wire.Keepalive():
                # Without audio there is no new checkpoint, and the last must not expire.
                if self._checkpoints.is_ageing:
                    await self._send_checkpoint()
        return False

    # --- out ---------------------------------------------------------------------------------

    async def _greet(self) -> None:
        backend, config = self._batcher.backend, self._config
        roles = self._narrator.roles
        for index, role in enumerate(roles):
            if not role.scored:
                log.info("session %s: channel %d (%s) is off", self._session_id, index, role.name)
        await self._send(
            wire.SessionCreated,
            config=greeting.options(config, self._query, roles),
            **greeting.maker(backend),
            limits=greeting.limits(self._settings),
            expires_at=greeting.expires_at(self._settings, datetime.now(UTC)),
        )
        narrowband = narrowband_warning(config, backend.spec)
        if narrowband is not None and not self._is_resumed:
            await self._send(wire.WarningMessage, **narrowband.model_dump())

    async def _write(self) -> None:
        """Sends results as they come, until the session is finishing and all is told."""
        while True:
            async for told in self._pump.told():
                await self._tell(told)
            if self._is_finishing:
                return
            await self._pump.more()

    async def _tell(self, told: Told) -> None:
        match told.event:
            case Segment() as segment:
                timing = told.timing
                assert timing is not None
                began_s = time.perf_counter()
                lag_s = began_s - timing.received_s
                await self._send(
                    wire.SegmentMessage,
                    lag_ms=round(lag_s * 1000),
                    **self._narrator.segment(segment),
                )
                self._metrics.told(segment)
                self._metrics.lag_s.observe(lag_s)
                send_s = time.perf_counter() - began_s
                self._capacity.segment_handled(timing.features_s + send_s)
                self._metrics.stages(features=timing.features_s, send=send_s)
                if segment.abstain != "no_speech":
                    self._metrics.stages(queue=timing.queue_s, inference=timing.inference_s)
            case Utterance() as utterance:
                await self._send(wire.UtteranceMessage, **self._narrator.utterance(utterance))
            case Alert() as alert:
                await self._send(wire.AlertMessage, **self._narrator.alert(alert))
            case Checkpoint() as checkpoint:
                if self._checkpoints.take(checkpoint):
                    await self._send_checkpoint()
            case Warning() as warning:
                await self._send(
                    wire.WarningMessage,
                    channel=warning.channel,
                    code=warning.code,
                    message=warning.message,
                )

    async def _send_checkpoint(self) -> None:
        n_dropped = self._n_dropped_before + self._pump.n_dropped
        message = self._checkpoints.message(self._n_dropped_samples, n_dropped)
        await self._send(wire.CheckpointMessage, **message)

    async def _complain(self, code: str, message: str) -> None:
        """A non-fatal error: the stream goes on."""
        self._metrics.refused(code)
        error = BadMessage(message, code=code)
        await self._send(
            wire.ErrorMessage, **wire.error_fields(error, self._request_id, fatal=False)
        )

    async def _say_goodbye(self) -> None:
        n_dropped = self._n_dropped_samples * len(self._config.scored_channels)
        dropped_ms = round(n_dropped * 1000 / self._config.sample_rate_hz)
        hop_samples = self._batcher.backend.spec.segments.hop_samples
        n_segments = self._n_dropped_before + self._pump.n_dropped
        dropped_ms += self._narrator.clock.length_ms(n_segments * hop_samples)
        await self._send(
            wire.SessionClosed,
            reason=CLIENT_CLOSED,
            summary=tuple(map(self._narrator.summary, self._session.summaries())),
            usage=self._narrator.usage(self._session.usage, dropped_ms),
        )
        await self._socket.close(1000)

    async def _send(self, kind: type[wire.Message], **fields: Any) -> None:
        """Sends one message in its turn.

        Raises `SlowClient` when it cannot be written in time, and `WebSocketDisconnect` when
        nobody is there.
        """
        async with self._sending:
            message = kind.model_validate(
                {"seq": self._seq, "session_id": self._session_id, **fields}
            )
            self._seq += 1
            try:
                async with asyncio.timeout(self._settings.send_timeout_s):
                    await self._socket.send_text(message.model_dump_json())
            except TimeoutError as error:
                raise SlowClient(
                    f"results could not be sent for {self._settings.send_timeout_s:g} s",
                    remedy="read the results as they come, then connect again",
                ) from error
            except RuntimeError as error:  # the connection was closed under us
                raise WebSocketDisconnect(1006) from error

    async def _end_with(self, error: SerError) -> None:
        """The fatal `error` message, then the close code; a client that left gets neither."""
        self._metrics.refused(error.code)
        code = problems.problem_of(error).close_code
        with contextlib.suppress(WebSocketDisconnect, SerError, RuntimeError):
            if (self._is_late or isinstance(error, SlowClient)) and (drop := self._drop()):
                drop(self._error_text(error), code)
                return
            await self._send(
                wire.ErrorMessage, **wire.error_fields(error, self._request_id, fatal=True)
            )
            await self._socket.close(code, error.code)

    def _error_text(self, error: SerError) -> str:
        fields = wire.error_fields(error, self._request_id, fatal=True)
        return wire.ErrorMessage(
            seq=self._seq, session_id=self._session_id, **fields
        ).model_dump_json()

    def _refuse_unread(self) -> tuple[str, str]:
        """The connection closes for a frame far too large: the last message, and the reason."""
        self._cut_off = _too_large("the frame")
        return self._error_text(self._cut_off), self._cut_off.code

    def _drop(self) -> Any:
        """`service.connection`'s way out of a full send buffer, where that is the server."""
        return self._socket.scope.get("extensions", {}).get("glrf.drop")


def _too_large(what: str) -> TooLarge:
    return TooLarge(
        f"{what} is too large",
        remedy=f"send at most {wire.MAX_FRAME_BYTES} bytes a frame",
        code="frame_too_large",
    )


async def _first_failure(reader: "asyncio.Task[None]", writer: "asyncio.Task[None]") -> None:
    """Waits for both; the first exception ends the wait."""
    await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_EXCEPTION)
    for task in (reader, writer):
        if task.done():
            task.result()
