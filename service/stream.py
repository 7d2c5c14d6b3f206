"""`WS /v1/stream`: one session over one WebSocket, in the service's own protocol.

Whatever ends the session, the client gets an `error` or `session.closed` message first, then the
close code.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from ser_core.decode import SNIFF_BYTES, sniff_container
from ser_core.errors import (
    BadParameter,
    CheckpointRejected,
    SerError,
    SlowClient,
    UnsupportedEncoding,
)
from ser_core.events import Checkpoint
from ser_core.opus import BadPacket, packet_samples
from service import problems, wire
from service.checkpoint import StreamState
from service.frames import too_large
from service.handshake import accept, deny, websocket
from service.live import CLIENT_CLOSED, CLIENT_LEFT, LiveSession
from service.requests import StreamQuery, check_same_endpointing, parse_query, smoothing_fields
from service.resumption import Checkpoints, opened, reject
from service.runtime import Runtime

router = APIRouter()


@websocket(router, "/v1/stream")
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
        admitted.enter_context(runtime.stream_admitted(session, is_resumed=kept is not None))
    except CheckpointRejected as error:
        await reject(socket, error)
        return
    except SerError as error:
        await deny(socket, error)
        return
    if kept is not None:
        runtime.metrics.sessions_resumed.inc()
    with admitted:
        await session.run()


class Stream(LiveSession):
    """A session whose client speaks the wire contract; it can go on from a checkpoint."""

    front_end = "stream"
    tells_checkpoints = True

    def __init__(
        self,
        socket: WebSocket,
        runtime: Runtime,
        query: StreamQuery,
        request_id: str,
        kept: StreamState | None = None,
    ) -> None:
        super().__init__(socket, runtime, query, request_id, kept)
        # What a stream begins with says whether it is a file: one that goes on does not begin.
        self._head = b"" if kept is None else bytes(SNIFF_BYTES)
        self._checkpoints = Checkpoints(runtime, self._batcher, query, self._config, self.id, kept)
        self._cut_off: SerError | None = None
        self._write_at_once: Callable[[bytes], bool] = lambda _: False

    async def _open(self) -> None:
        extensions = self._socket.scope.setdefault("extensions", {})
        extensions["glrf.too_large"] = self._refuse_unread
        if self._config.encoding != "opus":
            extensions["glrf.hear"] = self._hear_at_once
        self._write_at_once = extensions.get("glrf.write", self._write_at_once)
        await accept(self._socket)

    async def _greet(self) -> None:
        """A stream that goes on has its checkpoint renewed: it may be cut or fall silent again."""
        await super()._greet()
        if self._is_resumed:
            await self._send_checkpoint()

    async def run(self) -> None:
        """As any session; then it and the connection let go of each other."""
        try:
            await super().run()
        finally:
            self._socket.scope["extensions"].clear()

    async def _drain(self, writer: "asyncio.Task[None]") -> None:
        """And from where to go on elsewhere."""
        await super()._drain(writer)
        if self._checkpoints.has_unsent:
            await self._send_checkpoint()

    # --- in ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            data, text, received_s = await self._next_frame()
            if data is not None:
                await self._take_audio(data, received_s)
            elif await self._obey(wire.parse_command(text or ""), received_s):
                return

    def _hear_at_once(self, data: bytes) -> bool:
        """Leaves what the stream begins with, and what has to be complained of."""
        if len(self._head) < SNIFF_BYTES or not data or len(data) % self._session.frame_bytes:
            return False
        return super()._hear_at_once(data)

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
        await self._hear(data, received_s)

    async def _take_packet(self, packet: bytes, received_s: float) -> None:
        """One Opus packet; a bad one is told, and its time goes by as silence."""
        bad: list[BadPacket] = []

        def hear() -> None:
            try:
                self._session.receive_audio(packet)
            except BadPacket as error:
                bad.append(error)

        audio_s = packet_samples(packet) / self._config.sample_rate_hz
        await self._meter.hear(audio_s, is_replay=self._session.is_replaying)
        self._heard_s.inc(audio_s)
        await self._pump.room()
        await self._warn_if_late()
        self._pump.advance(hear, received_s)
        for error in bad:
            await self._complain(error.code, error.detail)

    async def _obey(self, command: wire.Command, received_s: float) -> bool:
        """Whether the command was to close."""
        await self._pump.room()
        match command:
            case wire.Flush():
                self._pump.advance(self._session.flush, received_s)
            case wire.Close():
                self._pump.advance(self._session.close, received_s)
                self._finish()
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

    def _deliver_at_once(self, message: wire.Message) -> bool:
        return self._write_at_once(message.__pydantic_serializer__.to_json(message))

    async def _deliver(self, message: wire.Message) -> None:
        await self._socket.send_text(message.model_dump_json())

    async def _keep(self, checkpoint: Checkpoint) -> None:
        if self._checkpoints.take(checkpoint):
            await self._send_checkpoint()

    async def _send_checkpoint(self) -> None:
        n_dropped = self._n_dropped_before + self._pump.n_dropped
        message = self._checkpoints.message(self._n_dropped_samples, n_dropped)
        await self._send(wire.CheckpointMessage, **message)

    async def _say_goodbye(self) -> str:
        await self._send(wire.SessionClosed, **self._closed(CLIENT_CLOSED))
        await self._socket.close(1000)
        return CLIENT_CLOSED

    async def _end_with(self, error: SerError) -> None:
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
        return wire.ErrorMessage(seq=self._seq, session_id=self.id, **fields).model_dump_json()

    def _refuse_unread(self) -> tuple[str, str]:
        """The connection closes for a frame far too large: the last message, and the reason."""
        self._cut_off = too_large("the frame")
        return self._error_text(self._cut_off), self._cut_off.code

    def _drop(self) -> Any:
        """`service.connection`'s way out of a full send buffer, where that is the server."""
        return self._socket.scope.get("extensions", {}).get("glrf.drop")

    def _reason_of_leaving(self) -> str:
        if self._cut_off is None:
            return CLIENT_LEFT
        self._metrics.refused(self._cut_off.code)
        return self._cut_off.code
