"""`/v1/jobs`: recordings whose results can wait, and must not be lost."""

import contextlib
import json
import logging
import re
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from ser_core.errors import BadParameter, Conflict, NotFound, SerError
from service import problems, wire
from service.auth import caller_of
from service.files import CLIENT_LEFT_STATUS, error_line, unless_left
from service.formats import MEDIA_TYPES, Kind, chosen, headers_of, render
from service.jobs.job import ID, Job, JobGone
from service.jobs.job_service import JobService, no_such_job
from service.jobs.opening import store_failure
from service.jobs.result import parsed
from service.jobs.state import JobState, state_of, time_of
from service.jobs.webhook import Delivery, StoredWebhook
from service.requests import DeadQuery, JobQuery, JobsQuery, NoQuery, described, parse_query
from service.runtime import Runtime
from service.segment_table import segment_table
from service.uploads import BODY, receive_body

log = logging.getLogger(__name__)

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
#: Of a job's end, or of an event of a live session.
_MESSAGE_ID = re.compile(r"msg_[0-9a-f]{32}(_[0-9]{1,18})?")

# What is no id is nobody's job: 404, as for a job that was deleted.
JobId = Annotated[str, Path(json_schema_extra={"pattern": f"^{ID.pattern}$"})]
MessageId = Annotated[str, Path(json_schema_extra={"pattern": f"^{_MESSAGE_ID.pattern}$"})]
_READ_BYTES = 2**16


