"""`WS /v1/twilio`: a call's audio from Twilio Media Streams.

The messages are those of Twilio's documentation, "Media Streams - WebSocket messages":
`connected`, `start`, then `media` (base64 of mu-law at 8 kHz, with the track and its time), `dtmf`
and `mark`, and `stop`. Nothing is sent back: a stream that `<Start>` opens goes one way.
"""

import asyncio
import base64
import binascii
import contextlib
import math
import time
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from ser_core.errors import (
    BadMessage,
    Idle,
    SerError,
    UnsupportedEncoding,
)
from service import problems
from service.auth import TWILIO_PATH
from service.frames import frame_of
from service.handshake import websocket
from service.requests import CALL_RATE_HZ, StreamQuery
from service.runtime import Runtime
from service.telephony.call import OPENING_S, Call, parse_options, upgraded
from service.telephony.timeline import HOLD_SAMPLES, Timeline

#: What Twilio hears from the phone (the customer's), and what it plays to it (the agent's).
TRACKS = ("inbound", "outbound")
MAX_ID_CHARS = 64
#: When no media has come for so long, none is waited for: what was said before is told.
QUIET_S = 1.0
#: Without lateness for so long, more of it is told anew.
PUNCTUAL_S = 10.0
#: A gap that ends further ahead of the clock is believed when two chunks agree on it.
SURE_AHEAD_S = 1.0

router = APIRouter()


# --- messages, tolerant of fields that are not used here --------------------------------------


class MediaFormat(BaseModel):
    encoding: str = "audio/x-mulaw"
    sample_rate: Annotated[int, Field(alias="sampleRate")] = CALL_RATE_HZ
    channels: int = 1


class StartDetails(BaseModel):
    stream_sid: Annotated[str, Field(alias="streamSid", max_length=MAX_ID_CHARS)]
    call_sid: Annotated[str, Field(alias="callSid", max_length=MAX_ID_CHARS)]
    tracks: list[str] = Field(default_factory=lambda: ["inbound"], max_length=8)
    custom_parameters: Annotated[dict[str, Any], Field(alias="customParameters")] = {}
    media_format: Annotated[MediaFormat, Field(alias="mediaFormat")] = MediaFormat()


class Connected(BaseModel):
    event: Literal["connected"]


class Start(BaseModel):
    event: Literal["start"]
    start: StartDetails


class MediaDetails(BaseModel):
    """`timestamp` is in milliseconds from the stream's start; numbers come as text."""

    track: str = "inbound"
    timestamp: Annotated[int, Field(ge=0, le=2**40)]
    payload: str


class Media(BaseModel):
    event: Literal["media"]
    media: MediaDetails


class Stop(BaseModel):
    event: Literal["stop"]


Message = Annotated[Connected | Start | Media | Stop, Field(discriminator="event")]
_MESSAGES: TypeAdapter[Connected | Start | Media | Stop] = TypeAdapter(Message)


class Unknown(BadMessage):
    """A message of a type that is not used here (`mark`, `dtmf`, or a later one)."""


class Malformed(BadMessage):
    """A message of a known type, whose fields are not what they must be."""


def parse(text: str | None) -> Connected | Start | Media | Stop:
    """One text frame; raises `Unknown`, `Malformed`, and `BadMessage` for what is none of these."""
    try:
        return _MESSAGES.validate_json(text or "")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"][1:])[:64]
        match first["type"]:
            case "json_invalid":
                kind, cause = BadMessage, "the frame is not JSON"
            case "union_tag_invalid":
                kind, cause = Unknown, "the event is of no use here"
            case "union_tag_not_found" | "model_attributes_type" | "dict_type":
                kind, cause = BadMessage, "the message has no event"
            case _:
                kind, cause = Malformed, f"{place}: {first['msg']}"
        raise kind(cause, remedy="send the messages of Twilio Media Streams") from error


# --- the route --------------------------------------------------------------------------------


