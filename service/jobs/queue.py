"""The names that the API's side and the workers' side of DBOS share, and the API's side itself."""

import logging
from typing import Any

import sqlalchemy as sa

from service.jobs.database import JOB_SCHEMA
from service.webhooks import receiver_of

APPLICATION = "glrf"
#: Fixed by the schema, never by the code's hash: an upgrade must not strand what it finds.
APPLICATION_VERSION = f"jobs-{JOB_SCHEMA}"
SCORING_QUEUE = "glrf-jobs"
SCORING_WORKFLOW = "score"
#: Divided by receivers, so that one that hangs holds up its own messages alone.
WEBHOOK_QUEUE = "glrf-webhooks-by-receiver"
WEBHOOK_WORKFLOW = "deliver"


class JobQueue:
    """Puts jobs into the workers' queue; the tables of DBOS must be there."""

    def __init__(self, engine: sa.Engine) -> None:
        from dbos import DBOSClient, DBOSPortableJSONSerializer  # takes a second

        self._client = DBOSClient(
            system_database_engine=engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=APPLICATION,
        )

    def add(self, connection: sa.Connection, job_id: str) -> None:
        """Queues a job when `connection` commits; the job's id is its workflow's."""
        options: Any = {
            "workflow_name": SCORING_WORKFLOW,
            "queue_name": SCORING_QUEUE,
            "workflow_id": job_id,
            "app_version": APPLICATION_VERSION,
        }
        self._client.enqueue_in_transaction(connection, options, job_id)

    def add_attempt(
        self,
        connection: sa.Connection,
        message_id: str,
        url: str,
        round_: int,
        n_failed: int,
        wait_s: float,
    ) -> None:
        """Queues an attempt at a webhook for `wait_s` from now, when `connection` commits."""
        options: Any = {
            "workflow_name": WEBHOOK_WORKFLOW,
            "queue_name": WEBHOOK_QUEUE,
            "queue_partition_key": receiver_of(url),
            "workflow_id": f"{message_id}-{round_}-{n_failed}",
            "app_version": APPLICATION_VERSION,
        }
        if wait_s > 0:
            options["delay_seconds"] = wait_s
        self._client.enqueue_in_transaction(connection, options, message_id, round_, n_failed)

    def cancel(self, job_id: str) -> None:
        """The job is not begun any more, or ends before its next chunk."""
        self._client.cancel_workflow(job_id)

    def forget(self, job_ids: list[str]) -> None:
        """Deletes what DBOS keeps of jobs."""
        self._client.delete_workflows(job_ids)

    def close(self) -> None:
        """Ends what the client runs; the engine stays open."""
        self._client.destroy()


def create_queue_tables(url: sa.URL) -> None:
    """Makes or migrates the tables of DBOS; any number of processes may do it at a time."""
    from dbos import DBOS

    # It tells each start what our own log tells, and where else its workflows could be watched.
    logging.getLogger("dbos").setLevel(logging.WARNING)
    DBOS.migrate(url.render_as_string(hide_password=False))
