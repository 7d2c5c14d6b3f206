"""The workers' side of DBOS: the workflows, and this process's place among the executors.

A workflow calls one step for each chunk. What a step does is decided by the store alone, so a
step that is repeated after a crash does not score again what is stored.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

from ser_core.errors import InputError, ModelError
from service.jobs.job import JobGone, Overtaken
from service.jobs.outbox import Outbox
from service.jobs.queue import (
    APPLICATION,
    APPLICATION_VERSION,
    SCORING_QUEUE,
    SCORING_WORKFLOW,
    WEBHOOK_QUEUE,
    WEBHOOK_WORKFLOW,
)
from service.jobs.scoring import Hopeless, Scoring
from service.webhooks import Delivered, GivenUp, Outcome, Sender

Progress = Literal["more", "ended"]

T = TypeVar("T")

#: How often the queue is looked at.
POLL_S = 0.5
#: Of one worker, in all and of one receiver: one that is slow holds some of these, for
#: `GLRF_WEBHOOK_TIMEOUT_S` each.
WEBHOOKS_AT_A_TIME = 64
WEBHOOKS_OF_A_RECEIVER = 8
#: Between two attempts, where neither the recording nor the model is to blame: a disk that is full,
#: a share that is not mounted, memory that ran out. It doubles.
RETRY_S = 5.0
MAX_RETRY_S = 120.0
_MAX_DOUBLINGS = 10  # beyond, it is the longest, and no number gets too large

log = logging.getLogger(__name__)


class Executor:
    """One of DBOS's executors: the process that makes it.

    Scoring runs on the event loop on which this was made, workflows in DBOS's threads.
    """

    def __init__(
        self,
        scoring: Scoring,
        outbox: Outbox,
        sender: Sender | None,
        executor_id: str,
        n_jobs: int,
    ) -> None:
        self.id = executor_id
        self._loop = asyncio.get_running_loop()
        self._scoring = scoring
        self._outbox = outbox
        self._sender = sender
        self._n_jobs = n_jobs
        self._is_stopping = threading.Event()
        self._n_failed: Counter[str] = Counter()  # chunks of a job, one after the other
        self._in_hand: set[Future[Any]] = set()
        self._workflows: set[str] = set()

    def launch(self, engine: sa.Engine) -> None:
        """Begins to take jobs; returns when DBOS runs."""
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_engine": engine,
            "application_version": APPLICATION_VERSION,
            "executor_id": self.id,
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
        }
        DBOS(config=config)
        logging.getLogger("dbos").addFilter(_is_news)

        @DBOS.step(name="score_chunk")
        def score_chunk(job_id: str) -> Progress:
            return self._score_chunk(job_id)

        # Deaths of executors are no reason to give up a job: attempts are counted by chunk.
        @DBOS.workflow(name=SCORING_WORKFLOW, max_recovery_attempts=None)
        def _(job_id: str) -> None:
            with self._at_work_on(job_id):
                try:
                    while score_chunk(job_id) == "more":
                        pass
                finally:  # DBOS ends a cancelled job's workflow between two chunks
                    self._done(self._scoring.forget(job_id))

        @DBOS.step(name="attempt")
        def attempt(message_id: str, round_: int, n_failed: int) -> None:
            self._attempt(message_id, round_, n_failed)

        @DBOS.workflow(name=WEBHOOK_WORKFLOW, max_recovery_attempts=None)
        def _(message_id: str, round_: int, n_failed: int) -> None:
            with self._at_work_on(DBOS.workflow_id or ""):
                attempt(message_id, round_, n_failed)

        DBOS.launch()
        DBOS.register_queue(
            WEBHOOK_QUEUE,
            worker_concurrency=WEBHOOKS_AT_A_TIME,
            partition_worker_concurrency=WEBHOOKS_OF_A_RECEIVER,
            polling_interval_sec=POLL_S,
            on_conflict="always_update",
        )
        DBOS.register_queue(
            SCORING_QUEUE,
            worker_concurrency=self._n_jobs,
            polling_interval_sec=POLL_S,
            on_conflict="always_update",
        )

    def is_at_work_on(self, workflow_id: str) -> bool:
        """Whether a thread of this process is in that workflow."""
        return workflow_id in self._workflows

    @contextmanager
    def _at_work_on(self, workflow_id: str) -> Iterator[None]:
        self._workflows.add(workflow_id)
        try:
            yield
        finally:
            self._workflows.discard(workflow_id)

    def _score_chunk(self, job_id: str) -> Progress:
        self._pause_if_stopping()
        try:
            try:
                has_more = self._done(self._scoring.next_chunk(job_id))
                self._n_failed.pop(job_id, None)
                if not has_more:
                    log.info("job %s succeeded", job_id)
                return "more" if has_more else "ended"
            except (InputError, ModelError, Hopeless) as error:
                log.info("job %s failed: %s", job_id, error.code)
                self._n_failed.pop(job_id, None)
                self._done(self._scoring.fail(job_id, error))
                return "ended"
        except JobGone:
            return "ended"
        except Overtaken:
            return "more"
        except Exception:
            # Neither the recording nor the model is to blame, as far as is known.
            n_doublings = min(_MAX_DOUBLINGS, self._n_failed[job_id])
            delay_s = min(MAX_RETRY_S, RETRY_S * 2**n_doublings)
            self._n_failed[job_id] += 1
            log.exception("job %s: a chunk failed, and is tried again in %g s", job_id, delay_s)
            self._is_stopping.wait(delay_s)
            return "more"

    def _attempt(self, message_id: str, round_: int, n_failed: int) -> None:
        """One attempt, and what it came to; where the store is away, once more."""
        while True:
            self._pause_if_stopping()
            try:
                message = self._outbox.waiting(message_id, round_)
                if message is None:
                    return
                if self._sender is None:
                    outcome: Outcome = GivenUp("the service has no GLRF_WEBHOOK_SECRETS any more")
                else:
                    outcome = self._done(self._sender.attempt(message, n_failed))
                self._outbox.note(message_id, round_, n_failed, outcome)
                _log_outcome(message_id, n_failed, outcome)
                return
            except Exception:
                log.exception("webhook %s: an attempt failed, and is repeated", message_id)
                time.sleep(RETRY_S)

    def _done(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which the event loop of the scoring does."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._in_hand.add(future)
        try:
            return future.result()
        finally:
            self._in_hand.discard(future)

    def _pause_if_stopping(self) -> None:
        """Ends the workflow's thread here: another executor goes on with the job."""
        while self._is_stopping.is_set():
            time.sleep(3600)

    def drain(self, timeout_s: float) -> None:
        """Takes nothing new, and waits so long for the chunks in hand."""
        self._is_stopping.set()
        deadline_s = time.monotonic() + timeout_s
        while self._in_hand and time.monotonic() < deadline_s:
            time.sleep(0.05)


def _is_news(record: logging.LogRecord) -> bool:
    """Of what DBOS logs: not the traceback of a workflow that was cancelled, as it was told to."""
    error = record.exc_info[1] if record.exc_info else None
    if type(error).__name__ != "DBOSAwaitedWorkflowCancelledError":  # it is not exported
        return True
    log.info("job %s was deleted while it was scored", getattr(error, "workflow_id", ""))
    return False


def _log_outcome(message_id: str, n_failed: int, outcome: Outcome) -> None:
    """Without the cause, which may name the address."""
    if isinstance(outcome, Delivered):
        log.info("webhook %s is delivered", message_id)
        return
    answer = "no answer" if outcome.status is None else f"status {outcome.status}"
    if isinstance(outcome, GivenUp):
        log.warning(
            "webhook %s is given up after %d attempts: %s", message_id, n_failed + 1, answer
        )
    else:
        log.info("webhook %s: attempt %d failed: %s", message_id, n_failed + 1, answer)