@websocket(router, TWILIO_PATH)
async def twilio(socket: WebSocket) -> None:
    """Refused before the upgrade where there is no room; its options come with `start`."""
    runtime: Runtime = socket.app.state.runtime
    request_id: str = socket.scope["state"]["request_id"]
    query = socket.query_params.multi_items()
    if not await upgraded(socket):
        return
    try:
        start = await _start(socket)
        options = parse_options(query, start.custom_parameters)
        sides = _sides(start)
        call = TwilioCall(
            socket, runtime, options.stream(sides), request_id, start, options.webhook_url
        )
        with runtime.stream_admitted(call):
            await call.run()
    except WebSocketDisconnect:
        return
    except SerError as error:
        runtime.metrics.refused(error.code)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await _close(socket, error)


async def _start(socket: WebSocket) -> StartDetails:
    """What is streamed; raises `BadMessage`, and `Idle` where it is not said in time."""
    try:
        async with asyncio.timeout(OPENING_S):
            while True:
                _, text = frame_of(await socket.receive())
                with contextlib.suppress(Unknown):
                    match parse(text):
                        case Start(start=start):
                            return start
                        case Connected():
                            pass
                        case _:
                            raise BadMessage(
                                "media or stop came before start",
                                remedy="send the messages of Twilio Media Streams",
                            )
    except TimeoutError as error:
        raise Idle(f"no start came for {OPENING_S:g} s", remedy="begin with start") from error


def _sides(start: StartDetails) -> tuple[int, ...]:
    """The tracks as indices of `TRACKS`; raises `UnsupportedEncoding` and `BadMessage`."""
    media = start.media_format
    if (media.encoding, media.sample_rate, media.channels) != ("audio/x-mulaw", CALL_RATE_HZ, 1):
        raise UnsupportedEncoding(
            f"the stream is {media.encoding[:32]!r}, {media.sample_rate} Hz, "
            f"{media.channels} channels",
            remedy=f"stream audio/x-mulaw, {CALL_RATE_HZ} Hz, 1 channel",
        )
    sides = tuple(index for index, track in enumerate(TRACKS) if track in start.tracks)
    if not sides:
        raise BadMessage(
            "start names no track that is known", remedy=f"stream {' or '.join(TRACKS)}"
        )
    return sides


async def _close(socket: WebSocket, error: SerError | None) -> None:
    if error is None:
        await socket.close(1000)
    else:
        # Twilio shows the reason in its debugger; a close frame holds 123 bytes of it.
        reason = f"{error.code}: {error}".encode()[:123].decode(errors="ignore")
        await socket.close(problems.problem_of(error).close_code, reason)


class _Chunk(NamedTuple):
    """Audio that its track says is at `stamp_ms`, and that lies at `at` on the timeline."""

    track: str
    stamp_ms: int
    at: int
    data: bytes

    def is_near(self, other: "_Chunk") -> bool:
        """Whether the two are of one place, in any order."""
        return other.at - HOLD_SAMPLES <= self.at <= other.at + len(other.data) + HOLD_SAMPLES


