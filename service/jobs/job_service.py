"""Where jobs are handed in and asked for: the API's side of the store, opened when it is needed.

Its calls block on the database and the disk; the routes make them by `ask`. What the store needs
(SQLAlchemy, DBOS) is imported there too, when there is a store: a server without jobs starts
without it, and one with a store opens it at its start, as the import would delay live streams.
"""

import base64
import binascii
import hashlib
import json
import logging
import os
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from ser_core.errors import BadAudio, BadParameter, Conflict, NotFound, Overloaded, Unavailable
from service.jobs.audio import MARK, AudioFolder, Upload
from service.jobs.job import DEAD_AFTER_S, ID, SQLITE_NAME, UNFINISHED, Job, Status, now_ms
from service.metrics import JobCounts
from service.requests import JobQuery
from service.settings import Settings
from service.threads import Threads

if TYPE_CHECKING:
    import sqlalchemy as sa

    from service.jobs.outbox import Outbox
    from service.jobs.queue import JobQueue
    from service.jobs.store import JobStore

_READ_BYTES = 2**20
_N_THREADS = 8
#: Texts of results that may be made or wait: of the longest recordings one takes 15 s and 1 GB.
_MAX_TEXTS = 8
#: A total of the store: how many folders of recordings it marked as its own.
_N_FOLDERS = "audio_folders"
#: What a caller waits for the store; it has told long before that its database is away.
_PATIENCE_S = 15.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class JobService:
    """The jobs of one service. Raises `BadParameter` for a `GLRF_JOBS_URL` that is none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        if settings.jobs_url is not None:
            store_url(settings)
        self._threads = Threads("the store of jobs", _N_THREADS)
        self._folder_threads = Threads("the folder of jobs", _N_THREADS)
        self._text_thread = Threads("texts of results", 1)
        self._n_texts = 0
        self._opening = threading.Lock()
        self._opened: tuple[JobStore, JobQueue] | None = None
        self._has_failed = False
        self._n_uploads = 0
        self.audio = AudioFolder(settings.jobs_dir / "audio")

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

    @asynccontextmanager
    async def receiving(self) -> AsyncIterator[Upload]:
        """A temporary file of the folder of audio, gone at the end unless it was kept.

        Raises `Overloaded` where as many as may be come in already, and `Unavailable` where the
        folder is away.
        """
        limit = self._settings.jobs_max_uploads
        if self._n_uploads >= limit:
            raise Overloaded(
                f"{limit} recordings come in already", remedy="try again when some have arrived"
            )
        self._n_uploads += 1
        try:
            temporary = self.audio.receiving()
            folder = self._folder_threads
            await folder.run(self._check_folder, patience_s=_PATIENCE_S)
            upload = await folder.run(temporary.__enter__, patience_s=_PATIENCE_S)
            try:
                yield upload
            finally:
                await folder.run(temporary.__exit__, None, None, None)
        finally:
            self._n_uploads -= 1

    def _check_folder(self) -> None:
        """Raises `Unavailable` where the folder of recordings is away.

        A store that never marked one takes what is there, or makes it, and marks it: it is new, or
        an older version's; of the latter the folder is there if it has recordings to score.
        """
        if not self.audio.is_away:
            return
        is_old = _N_FOLDERS in self.store.totals()
        with self.store.begin() as connection:
            if is_old or (self.audio.is_bare and self.store.n_unfinished(connection)):
                if self.audio.is_away:  # nobody has marked it meanwhile
                    raise _no_folder()
                return
            self.store.count(connection, _N_FOLDERS)
            self.audio.mark()

    @property
    def store(self) -> "JobStore":
        """The store, opened and made if need be."""
        return self._open()[0]

    def _open(self) -> "tuple[JobStore, JobQueue]":
        with self._opening:
            if self._opened is None:
                self._has_failed = True
                self._opened = open_store(self._settings)
                self._has_failed = False
            return self._opened

    def open_ahead(self) -> None:
        """Opens the store if there is one; one that is away is opened when it is needed.

        A warning tells where none can be made, before the first job is refused for it.
        """
        self._check_places()
        with suppress(Unavailable, OSError):  # whoever needs it is told
            if self._is_made:
                self._open()

    def close(self) -> None:
        """Ends the connections."""
        with self._opening:
            if self._opened is not None:
                store, queue = self._opened
                self._opened = None
                queue.close()
                store.engine.dispose()

    def _check_places(self) -> None:
        """Warns of a folder that takes no file, or cannot be made. It makes none itself."""
        folder, file = self._settings.jobs_dir.absolute(), self._file
        places = [("GLRF_JOBS_DIR", folder, _nearest(folder))]
        if self._settings.jobs_url is not None and file is not None:
            places.append(("GLRF_JOBS_URL", file.parent, file.parent))  # SQLite makes none
        for name, folder, nearest in places:
            try:
                with tempfile.TemporaryFile(dir=nearest):
                    pass
            except OSError as error:
                self._has_failed = True
                log.warning(
                    "jobs will be refused: %s takes no file (%s: %s); make it a folder that this "
                    "user may write, or name another in %s",
                    *(folder, nearest, error.strerror, name),
                )

    @property
    def _file(self) -> Path | None:
        """The store's, where it is SQLite."""
        if self._settings.jobs_url is None:
            return self._settings.jobs_dir / SQLITE_NAME
        url = store_url(self._settings)
        return Path(url.database or "") if url.get_backend_name() == "sqlite" else None

    @property
    def _is_made(self) -> bool:
        """Whether there may be a store already; a look at the metrics makes none."""
        file = self._file
        return file is None or file.exists()

    def count_into(self, counts: JobCounts) -> None:
        """Tells of jobs and who does them; what was told last stays where the store is away.

        One that could not be made when it was needed is tried again.
        """
        if self._is_made or self._has_failed:
            from sqlalchemy.exc import SQLAlchemyError

            try:
                store = self.store
                counts.by_status, counts.totals = store.by_status(), store.totals()
                counts.n_workers = store.n_executors(DEAD_AFTER_S)
                counts.oldest_queued_s = store.oldest_queued_s()
                counts.n_webhooks_waiting = store.n_messages_waiting()
                counts.is_up = True
            except (Unavailable, SQLAlchemyError) as error:
                counts.is_up = False
                log.warning("jobs cannot be counted: %s", error)
        elif self._opened is not None:  # by now its connections lead to a deleted file
            counts.is_up = False
            log.warning("jobs cannot be counted: the store's file is gone")
        elif counts.totals is None:  # there is nothing yet, so that the first one is an increase
            counts.totals = {}

    def check_room(self, caller: str, idempotency_key: str | None) -> None:
        """Raises `Overloaded` while as many jobs as may be are unfinished.

        A request that is repeated makes no job and needs no room.
        """
        if idempotency_key is not None and self.store.of_key(caller, idempotency_key):
            return
        with self.store.begin() as connection:
            self._check_more(connection, 1)

    def _check_more(self, connection: "sa.Connection", n_jobs: int) -> None:
        """Raises `Overloaded` where so many more are too many."""
        limit = self._settings.jobs_max
        if self.store.n_unfinished(connection) + n_jobs > limit:
            raise Overloaded(
                f"{limit} jobs wait or are being scored already",
                remedy="try again when some have ended",
                retry_after_s=60.0,
            )

    async def take_in(
        self, upload: Upload, query: JobQuery, caller: str, idempotency_key: str | None
    ) -> Job:
        """`accept`, where it keeps nobody waiting: it reads gigabytes, and waits for the disk."""
        return await self._folder_threads.run(self.accept, upload, query, caller, idempotency_key)

    def accept(
        self, upload: Upload, query: JobQuery, caller: str, idempotency_key: str | None
    ) -> Job:
        """The job of a whole upload, on disk and queued, or the first job of its key.

        Raises `BadAudio` for no bytes, `Conflict` for a key that was used for something else, and
        `Overloaded` where others took the room meanwhile.
        """
        from sqlalchemy.exc import IntegrityError

        digest, n_bytes = _digest(upload.file)
        if not n_bytes:
            raise BadAudio("the body is empty", remedy="send audio", code="empty_audio")
        job = Job(
            id=uuid.uuid4().hex,
            caller=caller,
            query=query.scoring,
            body_sha256=digest,
            created_ms=now_ms(),
            idempotency_key=idempotency_key,
            webhook_url=query.webhook_url,
        )
        store, queue = self._open()
        if idempotency_key is not None:
            first = store.of_key(caller, idempotency_key)
            if first is not None:
                return _same(first, job)
        upload.keep(self.audio.path(job.id))
        try:
            with store.begin() as connection:
                store.add(connection, job)
                # SQLite has one writer from here on; PostgreSQL lets in who commits meanwhile.
                self._check_more(connection, 0)
                queue.add(connection, job.id)
        except Overloaded:
            self.audio.remove(job.id)
            raise
        except IntegrityError:
            self.audio.remove(job.id)
            # Somebody with the same key was faster.
            first = None if idempotency_key is None else store.of_key(caller, idempotency_key)
            if first is None:
                raise
            return _same(first, job)
        return job

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

        store, queue = self._open()
        return Outbox(store, queue.add_attempt, self._settings.jobs_keep_days)

    async def deliver(self, url: str, caller: str, event: dict[str, Any]) -> None:
        """Takes an event of a live session over: returns when it is on disk, to be sent."""
        await self.ask(lambda: self.outbox.tell(url, caller, event))

    def delete(self, job_id: str, caller: str) -> None:
        """Cancels a job that is not finished, and deletes all of it; raises `NotFound`."""
        job = self.find(job_id, caller)
        store, queue = self._open()
        if job.status in UNFINISHED:
            queue.cancel(job_id)
        with store.begin() as connection:
            store.delete(connection, job_id)
        self.audio.remove(job_id)


