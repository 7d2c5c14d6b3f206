"""`WS /v1/audiohook`: a call's audio from Genesys Cloud, by the AudioHook protocol.

From Genesys Cloud's developer documentation ("AudioHook protocol reference", "AudioHook session
walkthrough"): the client opens, we choose one of the media that it offers, audio comes in binary
frames, and the client closes; we answer `closed` when the last result is told. Audio that is paused
or discarded leaves a gap, which goes by as silence; meanwhile a ping must be answered as soon as
ever. A connection probe opens and closes without a call.
"""

import asyncio
import contextlib
from typing import Any, Final

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from ser_core.errors import (
    Idle,
    InputError,
    NotAllowed,
    Restarting,
    SerError,
    UnsupportedEncoding,
)
from service import problems
from service.auth import AUDIOHOOK_PATH
from service.frames import frame_of
from service.handshake import websocket
from service.requests import CALL_RATE_HZ, CallQuery
from service.runtime import Runtime
from service.telephony.audiohook_line import ClientMessage, Line, Media, Open, gap, opening, samples
from service.telephony.call import OPENING_S, Call, parse_options, upgraded

#: The parties of a call: the customer's channel is the external one.
CHANNELS: Final = ("external", "internal")
#: After our last word: how long the client may take to close.
CLOSING_S: Final = 2.0
#: What may wait while a gap goes by: a minute of both channels.
MAX_AHEAD_BYTES: Final = 2**20
#: What a message takes at least, so that empty ones do not wait without number.
MESSAGE_BYTES: Final = 256

router = APIRouter()


@websocket(router, AUDIOHOOK_PATH)
async def audiohook(socket: WebSocket) -> None:
    """Refused before the upgrade where there is no room; its options come with `open`."""
    runtime: Runtime = socket.app.state.runtime
    query = socket.query_params.multi_items()
    if not await upgraded(socket):
        return
    line = Line(socket)
    try:
        message, asked = await _opening(socket, line)
        options = parse_options(query, asked.custom_config)
        media = _chosen(asked.media)
        call = AudioHookCall(socket, runtime, line, options, message, asked, media)
        if asked.is_probe:
            await _probed(line, media)
            await socket.close(1000)
            return
        with runtime.stream_admitted(call):
            await call.run()
    except (WebSocketDisconnect, RuntimeError):
        return
    except SerError as error:
        runtime.metrics.refused(error.code)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await _hang_up(socket, line, error)


async def _opening(socket: WebSocket, line: Line) -> tuple[ClientMessage, Open]:
    """The first message; raises `BadMessage`, `NotAllowed`, `Idle`."""
    try:
        async with asyncio.timeout(OPENING_S):
            message = await line.receive()
    except TimeoutError as error:
        raise Idle(f"no open came for {OPENING_S:g} s", remedy="begin with open") from error
    if isinstance(message, bytes):
        raise _early_audio()
    asked = opening(message)
    # The header is signed, the message is not.
    if asked.organization_id != socket.headers.get("audiohook-organization-id"):
        raise NotAllowed(
            "organizationId is not the Audiohook-Organization-Id",
            remedy="open sessions of the organization that signed the request",
        )
    return message, asked


def _early_audio() -> InputError:
    return InputError("audio came before open", remedy="begin with open", code="bad_message")


def _chosen(offered: list[Media]) -> Media:
    """The media with most parties; raises `UnsupportedEncoding` where none is spoken here."""
    known = [
        media
        for media in offered
        if (media.type, media.format, media.rate) == ("audio", "PCMU", CALL_RATE_HZ)
        and media.channels
        and set(media.channels) <= set(CHANNELS)
        and len(set(media.channels)) == len(media.channels)
    ]
    if not known:
        raise UnsupportedEncoding(
            "no media is offered that is spoken here",
            remedy=f"offer PCMU at {CALL_RATE_HZ} Hz with the channels external, internal or both",
        )
    return max(known, key=lambda media: len(media.channels))


async def _probed(line: Line, media: Media) -> None:
    """A connection probe: opened and closed, without a session."""
    await line.send("opened", startPaused=False, media=[media.model_dump()])
    try:
        async with asyncio.timeout(OPENING_S):
            while True:
                message = await line.receive()
                if isinstance(message, ClientMessage):
                    if message.type == "ping":
                        await line.send("pong")
                    if message.type == "close":
                        await line.send("closed")
                        return
    except TimeoutError as error:
        raise Idle(f"the probe was not closed for {OPENING_S:g} s", remedy="close it") from error


async def _hang_up(socket: WebSocket, line: Line, error: SerError | None) -> None:
    """The last words and the close, for which the client is waited for a little."""
    with contextlib.suppress(TimeoutError, SerError):
        async with asyncio.timeout(CLOSING_S):
            if error is not None and not line.is_closing:
                await line.disconnect(error)
            await line.closing()
            await line.send("closed")
            while True:  # the client closes the connection, and so we leave by an exception
                frame_of(await socket.receive())
    code = 1000 if error is None else problems.problem_of(error).close_code
    await socket.close(code, "" if error is None else error.code)


