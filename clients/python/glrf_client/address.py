"""Where the server is: addresses and query parameters as the contract writes them."""

from collections.abc import Mapping
from urllib.parse import SplitResult, urlencode, urlsplit, urlunsplit

from glrf_client.errors import Unreachable

STREAM_PATH = "/v1/stream"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_WS = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
_HTTP = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


def stream_url(url: str, parameters: Mapping[str, object]) -> str:
    """The WebSocket address: `/v1/stream` is added to a bare host, `None` parameters left out.

    Raises `Unreachable` for an address that is not ws, wss, http or https, or of no possible host.
    """
    parts = _parts(url)
    path = parts.path.rstrip("/")
    if not path.endswith(STREAM_PATH):
        path += STREAM_PATH
    query = "&".join(filter(None, (parts.query, urlencode(query_of(parameters)))))
    return urlunsplit((_WS[parts.scheme], parts.netloc, path, query, ""))


def http_url(url: str, path: str) -> str:
    """The HTTP address of `path` on the same server; `/v1/stream` in `url` is left out.

    Raises `Unreachable` as `stream_url` does.
    """
    parts = _parts(url)
    base = parts.path.rstrip("/").removesuffix(STREAM_PATH)
    return urlunsplit((_HTTP[parts.scheme], parts.netloc, base + path, "", ""))


def query_of(parameters: Mapping[str, object]) -> dict[str, str]:
    """Query parameters in the contract's spelling: booleans in lower case, lists with commas."""
    return {name: _spelt(value) for name, value in parameters.items() if value is not None}


def is_loopback(url: str) -> bool:
    """Whether the address is this machine; a proxy has no part in that."""
    return urlsplit(url).hostname in _LOOPBACK


def unusable_proxy(url: str, error: Exception) -> Unreachable:
    """A proxy that the environment names is none, or needs a package that is not installed.

    Its address may hold a password, so of `error` only a missing package is told.
    """
    cause = f": {error}" if isinstance(error, ImportError) else ""
    return Unreachable(
        f"no way to {url.partition('?')[0]}: the proxy that the environment names "
        f"(https_proxy, http_proxy, all_proxy) cannot be used{cause}"
    )


def _spelt(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    return str(value)


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        is_address = parts.scheme in _WS and host.isprintable() and bool(host.encode("idna"))
    except ValueError:  # brackets, the port, a part of the host's name that is too long
        is_address = False
    if not is_address:
        raise Unreachable(f"{url!r} is no server address; write it like ws://127.0.0.1:8000")
    return parts
