"""What is said of a session as a whole: in `session.created`, and in the list of live sessions."""

from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ser_core.stream_config import StreamConfig
from service import wire
from service.inference.backend import Backend
from service.manifest import ChannelConfig, ModelCard, code, model_card, option_fields
from service.requests import Role, StreamQuery
from service.settings import Settings

#: By what way a session's audio comes.
FrontEnd = Literal["stream", "twilio", "audiohook"]


class SessionEntry(BaseModel):
    """A live session in `GET /v1/sessions`; `external` are its ids on the telephony platform."""

    model_config = ConfigDict(frozen=True)

    session_id: str
    front_end: FrontEnd
    since: str
    roles: tuple[ChannelConfig, ...]
    model: ModelCard
    external: dict[str, str]


class SessionList(BaseModel):
    """The answer of `GET /v1/sessions`, oldest first."""

    sessions: tuple[SessionEntry, ...]


def options(
    config: StreamConfig, query: StreamQuery, roles: tuple[Role, ...]
) -> wire.StreamSettings:
    """The options, defaults included."""
    return wire.StreamSettings(
        **option_fields(config, roles),
        encoding=config.encoding,
        start_offset_ms=query.start_offset_ms,
        on_overload=query.on_overload,
    )


def maker(backend: Backend) -> dict[str, Any]:
    """What makes the numbers: the members `model` and `code`."""
    return {"model": model_card(backend.spec, backend.sha256), "code": code()}


def limits(settings: Settings) -> wire.Limits:
    """What the service holds a stream to."""
    return wire.Limits(
        max_sessions=settings.max_sessions,
        send_timeout_ms=round(settings.send_timeout_s * 1000),
        idle_timeout_ms=round(settings.idle_timeout_s * 1000),
        max_session_ms=round(settings.max_session_s * 1000),
        max_speed=settings.max_stream_speed,
        burst_ms=round(settings.burst_s * 1000),
    )


def expires_at(settings: Settings, now: datetime) -> str:
    """When a stream that begins now reaches the longest session."""
    return (now + timedelta(seconds=settings.max_session_s)).isoformat(timespec="seconds")
