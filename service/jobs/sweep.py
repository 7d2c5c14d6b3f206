"""What a worker does beside its jobs: says that it lives, takes up dead ones' work, clears away."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from service.jobs.audio import AudioFolder
from service.jobs.job import DEAD_AFTER_S, now_ms
from service.jobs.outbox import Outbox
from service.jobs.queue import JobQueue
from service.jobs.store import JobStore
from service.settings import Settings

BEAT_S = 2.0
CLEAR_EVERY_S = 60.0
#: Files whose job is not there may belong to one that is about to be accepted.
STRAY_AFTER_S = 2 * 3600.0
_DAY_S = 86_400.0
_ALIVE = ("ENQUEUED", "DELAYED", "PENDING")

log = logging.getLogger(__name__)


class Sweep:
    """A thread of one executor; the first of the living sweeps for all."""

    def __init__(
        self,
        store: JobStore,
        queue: JobQueue,
        outbox: Outbox,
        audio: AudioFolder,
        settings: Settings,
        executor_id: str,
        is_at_work_on: Callable[[str], bool],
    ) -> None:
        self._store = store
        self._queue = queue
        self._outbox = outbox
        self._audio = audio
        self._settings = settings
        self._id = executor_id
        self._is_at_work_on = is_at_work_on
        self._suspects: set[str] = set()
        self._is_failing = False
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweep", daemon=True)

    def start(self) -> None:
        """The first sign of life, then the thread."""
        self._store.beat(self._id)
        self._thread.start()

    def stop(self) -> None:
        """The last sign: others may take up what is left, or soon, where it cannot be given."""
        self._is_over.set()
        self._thread.join(BEAT_S)
        try:
            self._store.leave(self._id)
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            log.warning("the store of jobs was not told of this worker's end: %s", cause)

    def _run(self) -> None:
        cleared_s = time.monotonic()
        while not self._is_over.wait(BEAT_S):
            try:
                self._store.beat(self._id)
                living = self._store.live_executors(DEAD_AFTER_S)
                is_time = time.monotonic() - cleared_s > CLEAR_EVERY_S
                if is_time:
                    cleared_s = time.monotonic()
                    self.take_up_stranded()
                if living[:1] == [self._id]:
                    self.take_up_orphans(living)
                    if is_time:
                        self.mend()
                        self.clear()
                self._is_failing = False
            except Exception as error:  # the database is away: nothing else is lost by waiting
                is_known = isinstance(error, SQLAlchemyError | OSError)
                if not is_known:
                    log.exception("the sweep of jobs failed, and is tried again")
                elif not self._is_failing:  # once, not every two seconds
                    cause = getattr(error, "orig", None) or error
                    log.error("the sweep of jobs fails, and is tried until it does not: %s", cause)
                self._is_failing = is_known

    def take_up_orphans(self, living: list[str]) -> None:
        """Queues again what executors had in hand that are no longer there."""
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        for workflow in pending:
            if workflow.executor_id not in living:
                log.warning("%s is taken up from a dead worker", workflow.workflow_id)
                DBOS.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name)

    def take_up_stranded(self) -> None:
        """Queues again what this process had in hand and no thread of it is in any more.

        A workflow's thread dies where DBOS cannot record a step, as on a full disk; the workflow
        then looks alive for as long as the process is. One is given a whole look's time to begin.
        """
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        stranded = {
            workflow.workflow_id: workflow.queue_name
            for workflow in pending
            if workflow.executor_id == self._id and not self._is_at_work_on(workflow.workflow_id)
        }
        for workflow_id in self._suspects & set(stranded):
            log.warning("%s is taken up again: its thread has died", workflow_id)
            DBOS.resume_workflow(workflow_id, queue_name=stranded.pop(workflow_id))
        self._suspects = set(stranded)

    def mend(self) -> None:
        """Queues again what is unfinished though its workflow has ended, or was never there.

        It should not happen; but what was accepted is scored, whatever went wrong.
        """
        waiting = self._store.begun_before(now_ms() - round(CLEAR_EVERY_S * 1000))
        if not waiting:
            return
        found = DBOS.list_workflows(workflow_ids=waiting, load_input=False, load_output=False)
        alive = {workflow.workflow_id for workflow in found if workflow.status in _ALIVE}
        for job_id in set(waiting) - alive:
            log.error("job %s had no workflow any more, and is queued again", job_id)
            self._queue.forget([job_id])
            with self._store.begin() as connection:
                self._queue.add(connection, job_id)

    def clear(self) -> None:
        """Deletes jobs and messages whose time is over, and files that belong to none."""
        keep_s = self._settings.jobs_keep_days * _DAY_S
        before_ms = now_ms() - round(keep_s * 1000)
        for job_id in self._store.expired(before_ms):
            with self._store.begin() as connection:
                self._store.expire(connection, job_id)
            self._audio.remove(job_id)
        self._outbox.clear(before_ms)
        done = DBOS.list_workflows(
            status=["SUCCESS", "ERROR", "CANCELLED"],
            completed_before=datetime.fromtimestamp(time.time() - keep_s, UTC).isoformat(),
            limit=1000,
            load_input=False,
            load_output=False,
        )
        if done:
            DBOS.delete_workflows([workflow.workflow_id for workflow in done])
        strays = self._audio.strays(STRAY_AFTER_S)
        kept = self._store.with_audio(strays, finished_too=self._settings.jobs_keep_audio)
        for name in set(strays) - kept:
            self._audio.remove(name)
