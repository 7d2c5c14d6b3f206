"""Whole files over REST: `POST /v1/files` and `GET /v1/models`."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Unpack

from glrf_client.address import http_url, query_of
from glrf_client.call import Call, Run, TurningPoint
from glrf_client.errors import BadServerMessage
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
from glrf_client.rest import body_of, request


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
    content, body_headers = body_of(audio)
    headers = request_headers(parameters.get("api_key"), parameters.get("headers"))
    answer = await request(
        "POST",
        http_url(url, "/v1/files"),
        params=query_of(query_parameters(parameters)),
        content=content,
        headers={**body_headers, **headers},
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
    answer = await request(
        "GET",
        http_url(url, "/v1/models"),
        headers=request_headers(api_key, headers),
        timeout_s=timeout_s,
    )
    if not isinstance(answer, dict) or not isinstance(answer.get("models"), list):
        raise BadServerMessage("/v1/models: no list of models")
    return [ModelDetails.parse(item) for item in answer["models"]]
