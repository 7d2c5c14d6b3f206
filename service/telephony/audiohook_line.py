"""The messages of Genesys AudioHook (version 2), and the order that both sides keep them in.

From Genesys Cloud's developer documentation, "AudioHook protocol reference": every message has
`version`, `id` (the session's), `type`, `seq` and `parameters`; the client's also `serverseq` and
`position`, the server's `clientseq`. Fields that are not used here are passed over.
"""

import contextlib
import json
import re
import uuid
from typing import Annotated, Any, Final, Literal

from fastapi import WebSocket
from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from ser_core.errors import AccessError, BadMessage, SerError, SessionTooLong
from service import problems
from service.frames import frame_of
from service.requests import CALL_RATE_HZ

VERSION: Final = "2"
#: Longest text message, as the protocol has it.
MAX_TEXT_CHARS: Final = 65_535
MAX_INFO_CHARS: Final = 500
NULL_ID: Final = str(uuid.UUID(int=0))

_DURATION = re.compile(r"PT(\d{1,9}(?:\.\d*)?|\.\d+)S")


def _duration_samples(text: str) -> str:
    samples(text)
    return text


def samples(duration: str) -> int:
    """`PT1.25S` at 8 kHz; raises `ValueError`."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError("not a duration like PT1.25S")
    return round(float(match[1]) * CALL_RATE_HZ)


Duration = Annotated[str, AfterValidator(_duration_samples)]
Id = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]


class Media(BaseModel):
    type: str
    format: str
    channels: list[str] = Field(max_length=8)
    rate: int


class Participant(BaseModel):
    id: Id


class Open(BaseModel):
    """The parameters of `open`; those of a connection probe have null ids."""

    organization_id: Annotated[Id, Field(alias="organizationId")]
    conversation_id: Annotated[Id, Field(alias="conversationId")]
    participant: Participant
    media: list[Media] = Field(max_length=32)
    custom_config: Annotated[dict[str, Any] | None, Field(alias="customConfig")] = None

    @property
    def is_probe(self) -> bool:
        """Whether only the connection is tried, before any call."""
        return self.conversation_id == NULL_ID and self.participant.id == NULL_ID


class Gap(BaseModel):
    """The parameters of `discarded` and `resumed`: audio that was not sent."""

    start: Duration
    discarded: Duration

    @property
    def end_samples(self) -> int:
        """Where on the client's timeline it ends."""
        return samples(self.start) + samples(self.discarded)


class ClientMessage(BaseModel):
    """What every message of the client has."""

    version: Literal["2"]
    id: Id
    type: str = Field(max_length=64)
    seq: int = Field(ge=0)
    serverseq: int = Field(ge=0)
    position: Duration
    parameters: dict[str, Any]


_OPEN = TypeAdapter(Open)
_GAP = TypeAdapter(Gap)


def opening(message: ClientMessage) -> Open:
    """The parameters of `open`; raises `BadMessage`."""
    if message.type != "open":
        raise BadMessage(f"{message.type!r} came before open", remedy="begin with open")
    return _parameters(_OPEN, message)


def gap(message: ClientMessage) -> Gap:
    """Those of `discarded` or `resumed`; raises `BadMessage`."""
    return _parameters(_GAP, message)


class Line:
    """One connection: checks the order of what comes, and numbers what goes."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._id = socket.headers.get("audiohook-session-id", "")
        self._seq = 0
        self._clientseq = 0
        self.is_closing = False

    def accept(self, text: str) -> ClientMessage:
        """One text frame; raises `BadMessage` that names what is wrong with it."""
        if len(text) > MAX_TEXT_CHARS:
            raise BadMessage(
                f"a text message has more than {MAX_TEXT_CHARS} characters",
                remedy="send AudioHook messages",
            )
        try:
            message = ClientMessage.model_validate_json(text)
        except ValidationError as error:
            raise _bad(error, "the message") from error
        if message.seq != self._clientseq + 1:
            raise BadMessage(
                f"seq {message.seq} follows {self._clientseq}", remedy="count messages by one"
            )
        self._clientseq = message.seq
        if message.serverseq > self._seq:
            raise BadMessage(
                f"serverseq {message.serverseq} is of no message, the last was {self._seq}",
                remedy="give the seq of the last message received",
            )
        if message.id != (self._id or message.id):
            raise BadMessage(
                "the message is of another session than its connection",
                remedy="give the Audiohook-Session-Id as id",
            )
        self._id = message.id
        return message

    async def receive(self) -> ClientMessage | bytes:
        """The next message, or audio; raises `BadMessage` and `WebSocketDisconnect`."""
        data, text = frame_of(await self._socket.receive())
        return data if data is not None else self.accept(text or "")

    async def closing(self) -> None:
        """Waits for the client's `close`; what else it sends, good or bad, is passed over."""
        while not self.is_closing:
            _, text = frame_of(await self._socket.receive())
            with contextlib.suppress(ValidationError):
                message = ClientMessage.model_validate_json(text or "")
                self._clientseq = message.seq
                self.is_closing = message.type == "close"

    async def send(self, kind: str, **parameters: Any) -> None:
        """One message of ours."""
        self._seq += 1
        message = {
            "version": VERSION,
            "id": self._id or NULL_ID,
            "type": kind,
            "seq": self._seq,
            "clientseq": self._clientseq,
            "parameters": parameters,
        }
        await self._socket.send_text(json.dumps(message))

    async def disconnect(self, error: SerError) -> None:
        """Asks the client to end the session, and says why."""
        match error:
            case AccessError():
                reason = "unauthorized"
            case SessionTooLong():
                reason = "completed"
            case _:
                reason = "error"
        info = f"{problems.problem_of(error).status} {error.code}: {error.detail}"
        await self.send("disconnect", reason=reason, info=info[:MAX_INFO_CHARS])


def _parameters(kind: TypeAdapter[Any], message: ClientMessage) -> Any:
    try:
        return kind.validate_python(message.parameters)
    except ValidationError as error:
        raise _bad(error, f"the parameters of {message.type!r}") from error


def _bad(error: ValidationError, what: str) -> BadMessage:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])[:64]
    cause = "is not JSON" if first["type"] == "json_invalid" else f"{place}: {first['msg']}"
    return BadMessage(f"{what}: {cause}", remedy="send AudioHook messages of version 2")
