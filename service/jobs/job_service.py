"""The jobs of one service as its routes ask for them.

What blocks on the store is made by `ask`, in threads of its own.
"""

import base64
import binascii
import json
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ser_core.errors import BadParameter, NotFound, Overloaded
from service.jobs.intake import Intake
from service.jobs.job import ID, UNFINISHED, Job, Status
from service.jobs.opening import StoreOnDemand
from service.settings import Settings
from service.threads import Threads

if TYPE_CHECKING:
    from service.jobs.outbox import Outbox
    from service.jobs.store import JobStore

_N_THREADS = 8
#: Texts of results that may be made or wait: of the longest recordings one takes 15 s and 1 GB.
_MAX_TEXTS = 8
#: What a caller waits for the store; it has told long before that its database is away.
_PATIENCE_S = 15.0

T = TypeVar("T")


class JobService:
    """Jobs that are handed in by `intake` and asked for here.

    Raises `BadParameter` for a `GLRF_JOBS_URL` that is none.
    """

    def __init__(self, settings: Settings) -> None:
        self.opened = StoreOnDemand(settings)
        self.intake = Intake(settings, self.opened)
        self._keep_days = settings.jobs_keep_days
        self._threads = Threads("the store of jobs", _N_THREADS)
        self._text_thread = Threads("texts of results", 1)
        self._n_texts = 0

    async def ask(self, work: Callable[..., T], *args: Any) -> T:
        """Runs what blocks on the store; raises as it does, and `TimeoutError` after a while."""
        return await self.ask_for(_PATIENCE_S, work, *args)

    async def ask_for(self, patience_s: float | None, work: Callable[..., T], *args: Any) -> T:
        """The same with other patience, or with all there is.

        In threads of its own: a database that hangs keeps nobody else waiting.
        """
        return await self._threads.run(work, *args, patience_s=patience_s)

    async def text(self, make: Callable[..., str], *args: Any) -> str:
        """What `make` makes of a job's result: one at a time, each for as long as it takes.

        Raises `Overloaded` where as many as may be wait already.
        """
        if self._n_texts >= _MAX_TEXTS:
            raise Overloaded(
                f"{_MAX_TEXTS} results are being made into tables, captions or reports already",
                remedy="try again later, or accept application/json or application/x-ndjson",
                retry_after_s=10.0,
            )
        self._n_texts += 1
        try:
            return await self._text_thread.run(make, *args)
        finally:
            self._n_texts -= 1

    @property
    def store(self) -> "JobStore":
        """The store, opened and made if need be."""
        return self.opened.open()[0]

    def find(self, job_id: str, caller: str) -> Job:
        """Raises `NotFound` for a job that is not there, or not the caller's."""
        job = self.store.find(job_id, caller)
        if job is None:
            raise no_such_job()
        return job

    def page(
        self, caller: str, status: Status | None, limit: int, cursor: str | None
    ) -> tuple[list[Job], str | None]:
        """Some of a caller's jobs, the newest first, and the cursor of what comes after them.

        Raises `BadParameter` for a cursor that is none.
        """
        before = None if cursor is None else _parse_cursor(cursor)
        found = self.store.page(caller, status, limit + 1, before)
        return found[:limit], _cursor(found[limit - 1]) if len(found) > limit else None

    @property
    def outbox(self) -> "Outbox":
        """The webhooks of these jobs."""
        from service.jobs.outbox import Outbox

        store, queue = self.opened.open()
        return Outbox(store, queue.add_attempt, self._keep_days)

    async def deliver(self, url: str, caller: str, event: dict[str, Any]) -> None:
        """Takes an event of a live session over: returns when it is on disk, to be sent."""
        await self.ask(lambda: self.outbox.tell(url, caller, event))

    def delete(self, job_id: str, caller: str) -> None:
        """Cancels a job that is not finished, and deletes all of it; raises `NotFound`."""
        job = self.find(job_id, caller)
        store, queue = self.opened.open()
        if job.status in UNFINISHED:
            queue.cancel(job_id)
        with store.begin() as connection:
            store.delete(connection, job_id)
        self.intake.audio.remove(job_id)


def no_such_job() -> NotFound:
    """It was never there, or is another caller's, or is there no more."""
    return NotFound(
        "there is no such job of this API key",
        remedy="see GET /v1/jobs; a job is deleted some days after its end",
        code="job_not_found",
    )


def _cursor(job: Job) -> str:
    text = json.dumps([job.created_ms, job.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _parse_cursor(cursor: str) -> tuple[int, str]:
    parsed: Any = None
    with suppress(ValueError, binascii.Error, RecursionError):
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        parsed = json.loads(base64.b64decode(padded, b"-_", validate=True))
    match parsed:
        case [int(created_ms), str(job_id)] if (
            not isinstance(created_ms, bool) and abs(created_ms) < 2**53 and ID.fullmatch(job_id)
        ):
            return created_ms, job_id
        case _:
            raise BadParameter(
                "cursor is none of this service",
                remedy="send the next_cursor that came, as it came",
            )