class _StoreRoute(APIRoute):
    """Where the store or its disk fails a request, it is answered by `jobs_unavailable`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            try:
                return await handle(request)
            except (SerError, HTTPException):
                raise
            except Exception as error:
                failure = store_failure(error)
                if failure is None:
                    raise
                raise failure from error

        return guarded


router = APIRouter(tags=["jobs"], route_class=_StoreRoute)


class JobPage(BaseModel):
    """Jobs, the newest first; `next_cursor` is `null` after the last."""

    jobs: tuple[JobState, ...]
    next_cursor: str | None


@router.post(
    "/v1/jobs",
    summary="Accept one recording, and score it whatever happens",
    status_code=202,
    response_model=JobState,
    responses=problems.described(400, 401, 403, 408, 409, 413, 415, 422, 429, 503),
    openapi_extra={
        "requestBody": BODY,
        "parameters": [
            *described(JobQuery),
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Any word of your own: a repeated request makes no second job.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            },
        ],
    },
)
async def submit(request: Request) -> Response:
    """The body is that of `POST /v1/files`. 202 comes once it is on disk and queued."""
    runtime, service = _service(request)
    query = parse_query(JobQuery, request.query_params.multi_items())
    query.check_for(runtime.batcher(query.model).backend.spec)
    if query.webhook_url is not None:
        runtime.check_webhook(query.webhook_url, "ask for the job's status")
    key = _idempotency_key(request)
    caller = caller_of(request.scope)
    await service.ask(service.intake.check_room, caller.name, key)
    settings = runtime.settings
    try:
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(runtime.quotas.file(caller))
            upload = await stack.enter_async_context(service.intake.receiving())
            await receive_body(
                request,
                stack,
                max_bytes=settings.jobs_max_bytes,
                timeout_s=settings.jobs_upload_s,
                sink=upload.file,
            )
            job = await service.intake.take_in(upload, query, caller.name, key)
    except ClientDisconnect:
        return Response(status_code=CLIENT_LEFT_STATUS)
    log.info("job %s is accepted (request %s)", job.id, request.state.request_id)
    return Response(
        state_of(job, settings.jobs_keep_days).model_dump_json(),
        202,
        {"Location": f"/v1/jobs/{job.id}"},
        "application/json",
    )


@router.get(
    "/v1/jobs",
    summary="Your jobs, the newest first",
    responses=problems.described(400, 401, 403, 429, 503),
    openapi_extra={"parameters": described(JobsQuery)},
)
async def listed(request: Request) -> JobPage:
    """Those made with the same API key."""
    runtime, service = _service(request)
    query = parse_query(JobsQuery, request.query_params.multi_items())
    caller = caller_of(request.scope).name
    jobs, cursor = await service.ask(service.page, caller, query.status, query.limit, query.cursor)
    keep_days = runtime.settings.jobs_keep_days
    return JobPage(jobs=tuple(state_of(job, keep_days) for job in jobs), next_cursor=cursor)


@router.get(
    "/v1/jobs/{job_id}",
    summary="How far is it?",
    responses=problems.described(400, 401, 403, 404, 429, 503),
)
async def state(request: Request, job_id: JobId) -> JobState:
    """`progress` is the share of the recording that was scored."""
    runtime, service = _service(request)
    parse_query(NoQuery, request.query_params.multi_items())
    return state_of(await _job(request, service, job_id), runtime.settings.jobs_keep_days)


@router.delete(
    "/v1/jobs/{job_id}",
    summary="Cancel it, and delete its recording and result",
    status_code=204,
    response_class=Response,
    responses=problems.described(400, 401, 403, 404, 429, 503),
)
async def deleted(request: Request, job_id: JobId) -> Response:
    """Nothing is kept of it."""
    _, service = _service(request)
    parse_query(NoQuery, request.query_params.multi_items())
    await _job(request, service, job_id)
    await service.ask(service.delete, job_id, caller_of(request.scope).name)
    return Response(status_code=204)


@router.get(
    "/v1/jobs/{job_id}/result",
    summary="What was told of the recording",
    response_model=wire.FileResult,
    responses={
        200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}},
        **problems.described(400, 401, 403, 404, 409, 429, 503),
    },
)
async def result(request: Request, job_id: JobId) -> Response:
    """The answer of `POST /v1/files`, in the form that `Accept` asks for."""
    _, service = _service(request)
    parse_query(NoQuery, request.query_params.multi_items())
    job = await _job(request, service, job_id)
    _check_succeeded(job)
    found = await service.ask(service.store.result, job_id)
    if found is None:
        raise no_such_job()
    document, summary = found
    kind = chosen(*request.headers.getlist("accept"))
    media_type = MEDIA_TYPES[kind]
    match kind:
        case "ndjson":
            chunks = service.store.lines(job.id, job.n_chunks)
            # A job that is gone shows mostly here: then there is a status to send yet.
            first = await _next_lines(service, chunks)
            lines = _ndjson(request, service, first, chunks, summary)
            return StreamingResponse(lines, media_type=media_type)
        case "json":
            return StreamingResponse(_decompressed(document), media_type=media_type)
        case "csv":  # from its lines: the segments of hours need not be in memory at once
            making = service.text(_table, service, job, summary)
        case _:
            making = service.text(_rendered, kind, document)
    try:
        text = await unless_left(request, making)
    except ClientDisconnect:
        return Response(status_code=CLIENT_LEFT_STATUS)
    return Response(text, media_type=media_type, headers=headers_of(kind))


def _service(request: Request) -> tuple[Runtime, JobService]:
    return request.app.state.runtime, request.app.state.jobs


async def _job(request: Request, service: JobService, job_id: str) -> Job:
    if not ID.fullmatch(job_id):
        raise no_such_job()
    return await service.ask(service.find, job_id, caller_of(request.scope).name)


async def _ndjson(
    request: Request,
    service: JobService,
    first: bytes | None,
    chunks: Iterator[bytes],
    summary: str,
) -> AsyncIterator[bytes]:
    try:
        lines = first
        while lines is not None:
            yield lines
            lines = await _next_lines(service, chunks)
        yield summary.encode() + b"\n"
    except Exception as error:
        yield error_line(request, store_failure(error) or error)


async def _next_lines(service: JobService, chunks: Iterator[bytes]) -> bytes | None:
    """Those of the next chunk; raises `NotFound` for a job that was deleted meanwhile."""
    try:
        return await service.ask(lambda: next(chunks, None))
    except JobGone as error:
        raise no_such_job() from error


def _table(service: JobService, job: Job, summary: str) -> str:
    labels = wire.SummaryLine.model_validate_json(summary).model.labels
    try:
        lines = (
            line for chunk in service.store.lines(job.id, job.n_chunks) for line in parsed(chunk)
        )
        return segment_table(labels, (x for x in lines if isinstance(x, wire.SegmentLine)))
    except JobGone as error:
        raise no_such_job() from error


def _rendered(kind: Kind, document: bytes) -> str:
    """The result in one of the formats for people; a recording is not drawn, it may be gone."""
    return render(kind, wire.FileResult.model_validate_json(zlib.decompress(document)))


async def _decompressed(document: bytes) -> AsyncIterator[bytes]:
    inflater = zlib.decompressobj()
    data = document
    while data:
        yield inflater.decompress(data, _READ_BYTES)
        data = inflater.unconsumed_tail
    yield inflater.flush()


def _check_succeeded(job: Job) -> None:
    if job.status == "failed":
        raise Conflict(
            f"the job failed: {json.loads(job.error or '{}').get('detail', 'no reason is known')}",
            remedy=f"see `error` of GET /v1/jobs/{job.id}",
            code="job_failed",
        )
    if job.status != "succeeded":
        raise Conflict(
            f"the job is {job.status}, {job.progress:.0%} are scored",
            remedy="ask again when its status is succeeded",
            code="job_not_ready",
        )


def _idempotency_key(request: Request) -> str | None:
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise BadParameter(
            "the Idempotency-Key is not 1 to 255 visible ASCII characters, given once",
            remedy="send one, a UUID for example",
        )
    return keys[0]


class Webhook(BaseModel):
    """A message about a job or a live session; `cause` is that of its last failure."""

    id: str
    job_id: str | None
    session_id: str | None
    url: str
    status: Delivery
    attempts: int
    created_at: str
    tried_at: str | None
    cause: str | None


class DeadWebhooks(BaseModel):
    """The last ones first."""

    webhooks: tuple[Webhook, ...]


@router.get(
    "/v1/webhooks/dead",
    summary="Messages that could not be delivered",
    responses=problems.described(400, 401, 403, 429, 503),
    openapi_extra={"parameters": described(DeadQuery)},
)
async def dead_webhooks(request: Request) -> DeadWebhooks:
    """Those of your jobs, until the jobs are deleted, and of your sessions, as long as results."""
    _, service = _service(request)
    query = parse_query(DeadQuery, request.query_params.multi_items())
    caller = caller_of(request.scope).name
    dead = await service.ask(lambda: service.outbox.dead(caller, query.limit))
    return DeadWebhooks(webhooks=tuple(map(_webhook, dead)))


@router.post(
    "/v1/webhooks/{message_id}/replay",
    summary="Send a message again",
    status_code=202,
    responses=problems.described(400, 401, 403, 404, 429, 503),
)
async def replayed(request: Request, message_id: MessageId) -> Webhook:
    """It has the same id and all its attempts anew. One that still waits stays as it is."""
    _, service = _service(request)
    parse_query(NoQuery, request.query_params.multi_items())
    caller = caller_of(request.scope).name
    webhook = None
    if _MESSAGE_ID.fullmatch(message_id):
        webhook = await service.ask(lambda: service.outbox.replay(caller, message_id))
    if webhook is None:
        raise NotFound(
            "there is no such webhook of this API key",
            remedy="see GET /v1/webhooks/dead; one is deleted with its job, or as late",
            code="webhook_not_found",
        )
    return _webhook(webhook)


def _webhook(stored: StoredWebhook) -> Webhook:
    return Webhook(
        id=stored.id,
        job_id=stored.job_id,
        session_id=stored.session_id,
        url=stored.url,
        status=stored.status,
        attempts=stored.n_attempts,
        created_at=time_of(stored.created_ms),
        tried_at=None if stored.tried_ms is None else time_of(stored.tried_ms),
        cause=stored.cause,
    )
