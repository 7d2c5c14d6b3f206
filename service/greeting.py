"""What `session.created` says: the stream's options as understood, and what it is held to."""

from datetime import datetime, timedelta
from typing import Any

from ser_core.stream_config import StreamConfig
from service import wire
from service.inference.backend import Backend
from service.manifest import code, option_fields
from service.requests import Role, StreamQuery
from service.settings import Settings


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
    return {"model": wire.model_card(backend.spec, backend.sha256), "code": code()}


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