def no_such_job() -> NotFound:
    """It was never there, or is another caller's, or is there no more."""
    return NotFound(
        "there is no such job of this API key",
        remedy="see GET /v1/jobs; a job is deleted some days after its end",
        code="job_not_found",
    )


def store_url(settings: Settings) -> "sa.URL":
    """Where the store is; raises `BadParameter` for a `GLRF_JOBS_URL` that is none."""
    from service.jobs.database import database_url

    url = settings.jobs_url
    return database_url(None if url is None else url.get_secret_value(), settings.jobs_dir)


def _nearest(folder: Path) -> Path:
    """An absolute folder, or what is there of the way to it."""
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder


def open_store(settings: Settings) -> "tuple[JobStore, JobQueue]":
    """Makes the tables and connects.

    Raises `BadParameter`, and `Unavailable` (`jobs_unavailable`).
    """
    from sqlalchemy.exc import SQLAlchemyError

    from service.jobs.database import create_tables, open_engine
    from service.jobs.queue import JobQueue, create_queue_tables
    from service.jobs.store import JobStore

    url = store_url(settings)
    try:
        settings.jobs_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        engine = open_engine(url)
        create_tables(engine)
        create_queue_tables(url)
        return JobStore(engine), JobQueue(engine)
    except (SQLAlchemyError, OSError) as error:
        cause = getattr(error, "orig", None) or error
        log.warning("no store of jobs at %s: %s", url.render_as_string(), cause)
        raise _away(error) from error


