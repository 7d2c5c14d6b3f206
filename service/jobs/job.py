"""A job as it is kept, and what can come between a worker and its job."""

import re
import time
from dataclasses import dataclass
from typing import Final, Literal, get_args

#: The store in `GLRF_JOBS_DIR`, where no other is named.
SQLITE_NAME = "jobs.sqlite"

#: An executor that was not heard of for so long is dead. One that is slow only is not hurt: its
#: next chunk is refused, as another has brought the job further.
DEAD_AFTER_S = 12.0

#: Of a job.
ID: Final = re.compile(r"[0-9a-f]{32}")

Status = Literal["queued", "running", "succeeded", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
UNFINISHED: tuple[Status, ...] = ("queued", "running")
FINISHED: tuple[Status, ...] = ("succeeded", "failed")


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `glrf_jobs`; times are milliseconds since 1970."""

    id: str
    caller: str
    query: str
    body_sha256: str
    created_ms: int
    idempotency_key: str | None = None
    webhook_url: str | None = None
    status: Status = "queued"
    progress: float = 0.0
    started_ms: int | None = None
    finished_ms: int | None = None
    audio_ms: int | None = None
    model: str | None = None
    n_chunks: int = 0
    n_begun: int = 0
    n_attempts: int = 0
    error: str | None = None


class JobGone(Exception):
    """The job was deleted, or has ended."""


class Overtaken(Exception):
    """Another executor, which took this one for dead, has brought the job further."""


def now_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
