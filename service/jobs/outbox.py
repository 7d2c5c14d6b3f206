"""Webhooks: kept with the jobs, delivered by the workers, the dead ones for a look.

A message is written in the transaction that ends its job, or when a live session tells it, together
with the first attempt, which is a workflow of its own. Each failed attempt queues the next one for
its time, in the transaction that notes the failure: nothing sleeps meanwhile, and nothing is
forgotten when processes die. An attempt whose process died is repeated; receivers know a message
by its id.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from service.jobs.database import jobs, messages
from service.jobs.job import Job, now_ms
from service.jobs.state import state_of, time_of
from service.jobs.store import JobStore
from service.jobs.webhook import StoredWebhook
from service.webhooks import Delivered, GivenUp, Message, Outcome, RetryAt

#: Queues attempt `n_failed` at a message to a URL, some seconds from now, when the transaction
#: commits.
QueueAttempt = Callable[[sa.Connection, str, str, int, int, float], None]


class Outbox:
    """The messages of one store. All methods block."""

    def __init__(self, store: JobStore, queue_attempt: QueueAttempt, keep_days: float) -> None:
        self._store = store
        self._queue_attempt = queue_attempt
        self._keep_days = keep_days

    def announce(self, connection: sa.Connection, job: Job) -> None:
        """Tells that a job has ended, where it has a webhook."""
        if job.webhook_url is None:
            return
        document = {
            "type": f"job.{job.status}",
            "timestamp": time_of(job.finished_ms or now_ms()),
            "data": state_of(job, self._keep_days).model_dump(mode="json"),
        }
        self._post(
            connection,
            StoredWebhook(
                id=f"msg_{job.id}",
                caller=job.caller,
                url=job.webhook_url,
                body=_json(document),
                created_ms=now_ms(),
                job_id=job.id,
            ),
        )

    def tell(self, url: str, caller: str, event: dict[str, Any]) -> None:
        """Takes over an event of a live session; one that is told twice is sent once."""
        document = {"type": event["type"], "timestamp": time_of(now_ms()), "data": event}
        session_id: str = event["session_id"]
        webhook = StoredWebhook(
            id=f"msg_{session_id}_{event['seq']}",
            caller=caller,
            url=url,
            body=_json(document),
            created_ms=now_ms(),
            session_id=session_id,
        )
        with suppress(IntegrityError), self._store.begin() as connection:
            self._post(connection, webhook)

    def _post(self, connection: sa.Connection, webhook: StoredWebhook) -> None:
        connection.execute(sa.insert(messages).values(**asdict(webhook)))
        self._queue_attempt(connection, webhook.id, webhook.url, 0, 0, 0.0)

    def waiting(self, message_id: str, round_: int) -> Message | None:
        """What is to be sent, unless it was delivered, deleted or begun anew meanwhile."""
        query = sa.select(messages).where(
            messages.c.id == message_id,
            messages.c.status == "waiting",
            messages.c.round == round_,
        )
        with self._store.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Message(row.id, row.url, row.body.encode())

    def note(self, message_id: str, round_: int, n_failed: int, outcome: Outcome) -> None:
        """What an attempt came to; queues the next one where there is to be one."""
        values: dict[str, Any]
        match outcome:
            case Delivered():
                values = {"status": "delivered", "cause": None}
            case RetryAt():
                values = {"cause": outcome.cause}
            case GivenUp():
                values = {"status": "dead", "cause": outcome.cause}
        with self._store.begin() as connection:
            url = connection.execute(
                sa.update(messages)
                .where(
                    messages.c.id == message_id,
                    messages.c.status == "waiting",
                    messages.c.round == round_,
                )
                .values(n_attempts=messages.c.n_attempts + 1, tried_ms=now_ms(), **values)
                .returning(messages.c.url)
            ).scalar_one_or_none()
            if url is None:
                return
            self._store.count(connection, f"webhook_{_word(outcome)}")
            if isinstance(outcome, RetryAt):
                wait_s = max(0.0, outcome.at_s - now_ms() / 1000)
                self._queue_attempt(connection, message_id, url, round_, n_failed + 1, wait_s)

    def clear(self, before_ms: int) -> None:
        """Deletes what was told before of sessions and of jobs that are gone, and waits no more."""
        of_a_job = sa.exists().where(jobs.c.id == messages.c.job_id)
        with self._store.begin() as connection:
            connection.execute(
                sa.delete(messages).where(
                    ~of_a_job,
                    messages.c.status != "waiting",
                    messages.c.created_ms < before_ms,
                )
            )

    def dead(self, caller: str, limit: int) -> list[StoredWebhook]:
        """A caller's messages that were given up, the last ones first."""
        query = (
            sa.select(messages)
            .where(messages.c.caller == caller, messages.c.status == "dead")
            .order_by(messages.c.tried_ms.desc(), messages.c.id)
            .limit(limit)
        )
        with self._store.engine.connect() as connection:
            return [StoredWebhook(**row._mapping) for row in connection.execute(query)]

    def replay(self, caller: str, message_id: str) -> StoredWebhook | None:
        """Begins anew with a message that was delivered or given up; `None`: it is not there.

        One that still waits is left to its own times.
        """
        with self._store.begin() as connection:
            mine = (messages.c.id == message_id, messages.c.caller == caller)
            begun = connection.execute(
                sa.update(messages)
                .where(*mine, messages.c.status != "waiting")
                .values(status="waiting", round=messages.c.round + 1)
                .returning(messages.c.url, messages.c.round)
            ).one_or_none()
            if begun is not None:
                self._queue_attempt(connection, message_id, begun.url, begun.round, 0, 0.0)
            row = connection.execute(sa.select(messages).where(*mine)).one_or_none()
        return None if row is None else StoredWebhook(**row._mapping)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _word(outcome: Outcome) -> str:
    match outcome:
        case Delivered():
            return "delivered"
        case RetryAt():
            return "failed"
        case GivenUp():
            return "given_up"
