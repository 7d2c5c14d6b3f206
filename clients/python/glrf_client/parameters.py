"""What a caller may ask of a stream or a file; a name that is left out is the server's default."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from glrf_client.backoff import Backoff

#: Options of the client itself; the rest is the server's.
CLIENT_OPTIONS = frozenset(
    ("api_key", "headers", "backoff", "max_buffer_bytes", "open_timeout_s", "timeout_s")
)


class Connection(TypedDict, total=False):
    """Options of the client itself.

    `api_key` travels as `Authorization: Bearer`, never in an address. `max_buffer_bytes` bounds
    the audio that is kept to be sent again after a reconnect (8 MiB: 4 minutes of 16 kHz mono).
    """

    api_key: str | None
    headers: Mapping[str, str] | None
    backoff: Backoff | None
    max_buffer_bytes: int
    open_timeout_s: float


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
    rules: str | Sequence[str] | None
    partial: bool | None
    start_offset_ms: int | None


class FileParameters(TypedDict, total=False):
    """Query parameters of `POST /v1/files`; `timeout_s` is for the whole answer."""

    roles: str | Sequence[str] | None
    model: str | None
    endpointing: str | None
    endpoint_silence_ms: int | None
    smoothing: str | None
    hysteresis: float | None
    min_dwell_ms: int | None
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
    """The caller's headers, and the key where there is one."""
    key = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    return {**(headers or {}), **key}
