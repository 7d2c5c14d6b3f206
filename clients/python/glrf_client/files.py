"""Whole files over REST: `POST /v1/files` and `GET /v1/models`."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final, Unpack

import httpx

from glrf_client.address import http_url, is_loopback, query_of
from glrf_client.call import Call, Run, TurningPoint
from glrf_client.errors import BadServerMessage, Refused, Unreachable
from glrf_client.events import (
    Alert,
    Model,
    ModelDetails,
    Record,
    Segment,
    StreamWarning,
    Summary,
    Utterance,
)
from glrf_client.parameters import FileParameters, query_parameters, request_headers
from glrf_client.problem import problem_from

_READ_BYTES: Final = 1 << 16


@dataclass(frozen=True, kw_only=True)
class ChannelResult(Record):
    """One channel of a file, with the objects of a stream; a channel that is off has none."""

    channel: int
    role: str | None = None
    scored: bool = True
    segments: tuple[Segment, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    alerts: tuple[Alert, ...] = ()
    turning_points: tuple[TurningPoint, ...] = ()
    summary: Summary | None = None


@dataclass(frozen=True, kw_only=True)
class FileResult(Record):
    """The answer to a file; a server of an earlier version tells neither `call` nor `run`."""

    request_id: str
    model: Model
    duration_ms: int
    channels: tuple[ChannelResult, ...]
    call: Call | None = None
    warnings: tuple[StreamWarning, ...] = ()
    run: Run | None = None


async def analyze_file(
    url: str, audio: bytes | str | PathLike[str], **parameters: Unpack[FileParameters]
) -> FileResult:
    """Scores one recording, given as its bytes or as a path, which is read as it is sent.

    Raises `Refused` with the server's problem (`retry_after_s`: when to try again, if it helps),
    `Unreachable` when there is no server, and `OSError` for a file that cannot be read.
    """
    content: bytes | AsyncIterator[bytes]
    if isinstance(audio, bytes):
        content, n_bytes = audio, len(audio)
    else:
        path = Path(audio)
        content, n_bytes = _read(path), _size(path)
    headers = request_headers(parameters.get("api_key"), parameters.get("headers"))
    answer = await _request(
        "POST",
        http_url(url, "/v1/files"),
        params=query_of(query_parameters(parameters)),
        content=content,
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Length": str(n_bytes),
            **headers,
        },
        timeout_s=parameters.get("timeout_s", 300.0),
    )
    return FileResult.parse(answer)


async def models(
    url: str,
    *,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> list[ModelDetails]:
    """The models that the server offers. Raises as `analyze_file` does."""
    answer = await _request(
        "GET",
        http_url(url, "/v1/models"),
        headers=request_headers(api_key, headers),
        timeout_s=timeout_s,
    )
    if not isinstance(answer, dict) or not isinstance(answer.get("models"), list):
        raise BadServerMessage("/v1/models: no list of models")
    return [ModelDetails.parse(item) for item in answer["models"]]


def _size(path: Path) -> int:
    return path.stat().st_size


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, _READ_BYTES):
            yield data


async def _request(
    method: str,
    url: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str],
    params: Mapping[str, str] | None = None,
    content: bytes | AsyncIterator[bytes] | None = None,
) -> Any:
    async with httpx.AsyncClient(timeout=timeout_s, trust_env=not is_loopback(url)) as client:
        try:
            response = await client.request(
                method, url, params=params, content=content, headers=headers
            )
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(f"no answer from {url}: {error or type(error).__name__}") from error
    if response.status_code != 200:
        raise Refused(*problem_from(response.status_code, response.headers, response.content))
    try:
        return response.json()
    except ValueError as error:
        raise BadServerMessage(f"{url}: not JSON: {response.text[:80]!r}") from error
