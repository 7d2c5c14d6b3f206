"""A job as its maker sees it, in answers and in webhooks."""

import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from service.jobs.job import Job, Status
from service.requests import FileQuery


class JobError(BaseModel):
    """Why a job failed: the members of a problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    remedy: str


class JobState(BaseModel):
    """One job; times are ISO 8601 in UTC."""

    model_config = ConfigDict(frozen=True)

    id: str
    status: Status
    progress: float
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None
    duration_ms: int | None
    options: dict[str, Any]
    webhook_url: str | None
    error: JobError | None


def state_of(job: Job, keep_days: float) -> JobState:
    """What is told of a row."""
    expires_ms = None
    if job.finished_ms is not None:
        expires_ms = job.finished_ms + round(keep_days * 86_400_000)
    return JobState(
        id=job.id,
        status=job.status,
        progress=round(job.progress, 4),
        created_at=time_of(job.created_ms),
        started_at=None if job.started_ms is None else time_of(job.started_ms),
        finished_at=None if job.finished_ms is None else time_of(job.finished_ms),
        expires_at=None if expires_ms is None else time_of(expires_ms),
        duration_ms=job.audio_ms,
        options=FileQuery(**json.loads(job.query)).model_dump(exclude_defaults=True),
        webhook_url=job.webhook_url,
        error=None if job.error is None else JobError(**json.loads(job.error)),
    )


def time_of(at_ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