class Ahead:
    """What came and waits for its turn: `MAX_AHEAD_BYTES`, and one message more."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[tuple[ClientMessage | bytes | Exception, float, int]]
        self._queue = asyncio.Queue()
        self._n_bytes = 0
        self._has_room = asyncio.Event()

    async def put(self, message: ClientMessage | bytes, received_s: float, n_bytes: int) -> None:
        """Waits for room."""
        while self._n_bytes >= MAX_AHEAD_BYTES:
            self._has_room.clear()
            await self._has_room.wait()
        n_bytes += MESSAGE_BYTES
        self._n_bytes += n_bytes
        self._queue.put_nowait((message, received_s, n_bytes))

    def end(self, error: Exception) -> None:
        """No more comes, for this reason."""
        self._queue.put_nowait((error, 0.0, 0))

    async def get(self) -> tuple[ClientMessage | bytes, float]:
        """The next one, and when it came; raises what was the end, after all before it."""
        message, received_s, n_bytes = await self._queue.get()
        self._n_bytes -= n_bytes
        self._has_room.set()
        if isinstance(message, Exception):
            try:
                raise message
            finally:
                del message  # its traceback holds this frame
        return message, received_s


class AudioHookCall(Call):
    """One AudioHook session, with the external channel, the internal one, or both."""

    front_end = "audiohook"

    def __init__(
        self,
        socket: WebSocket,
        runtime: Runtime,
        line: Line,
        options: CallQuery,
        message: ClientMessage,
        asked: Open,
        media: Media,
    ) -> None:
        sides = tuple(CHANNELS.index(channel) for channel in media.channels)
        offset_samples = samples(message.position)
        external = {
            "conversation_id": asked.conversation_id,
            "audiohook_session_id": message.id,
            "organization_id": asked.organization_id,
        }
        super().__init__(
            socket,
            runtime,
            options.stream(sides, round(offset_samples * 1000 / CALL_RATE_HZ)),
            socket.scope["state"]["request_id"],
            external=external,
            webhook_url=options.webhook_url,
        )
        self._line = line
        self._media = media
        self._offset_samples = offset_samples
        self._ahead = Ahead()

    async def _open(self) -> None:
        await self._line.send("opened", startPaused=False, media=[self._media.model_dump()])

    async def _converse(self) -> None:
        listening = asyncio.create_task(self._listen())
        try:
            while True:
                message, received_s = await self._ahead.get()
                if isinstance(message, bytes):
                    await self._take_audio(message, received_s)
                    continue
                match message.type:
                    case "close":
                        return
                    case "paused":  # what was said before must not wait until it goes on
                        await self._end_utterances(received_s)
                    case "resumed" | "discarded":
                        await self._take_gap(message, received_s)
                    case _:  # `error` is the client's own affair; others are of later versions
                        pass
        finally:
            listening.cancel()
            await asyncio.wait({listening})

    async def _listen(self) -> None:
        """Answers what the client waits for; all else waits for its turn, and so does an error."""
        try:
            while not self._line.is_closing:
                data, text, received_s = await self._next_frame()
                if data is not None:
                    await self._ahead.put(data, received_s, len(data))
                    continue
                message = self._line.accept(text or "")
                match message.type:
                    case "ping":
                        await self._line.send("pong")
                    case "update":
                        await self._line.send("updated")
                    case _:
                        self._line.is_closing = message.type == "close"
                        await self._ahead.put(message, received_s, len(text or ""))
        except Exception as error:
            self._ahead.end(error)

    async def _take_audio(self, data: bytes, received_s: float) -> None:
        n_whole = len(data) // self._session.frame_bytes
        if n_whole * self._session.frame_bytes != len(data):
            self._n_dropped_samples += n_whole
            await self._complain(
                "bad_media",
                f"a frame of {len(data)} bytes is not whole samples of "
                f"{self._session.frame_bytes} channels; its time went by as silence",
            )
            await self._skip(n_whole, received_s)
        else:
            await self._hear(data, received_s)

    async def _take_gap(self, message: ClientMessage, received_s: float) -> None:
        end = gap(message).end_samples - self._offset_samples
        n_missing = end - self._session.received_samples
        if n_missing > 0 and not self._is_plausible(end):
            await self._complain(
                "bad_media", f"{message.type} to where the call cannot be yet; it was ignored"
            )
        elif n_missing > 0:
            await self._skip(n_missing, received_s)

    async def _drain(self, writer: Any) -> None:
        if isinstance(self._stop_reason, Restarting):
            await self._line.send("reconnect", info="the service is restarting")
        await super()._drain(writer)

    async def _hang_up(self, error: SerError | None) -> None:
        await _hang_up(self._socket, self._line, error)
