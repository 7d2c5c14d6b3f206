"""Recordings whose results can wait, and must not be lost: `/v1/jobs`."""

import asyncio
import itertools
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Unpack
from urllib.parse import quote

from glrf_client.address import http_url, query_of
from glrf_client.backoff import Backoff
from glrf_client.errors import BadServerMessage, ClientError, Refused, Unreachable
from glrf_client.events import Record
from glrf_client.files import FileResult
from glrf_client.parameters import FileParameters, query_parameters, request_headers
from glrf_client.recovery import is_repeatable, not_before_s
from glrf_client.rest import body_of, request


@dataclass(frozen=True, kw_only=True)
class Job(Record):
    """One job; `status` is queued, running, succeeded or failed, `progress` 0 to 1.

    Times are ISO 8601 in UTC. `error` is a failed job's problem document.
    """

    id: str
    status: str
    progress: float
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    expires_at: str | None = None
    duration_ms: int | None = None
    options: Mapping[str, Any] | None = None
    webhook_url: str | None = None
    error: Mapping[str, Any] | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it has succeeded or failed."""
        return self.status in ("succeeded", "failed")


@dataclass(frozen=True, kw_only=True)
class JobPage(Record):
    """Jobs, the newest first; `next_cursor` asks for those after them."""

    jobs: tuple[Job, ...]
    next_cursor: str | None = None


class JobFailed(ClientError):
    """The job ended by an error: `job.error` has its cause and remedy."""

    def __init__(self, job: Job) -> None:
        problem = job.error or {}
        super().__init__(f"job {job.id} failed: {problem.get('detail', 'no reason given')}")
        self.job = job


async def submit_job(
    url: str,
    audio: bytes | str | PathLike[str],
    *,
    idempotency_key: str | None = None,
    webhook_url: str | None = None,
    backoff: Backoff | None = None,
    **parameters: Unpack[FileParameters],
) -> Job:
    """Hands in one recording; when this returns, the server has it on disk.

    A server that is away or has no room is asked again, as `backoff` says, with the same
    `idempotency_key` (a new one by default), so that there is one job however often it was asked.
    Raises as `analyze_file` does.
    """
    given = {name.lower(): value for name, value in (parameters.get("headers") or {}).items()}
    keyed = {"idempotency-key": uuid.uuid4().hex, **given}
    if idempotency_key is not None:
        keyed["idempotency-key"] = idempotency_key
    address, headers = http_url(url, "/v1/jobs"), request_headers(parameters.get("api_key"), keyed)
    query = {**query_parameters(parameters), "webhook_url": webhook_url}
    backoff = backoff or Backoff()
    began_s = time.monotonic()
    for n_tries in itertools.count():
        content, body_headers = body_of(audio)
        try:
            answer = await request(
                "POST",
                address,
                params=query_of(query),
                content=content,
                headers={**body_headers, **headers},
                timeout_s=parameters.get("timeout_s", 300.0),
            )
            return Job.parse(answer)
        except (Unreachable, Refused) as error:
            wait_s = backoff.next_try_s(n_tries, time.monotonic() - began_s, not_before_s(error))
            if wait_s is None or not is_repeatable(error):
                raise
        await asyncio.sleep(wait_s)
    raise AssertionError("counting does not end")


async def job(
    url: str,
    job_id: str,
    *,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> Job:
    """How far a job is. Raises as `analyze_file` does."""
    return Job.parse(await _call("GET", url, _path(job_id), api_key, headers, timeout_s))


async def wait_for_job(
    url: str,
    job_id: str,
    *,
    poll_s: float = 1.0,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> Job:
    """Asks every `poll_s` until the job has succeeded or failed, also while the server is away.

    A server that asks for a longer wait gets it. Raises `TimeoutError` after `timeout_s`, and
    `Refused` where that does not pass.
    """
    async with asyncio.timeout(timeout_s):
        while True:
            wait_s = poll_s
            try:
                found = await job(url, job_id, api_key=api_key, headers=headers)
                if found.is_finished:
                    return found
            except (Unreachable, Refused) as error:
                if not is_repeatable(error):
                    raise
                wait_s = max(poll_s, not_before_s(error) or 0.0)
            await asyncio.sleep(wait_s)


async def job_result(
    url: str,
    job_id: str,
    *,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 300.0,
) -> FileResult:
    """What was told of the recording. Raises `JobFailed`, and as `analyze_file` does."""
    try:
        answer = await _call("GET", url, f"{_path(job_id)}/result", api_key, headers, timeout_s)
    except Refused as error:
        if error.code != "job_failed":
            raise
        raise JobFailed(await job(url, job_id, api_key=api_key, headers=headers)) from error
    return FileResult.parse(answer)


async def jobs(
    url: str,
    *,
    status: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> JobPage:
    """The key's jobs, the newest first. Raises as `analyze_file` does."""
    query = query_of({"status": status, "limit": limit, "cursor": cursor})
    return JobPage.parse(await _call("GET", url, "", api_key, headers, timeout_s, query))


async def cancel_job(
    url: str,
    job_id: str,
    *,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
) -> None:
    """Cancels a job that is not finished, and deletes recording and result of any."""
    answer = await _call("DELETE", url, _path(job_id), api_key, headers, timeout_s)
    if answer is not None:
        raise BadServerMessage(f"/v1/jobs/{job_id}: an answer to DELETE with content")


def _path(job_id: str) -> str:
    """Below `/v1/jobs`, and nowhere else: a proxy may undo the quoting of a slash."""
    if "/" in job_id or not job_id.strip("."):
        raise ClientError(f"{job_id!r} is no job's id; give that of a `Job`")
    return f"/{quote(job_id, safe='')}"


async def _call(
    method: str,
    url: str,
    path: str,
    api_key: str | None,
    headers: Mapping[str, str] | None,
    timeout_s: float,
    params: Mapping[str, str] | None = None,
) -> Any:
    return await request(
        method,
        http_url(url, f"/v1/jobs{path}"),
        params=params,
        headers=request_headers(api_key, headers),
        timeout_s=timeout_s,
    )