class TwilioCall(Call):
    """One stream of Twilio's, with the customer's track, the agent's, or both as channels."""

    front_end = "twilio"

    def __init__(
        self,
        socket: WebSocket,
        runtime: Runtime,
        query: StreamQuery,
        request_id: str,
        start: StartDetails,
        webhook_url: str | None,
    ) -> None:
        external = {"call_sid": start.call_sid, "stream_sid": start.stream_sid}
        super().__init__(
            socket, runtime, query, request_id, external=external, webhook_url=webhook_url
        )
        self._channels = {TRACKS[side]: channel for channel, side in enumerate(_sides(start))}
        self._timeline = Timeline(len(self._channels))
        self._noted_s: dict[str, float] = {}  # when audio last came too late, a track was moved
        self._doubted: _Chunk | None = None  # one far ahead, which nothing has confirmed yet

    async def _converse(self) -> None:
        while True:
            data, text, received_s = await self._next_frame()
            try:
                if data is not None:
                    raise Malformed("a binary frame came")
                match parse(text):
                    case Media(media=media):
                        await self._take_media(media, received_s)
                    case Stop():
                        return
                    case Start():
                        raise Malformed("start came twice")
                    case Connected():
                        pass
            except Unknown:
                continue
            except Malformed as error:
                await self._complain("bad_media", f"{error}; it was ignored")

    async def _take_media(self, media: MediaDetails, received_s: float) -> None:
        if media.track not in self._channels:
            raise Malformed(f"media of the track {media.track[:32]!r}, which start did not name")
        try:
            data = base64.b64decode(media.payload, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Malformed("the payload of media is not base64") from error
        stamp = media.timestamp * CALL_RATE_HZ // 1000
        at = self._timeline.time_of(self._channels[media.track], stamp)
        chunk = _Chunk(media.track, media.timestamp, at, data)
        doubted = self._doubted
        if not self._timeline.is_leap(chunk.at):
            if doubted is not None and doubted.track == chunk.track:
                await self._drop_doubted(doubted)
            await self._place(chunk, received_s)
        elif doubted is not None and chunk.is_near(doubted):
            self._doubted = None
            await self._leap(min(doubted.at, chunk.at), received_s)
            await self._place(doubted, received_s)
            await self._place(chunk, received_s)
        elif not self._is_plausible(chunk.at):
            raise Malformed(f"media at {media.timestamp} ms, where the call cannot be yet")
        elif self._is_plausible(chunk.at, SURE_AHEAD_S):
            await self._leap(chunk.at, received_s)
            await self._place(chunk, received_s)
        else:
            if doubted is not None:
                await self._drop_doubted(doubted)
            self._doubted = chunk

    async def _drop_doubted(self, doubted: _Chunk) -> None:
        """It was alone with its time: to believe it would make all that follows too late."""
        self._doubted = None
        await self._complain(
            "bad_media", f"media at {doubted.stamp_ms} ms, far ahead of all other; it was ignored"
        )

    async def _leap(self, at: int, received_s: float) -> None:
        held, n_missing = self._timeline.leap(at)
        await self._hear(held, received_s)
        await self._skip(n_missing, received_s)

    async def _place(self, chunk: _Chunk, received_s: float) -> None:
        n_late = self._timeline.n_late
        n_moved = self._timeline.place(self._channels[chunk.track], chunk.at, chunk.data)
        n_late = self._timeline.n_late - n_late
        if n_late:
            await self._note_late(chunk, n_late, received_s)
        if n_moved:
            await self._note_moved(chunk, n_moved, received_s)
        if audio := self._timeline.ready():
            await self._hear(audio, received_s)

    async def _note_late(self, chunk: _Chunk, n_late: int, received_s: float) -> None:
        """Samples of one track whose time has gone by: counted, and told once while it lasts."""
        n_late //= len(self._channels)
        self._n_dropped_samples += n_late
        self._missing_s.inc(n_late / CALL_RATE_HZ)
        await self._tell_once(
            "late",
            received_s,
            f"{chunk.track} at {chunk.stamp_ms} ms came too late: that time had gone by as "
            "silence, and so does the time of what is as late; it is not told again",
        )

    async def _note_moved(self, chunk: _Chunk, n_moved: int, received_s: float) -> None:
        await self._tell_once(
            "moved",
            received_s,
            f"{chunk.track} was late for a second: from {chunk.stamp_ms} ms on it is put "
            f"{n_moved * 1000 // CALL_RATE_HZ} ms later, level with the other track",
        )

    async def _tell_once(self, what: str, received_s: float, message: str) -> None:
        """Tells of lateness that is nobody's fault, once while it lasts."""
        is_news = received_s - self._noted_s.get(what, -math.inf) > PUNCTUAL_S
        self._noted_s[what] = received_s
        if is_news:
            await self._complain("bad_media", message, counts=False)

    async def _receive(self) -> Any:
        """However long it takes: whether Twilio is there, the connection's pings find out."""
        for _ in range(2):  # once alone may be us, who stood still
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S / 2):
                    return await self._socket.receive()
        await self._fall_quiet()
        return await self._socket.receive()

    async def _fall_quiet(self) -> None:
        """The time itself goes by when media comes again: it may come late, and with its place."""
        now_s = time.perf_counter()
        await self._hear(self._timeline.rest(), now_s)
        if self._session.received_samples:  # else there is no result so far
            await self._end_utterances(now_s)

    def _held_back(self) -> bytes:
        return self._timeline.rest()

    async def _hang_up(self, error: SerError | None) -> None:
        await _close(self._socket, error)
