"""One request over HTTP: its body from bytes or a file, its answer as JSON, its refusal raised."""

import asyncio
import functools
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Final

from glrf_client.address import is_loopback, unusable_proxy
from glrf_client.errors import BadServerMessage, Refused, Unreachable
from glrf_client.problem import problem_from

_READ_BYTES: Final = 1 << 16


def body_of(
    audio: bytes | str | PathLike[str],
) -> tuple[bytes | AsyncIterator[bytes], dict[str, str]]:
    """Audio as a request's body, a file read as it is sent, and its headers; raises `OSError`."""
    if isinstance(audio, bytes):
        content, n_bytes = audio, len(audio)
    else:
        path = Path(audio)
        n_bytes = path.stat().st_size
        content = _read(path, n_bytes)
    return content, {"Content-Type": "application/octet-stream", "Content-Length": str(n_bytes)}


async def _read(path: Path, n_bytes: int) -> AsyncIterator[bytes]:
    """What the file had when the request began; raises `OSError` where it has less now."""
    with path.open("rb") as file:
        while n_bytes and (data := await asyncio.to_thread(file.read, min(n_bytes, _READ_BYTES))):
            n_bytes -= len(data)
            yield data
    if n_bytes:
        raise OSError(f"{path} became shorter while it was sent")


async def _parts(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _READ_BYTES):
        yield content[start : start + _READ_BYTES]


def _certificates() -> ssl.SSLContext:
    """Who is trusted; reading them takes 20 ms, so it is done once. Raises `Unreachable`."""
    return _read_certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@functools.cache
def _read_certificates(file: str | None, folder: str | None) -> ssl.SSLContext:
    import httpx

    try:
        return httpx.create_ssl_context()  # it looks for those two itself
    except OSError as error:
        where = file or folder or "the package certifi"
        raise Unreachable(
            f"the certificates in {where} cannot be read: {error}; give a private CA's as PEM by "
            "SSL_CERT_FILE"
        ) from error


async def request(
    method: str,
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None = None,
    content: bytes | AsyncIterator[bytes] | None = None,
) -> Any:
    """The answer's JSON, `None` for one without content; raises `Refused` and `Unreachable`.

    `timeout_s` is for the whole answer once the body is sent, and for each part of that.
    """
    import httpx  # here, for it takes a tenth of a second, and streams need none

    patience = asyncio.timeout(timeout_s if content is None else None)

    async def body(content: bytes | AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for data in _parts(content) if isinstance(content, bytes) else content:
            yield data
        patience.reschedule(asyncio.get_running_loop().time() + timeout_s)

    try:
        async with (
            patience,
            httpx.AsyncClient(
                timeout=timeout_s, trust_env=not is_loopback(url), verify=_certificates()
            ) as client,
        ):
            response = await client.request(
                method,
                url,
                params=params,
                content=None if content is None else body(content),
                headers=headers,
            )
    except TimeoutError as error:
        if not patience.expired():  # of the file that was to be sent
            raise
        raise Unreachable(f"no answer from {url} within {timeout_s:g} s") from error
    except httpx.RequestError as error:
        raise Unreachable(f"no answer from {url}: {error or type(error).__name__}") from error
    except (httpx.InvalidURL, ImportError, ValueError, ExceptionGroup) as error:
        # The last one: a port that is none, of which anyio tells so.
        raise unusable_proxy(url, error) from None
    if response.status_code == 204:
        return None
    if response.status_code not in (200, 202):
        raise Refused(*problem_from(response.status_code, response.headers, response.content))
    try:
        return response.json()
    except ValueError as error:
        raise BadServerMessage(f"{url}: not JSON: {response.text[:80]!r}") from error
