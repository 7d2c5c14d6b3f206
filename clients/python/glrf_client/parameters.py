"""What a caller may ask of a stream or a file; a name that is left out is the server's default."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from glrf_client.backoff import Backoff
from glrf_client.errors import ClientError

#: Options of the client itself; the rest is the server's.
CLIENT_OPTIONS = frozenset(
    (
        "api_key",
        "headers",
        "backoff",
        "max_buffer_bytes",
        "open_timeout_s",
        "stall_s",
        "on_connection",
        "timeout_s",
    )
)
_KEY: Final = re.compile(r"[!-~]+")
#: A field's name and its value (RFC 9110, Section 5), the value in ASCII.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t -~]*")


@dataclass(frozen=True, kw_only=True)
class ConnectionState:
    """What a stream's connection is doing, for a display.

    `live`: the server is there; `resumed` says that it goes on where an earlier one was lost.
    `waiting`: the connection was lost by `cause`, the next try comes in `delay_s`. `closed`: the
    stream has ended, by `cause` if it could not be mended.
    """

    state: Literal["live", "waiting", "closed"]
    resumed: bool = False
    delay_s: float = 0.0
    cause: ClientError | None = None


class Connection(TypedDict, total=False):
    """Options of the client itself.

    `api_key` travels as `Authorization: Bearer`, never in an address; white space around it is
    left out. `max_buffer_bytes` bounds
    the audio that is kept to be sent again after a reconnect (8 MiB: 4 minutes of 16 kHz mono).
    A server that owes an answer, as to audio that it has, and is silent for `stall_s` seconds
    counts as lost (10).
    `on_connection` is called at each change of a stream's connection; what it raises ends the
    stream.
    """

    api_key: str | None
    headers: Mapping[str, str] | None
    backoff: Backoff | None
    max_buffer_bytes: int
    open_timeout_s: float
    stall_s: float
    on_connection: Callable[[ConnectionState], None] | None


class StreamParameters(Connection, total=False):
    """Query parameters of `WS /v1/stream`, and `Connection`; `sample_rate` in Hz."""

    encoding: str | None
    sample_rate: int | None
    channels: int | None
    roles: str | Sequence[str] | None
    model: str | None
    endpointing: str | None
    endpoint_silence_ms: int | None
    smoothing: str | None
    hysteresis: float | None
    min_dwell_ms: int | None
    baseline_ms: int | None
    rules: str | Sequence[str] | None
    on_overload: str | None
    partial: bool | None
    start_offset_ms: int | None


class FileParameters(TypedDict, total=False):
    """Query parameters of `POST /v1/files`; `timeout_s` is for the answer once all is sent."""

    roles: str | Sequence[str] | None
    model: str | None
    endpointing: str | None
    endpoint_silence_ms: int | None
    smoothing: str | None
    hysteresis: float | None
    min_dwell_ms: int | None
    baseline_ms: int | None
    rules: str | Sequence[str] | None
    partial: bool | None
    api_key: str | None
    headers: Mapping[str, str] | None
    timeout_s: float


class RestOptions(TypedDict, total=False):
    """Of one request over HTTP; `timeout_s` is for its whole answer."""

    api_key: str | None
    headers: Mapping[str, str] | None
    timeout_s: float


def query_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the server is told in the address."""
    return {name: value for name, value in parameters.items() if name not in CLIENT_OPTIONS}


def request_headers(api_key: str | None, headers: Mapping[str, str] | None) -> dict[str, str]:
    """The caller's headers, and the key where there is one, without white space around it.

    Raises `ClientError` for what cannot be sent, never with its value: that may be a secret.
    """
    sent = dict(headers or {})
    for name, value in sent.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ClientError(
                f"the header {name!r} cannot be sent; its value has to be ASCII on one line"
            )
    if api_key is not None:
        key = api_key.strip()
        if not _KEY.fullmatch(key):
            raise ClientError(
                "api_key cannot be sent; give a key of visible ASCII characters without spaces"
            )
        sent["Authorization"] = f"Bearer {key}"
    return sent
