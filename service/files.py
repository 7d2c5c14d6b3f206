"""`POST /v1/files`: one recording in, everything told of it out."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from ser_core.errors import SerError
from service import problems, wire
from service.analysis import FileAnalysis, FileLimits
from service.auth import caller_of
from service.file_json import result_parts, segment_json
from service.formats import MEDIA_TYPES, Kind, chosen, headers_of, render
from service.pace import AudioMeter
from service.requests import FileQuery, described, parse_query
from service.runtime import Runtime
from service.uploads import BODY, receive_body

#: nginx's word for a client that left before its answer; nobody reads it, but metrics count it.
CLIENT_LEFT_STATUS = 499
#: How many times `send_timeout_s` all lines of a file may wait to be read, where one may once.
SLOW_READER = 10

T = TypeVar("T")

log = logging.getLogger(__name__)
router = APIRouter(tags=["files"])


@router.post(
    "/v1/files",
    summary="Score one recording",
    response_model=wire.FileResult,
    responses={
        200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}},
        **problems.described(400, 401, 403, 408, 413, 415, 422, 429, 503),
    },
    openapi_extra={"requestBody": BODY, "parameters": described(FileQuery)},
)
async def files(request: Request) -> Response:
    """The body is the audio itself, or a multipart field `file`.

    `Accept: application/x-ndjson` streams results as they are scored, one JSON object a line,
    and ends with a `summary` or an `error` line; `text/csv` gives a table of segments, `text/vtt`
    the utterances as captions, `text/html` a report to look at.
    """
    runtime: Runtime = request.app.state.runtime
    query = parse_query(FileQuery, request.query_params.multi_items())
    batcher = runtime.batcher(query.model)
    query.check_for(batcher.backend.spec)
    kind = chosen(*request.headers.getlist("accept"))
    caller = caller_of(request.scope)
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(runtime.quotas.file(caller))
        ticket = stack.enter_context(runtime.file_admitted())
        try:
            body = await receive_body(
                request,
                stack,
                max_bytes=runtime.settings.max_file_bytes,
                timeout_s=runtime.settings.upload_timeout_s,
            )
            await unless_left(request, ticket.turn())
            analysis = FileAnalysis(
                body,
                batcher,
                query,
                decode=runtime.decoding.open,
                limits=FileLimits(runtime.settings.max_file_s, runtime.settings.max_untold_events),
                detector=runtime.settings.vad,
                metrics=runtime.metrics,
                meter=AudioMeter(runtime.quotas, caller),
                request_id=request.state.request_id,
                draws=kind == "html",
            )
            lines = await stack.enter_async_context(contextlib.aclosing(analysis.lines()))
            if kind == "ndjson":
                # What is wrong with a file shows mostly at its first line: then there is a status
                # to send yet.
                first = await anext(lines, None)
                resources = stack.pop_all()
                return LinesResponse(
                    _ndjson(request, analysis, first, lines),
                    runtime.settings.send_timeout_s,
                    resources,
                )
            results = _while_connected(request, lines)
            if kind == "json":
                return Response(await _json(analysis, results), media_type=MEDIA_TYPES[kind])
            return await _rendered(kind, analysis, [line async for line in results])
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT_STATUS)


async def unless_left(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives or raises; for a client that leaves it is cancelled, `ClientDisconnect`."""
    done = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((done, left), return_when=asyncio.FIRST_COMPLETED)
    finally:
        done.cancel()
        left.cancel()
        await asyncio.gather(done, left, return_exceptions=True)
    if not left.cancelled():
        raise ClientDisconnect
    return done.result()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _while_connected(
    request: Request, lines: AsyncIterator[wire.Line]
) -> AsyncIterator[wire.Line]:
    """The lines; raises `ClientDisconnect` soon after nobody waits for them any more."""
    n_lines = 0
    async for line in lines:
        yield line
        n_lines += 1
        if n_lines % 16 == 0 and await request.is_disconnected():
            raise ClientDisconnect


async def _rendered(kind: Kind, analysis: FileAnalysis, lines: list[wire.Line]) -> Response:
    """The whole result in one of the formats for people, made in a thread."""
    text = await asyncio.to_thread(
        lambda: render(kind, analysis.result(lines), waveform=analysis.waveform)
    )
    return Response(text, media_type=MEDIA_TYPES[kind], headers=headers_of(kind))


async def _json(analysis: FileAnalysis, lines: AsyncIterator[wire.Line]) -> bytes:
    """`analysis.result` of all lines as JSON, its segments encoded as they come."""
    segments: dict[int, list[str]] = {}
    others: list[wire.Line] = []
    async for line in lines:
        if isinstance(line, wire.SegmentLine):
            segments.setdefault(line.channel, []).append(segment_json(line))
        else:
            others.append(line)
    parts = result_parts(analysis.result(others), lambda channel: segments.get(channel, ()))
    return "".join(parts).encode()


class LinesResponse(StreamingResponse):
    """Lines as they come, for a client that reads them: one that does not is left.

    It would hold its place among the files for as long as it likes, and so would one that reads a
    little now and then: of all its lines it may keep us waiting `SLOW_READER` times as long as of
    one. `resources` are freed at the end, also where no line was ever asked for.
    """

    def __init__(
        self,
        lines: AsyncGenerator[bytes],
        send_timeout_s: float,
        resources: contextlib.AsyncExitStack,
    ) -> None:
        super().__init__(lines, media_type=MEDIA_TYPES["ndjson"])
        self._lines = lines
        self._send_timeout_s = send_timeout_s
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        patience_s = SLOW_READER * self._send_timeout_s

        async def send_in_time(message: Message) -> None:
            nonlocal patience_s
            began_s = time.monotonic()
            async with asyncio.timeout(min(patience_s, self._send_timeout_s)):
                await send(message)
            patience_s -= time.monotonic() - began_s

        try:
            await super().__call__(scope, receive, send_in_time)
        except TimeoutError:
            log.warning("a client did not read its lines in time")
        finally:
            await self._lines.aclose()
            await self._resources.aclose()


async def _ndjson(
    request: Request,
    analysis: FileAnalysis,
    first: wire.Line | None,
    lines: AsyncIterator[wire.Line],
) -> AsyncGenerator[bytes]:
    try:
        if first is not None:
            yield _line(first)
        async for line in lines:
            yield _line(line)
        yield _line(analysis.summary())
    except Exception as error:
        yield error_line(request, error)


def error_line(request: Request, error: Exception) -> bytes:
    """The last line where something fails and the status has been sent."""
    request_id: str = request.state.request_id
    if not isinstance(error, SerError):
        log.exception("request %s failed", request_id, exc_info=error)
        error = problems.internal_error(error)
    runtime: Runtime = request.app.state.runtime
    runtime.metrics.refused(error.code)
    return _line(wire.ErrorLine(**wire.error_fields(error, request_id, fatal=True)))


def _line(line: wire.Line | wire.SummaryLine | wire.ErrorLine) -> bytes:
    return line.model_dump_json().encode() + b"\n"
