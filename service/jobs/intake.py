"""How a recording becomes a job: received into the folder of audio, checked, queued.

A job is accepted when its recording is whole and on the disk, and no earlier.
"""

import hashlib
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, BinaryIO

from ser_core.errors import BadAudio, Conflict, Overloaded, Unavailable
from service.jobs.audio import MARK, AudioFolder, Upload
from service.jobs.job import Job, now_ms
from service.jobs.opening import StoreOnDemand
from service.requests import JobQuery
from service.settings import Settings
from service.threads import Threads

if TYPE_CHECKING:
    import sqlalchemy as sa

    from service.jobs.store import JobStore

_READ_BYTES = 2**20
_N_THREADS = 8
#: What an upload waits for the folder before it begins; then it takes as long as it takes.
_PATIENCE_S = 15.0
#: A total of the store: how many folders of recordings it marked as its own.
_N_FOLDERS = "audio_folders"

log = logging.getLogger(__name__)


class Intake:
    """Recordings on their way to a store."""

    def __init__(self, settings: Settings, opened: StoreOnDemand) -> None:
        self._settings, self._opened = settings, opened
        self._threads = Threads("the folder of jobs", _N_THREADS)
        self._n_uploads = 0
        self.audio = AudioFolder(settings.jobs_dir / "audio")

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
            folder = self._threads
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
        store, _ = self._opened.open()
        is_old = _N_FOLDERS in store.totals()
        with store.begin() as connection:
            if is_old or (self.audio.is_bare and store.n_unfinished(connection)):
                if self.audio.is_away:  # nobody has marked it meanwhile
                    raise _no_folder()
                return
            store.count(connection, _N_FOLDERS)
            self.audio.mark()

    def check_room(self, caller: str, idempotency_key: str | None) -> None:
        """Raises `Overloaded` while as many jobs as may be are unfinished.

        A request that is repeated makes no job and needs no room.
        """
        store, _ = self._opened.open()
        if idempotency_key is not None and store.of_key(caller, idempotency_key):
            return
        with store.begin() as connection:
            self._check_more(store, connection, 1)

    def _check_more(self, store: "JobStore", connection: "sa.Connection", n_jobs: int) -> None:
        """Raises `Overloaded` where so many more are too many."""
        limit = self._settings.jobs_max
        if store.n_unfinished(connection) + n_jobs > limit:
            raise Overloaded(
                f"{limit} jobs wait or are being scored already",
                remedy="try again when some have ended",
                retry_after_s=60.0,
            )

    async def take_in(
        self, upload: Upload, query: JobQuery, caller: str, idempotency_key: str | None
    ) -> Job:
        """`accept`, where it keeps nobody waiting: it reads gigabytes, and waits for the disk."""
        return await self._threads.run(self.accept, upload, query, caller, idempotency_key)

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
        store, queue = self._opened.open()
        if idempotency_key is not None:
            first = store.of_key(caller, idempotency_key)
            if first is not None:
                return _same(first, job)
        upload.keep(self.audio.path(job.id))
        try:
            with store.begin() as connection:
                store.add(connection, job)
                # SQLite has one writer from here on; PostgreSQL lets in who commits meanwhile.
                self._check_more(store, connection, 0)
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
