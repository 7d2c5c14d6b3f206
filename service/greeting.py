"""What is said of a session as a whole: in `session.created`, and in the list of live sessions."""

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ser_core.stream_config import StreamConfig
from service import wire
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
    roles: tuple[wire.ChannelConfig, ...]
    model: wire.ModelCard
    external: dict[str, str]


class SessionList(BaseModel):
    """The answer of `GET /v1/sessions`, oldest first."""

    sessions: tuple[SessionEntry, ...]


def options(
    config: StreamConfig, query: StreamQuery, roles: tuple[Role, ...]
) -> wire.StreamSettings:
    """The options, defaults included."""
    return wire.StreamSettings(
        encoding=config.encoding,
        sample_rate=config.sample_rate_hz,
        channels=config.n_channels,
        roles=channels(roles),
        endpointing=config.endpointing,
        endpoint_silence_ms=round(config.endpoint_silence_s * 1000)
        if config.endpointing == "vad"
        else None,
        smoothing=config.smoothing.kind,
        hysteresis=config.smoothing.hold.hysteresis,
        min_dwell_ms=round(config.smoothing.hold.min_dwell_s * 1000),
        rules=tuple(rule.text for rule in config.rules),
        partial=config.partial,
        start_offset_ms=query.start_offset_ms,
        on_overload=query.on_overload,
    )


def channels(roles: tuple[Role, ...]) -> tuple[wire.ChannelConfig, ...]:
    """The channels as understood from `roles`."""
    return tuple(
        wire.ChannelConfig(channel=index, role=role.name, scored=role.scored)
        for index, role in enumerate(roles)
    )


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