def store_failure(error: Exception) -> Unavailable | None:
    """What to answer where the store, or the disk it is on, fails a request; else `None`."""
    from sqlalchemy.exc import SQLAlchemyError

    if not isinstance(error, SQLAlchemyError | OSError):
        return None
    log.warning("the store of jobs failed: %s", getattr(error, "orig", None) or error)
    return _away(error)


def _away(error: Exception) -> Unavailable:
    return Unavailable(
        f"the store of jobs cannot be reached ({type(error).__name__})",
        remedy="try again later; operators: see GLRF_JOBS_URL, GLRF_JOBS_DIR and its disk",
        code="jobs_unavailable",
    )


def _no_folder() -> Unavailable:
    log.warning("the folder of recordings is away: GLRF_JOBS_DIR has no audio/%s", MARK)
    return Unavailable(
        "the folder of the jobs' recordings is away",
        remedy="try again later; operators: mount GLRF_JOBS_DIR, or, if it is the right folder, "
        f"make an empty file audio/{MARK} in it",
        code="jobs_unavailable",
    )


def _digest(file: BinaryIO) -> tuple[str, int]:
    """SHA-256 of a file, hexadecimal, and its size in bytes."""
    file.seek(0)
    digest = hashlib.sha256()
    while data := file.read(_READ_BYTES):
        digest.update(data)
    return digest.hexdigest(), file.tell()


def _same(first: Job, again: Job) -> Job:
    """The first job of an idempotency key, if the second request asks for the same."""
    for name in ("body_sha256", "query", "webhook_url"):
        if getattr(first, name) != getattr(again, name):
            what = "another recording" if name == "body_sha256" else "other parameters"
            raise Conflict(
                f"this Idempotency-Key was used with {what}",
                remedy="use a new key for each recording; repeat a request exactly",
                code="idempotency_key_reused",
            )
    return first


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
