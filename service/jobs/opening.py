"""The store of jobs as the server has it: opened when it is needed, and looked at for metrics.

What the store needs (SQLAlchemy, DBOS) is imported there too, when there is a store: a server
without jobs starts without it, and one with a store opens it at its start, as the import would
delay live streams.
"""

import logging
import os
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ser_core.errors import Unavailable
from service.jobs.job import DEAD_AFTER_S, SQLITE_NAME
from service.metrics import JobCounts
from service.settings import Settings

if TYPE_CHECKING:
    import sqlalchemy as sa

    from service.jobs.queue import JobQueue
    from service.jobs.store import JobStore

log = logging.getLogger(__name__)


class StoreOnDemand:
    """One service's store. All methods block.

    Raises `BadParameter` for a `GLRF_JOBS_URL` that is none.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        if settings.jobs_url is not None:
            store_url(settings)
        self._opening = threading.Lock()
        self._opened: tuple[JobStore, JobQueue] | None = None
        self._has_failed = False

    def open(self) -> "tuple[JobStore, JobQueue]":
        """The store and the workers' queue, made if need be; raises as `open_store` does."""
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
                self.open()

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
                store, _ = self.open()
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
