"""What a client sent, one WebSocket frame at a time."""

from typing import Any, NamedTuple

from fastapi import WebSocketDisconnect

from ser_core.errors import TooLarge
from service import wire


class Frame(NamedTuple):
    """One WebSocket frame, and the clock (`time.perf_counter`) when it came."""

    data: bytes | None
    text: str | None
    received_s: float


def frame_of(message: Any) -> tuple[bytes | None, str | None]:
    """The data or the text of an ASGI message; raises `WebSocketDisconnect` and `TooLarge`."""
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1006))
    data, text = message.get("bytes"), message.get("text")
    n_bytes = len(data) if data is not None else len(text or "")
    if n_bytes > wire.MAX_FRAME_BYTES:
        raise too_large(f"a frame of {n_bytes} bytes")
    return data, text


def too_large(what: str) -> TooLarge:
    """A frame above the limit, as an error that ends the session."""
    return TooLarge(
        f"{what} is too large",
        remedy=f"send at most {wire.MAX_FRAME_BYTES} bytes a frame",
        code="frame_too_large",
    )
