"""What is kept of jobs: their rows, their chunks, their results. All methods block.

with store.begin() as connection:
    store.add(connection, job)
"""

import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

from service import wire
from service.analysis import FileChunk
from service.jobs.database import chunks, executors, jobs, messages, results, totals
from service.jobs.job import FINISHED, STATUSES, UNFINISHED, Job, JobGone, Overtaken, Status, now_ms

#: From this status on it is the service that failed, and not the recording.
OUR_FAULT = 500
#: Parameters of one statement; databases bound them.
NAMES_AT_A_TIME = 1_000


class JobStore:
    """The store behind one engine; `on_end` is called in the transaction that ends a job."""

    def __init__(
        self,
        engine: sa.Engine,
        on_end: Callable[[sa.Connection, Job], None] = lambda *_: None,
    ) -> None:
        self.engine = engine
        self.on_end = on_end

    def begin(self) -> AbstractContextManager[sa.Connection]:
        """A transaction."""
        return self.engine.begin()

    # --- the callers' side ---------------------------------------------------------------------

    def add(self, connection: sa.Connection, job: Job) -> None:
        """Raises `sqlalchemy.exc.IntegrityError` where the caller used the idempotency key."""
        row = {name: getattr(job, name) for name in Job.__slots__}
        connection.execute(sa.insert(jobs).values(**row))

    def find(self, job_id: str, caller: str | None = None) -> Job | None:
        """A job, if it is there, and the caller's where one is named."""
        query = sa.select(jobs).where(jobs.c.id == job_id)
        return self._one(query if caller is None else query.where(jobs.c.caller == caller))

    def of_key(self, caller: str, idempotency_key: str) -> Job | None:
        """The job that a caller made with this key."""
        return self._one(
            sa.select(jobs).where(
                jobs.c.caller == caller, jobs.c.idempotency_key == idempotency_key
            )
        )

    def page(
        self,
        caller: str,
        status: Status | None,
        limit: int,
        before: tuple[int, str] | None,
    ) -> list[Job]:
        """A caller's jobs, the newest first, after the one made at `before` (time, id)."""
        query = sa.select(jobs).where(jobs.c.caller == caller)
        if status is not None:
            query = query.where(jobs.c.status == status)
        if before is not None:
            query = query.where(sa.tuple_(jobs.c.created_ms, jobs.c.id) < sa.tuple_(*before))
        query = query.order_by(jobs.c.created_ms.desc(), jobs.c.id.desc()).limit(limit)
        with self.engine.connect() as connection:
            return [_job(row) for row in connection.execute(query)]

    def delete(self, connection: sa.Connection, job_id: str) -> None:
        """All that is kept of a job. A worker that scores it notices at its next chunk."""
        self.expire(connection, job_id)
        connection.execute(sa.delete(messages).where(messages.c.job_id == job_id))

    def expire(self, connection: sa.Connection, job_id: str) -> None:
        """All but a webhook of it that waits: that tells how the job ended, and no result."""
        for key in (jobs.c.id, chunks.c.job_id, results.c.job_id):
            connection.execute(sa.delete(key.table).where(key == job_id))
        connection.execute(
            sa.delete(messages).where(messages.c.job_id == job_id, messages.c.status != "waiting")
        )

    def n_unfinished(self, connection: sa.Connection) -> int:
        """Jobs that wait or are being scored."""
        query = sa.select(sa.func.count()).where(jobs.c.status.in_(UNFINISHED))
        return connection.execute(query).scalar_one()

    def result(self, job_id: str) -> tuple[bytes, str] | None:
        """The result's JSON, compressed by zlib, and the NDJSON answer's last line."""
        query = sa.select(results.c.document, results.c.summary).where(results.c.job_id == job_id)
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (row.document, row.summary)

    def lines(self, job_id: str, n_chunks: int) -> Iterator[bytes]:
        """The NDJSON of the job's first chunks, one chunk at a time."""
        for number in range(n_chunks):
            query = sa.select(chunks.c.lines).where(
                chunks.c.job_id == job_id, chunks.c.chunk == number
            )
            with self.engine.connect() as connection:
                data = connection.execute(query).scalar_one_or_none()
            if data is None:
                raise JobGone(job_id)
            yield zlib.decompress(data)

    # --- the workers' side ---------------------------------------------------------------------

    def take(self, job_id: str) -> Job:
        """Counts one more attempt at the job's next chunk; raises `JobGone`."""
        with self.begin() as connection:
            row = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id, jobs.c.status.in_(UNFINISHED))
                .values(
                    status="running",
                    started_ms=sa.func.coalesce(jobs.c.started_ms, now_ms()),
                    n_begun=jobs.c.n_begun + 1,
                    n_attempts=jobs.c.n_attempts + 1,
                )
                .returning(*jobs.c)
            ).one_or_none()
        if row is None:
            raise JobGone(job_id)
        return _job(row)

    def give_back(self, job: Job) -> None:
        """Takes back what `take` counted: something else than the job stopped the attempt."""
        with self.begin() as connection:
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job.id, jobs.c.n_chunks == job.n_chunks, jobs.c.n_attempts > 0)
                .values(n_attempts=jobs.c.n_attempts - 1)
            )

    def last_chunk(self, job: Job) -> FileChunk | None:
        """Where to go on with a job; its lines are left out."""
        query = sa.select(chunks.c.audio_from, chunks.c.session).where(
            chunks.c.job_id == job.id, chunks.c.chunk == job.n_chunks - 1
        )
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return FileChunk((), row.audio_from, json.loads(zlib.decompress(row.session)))

    def put_chunk(
        self, job: Job, chunk: FileChunk, model: str, *, progress: float, elapsed_s: float
    ) -> None:
        """Stores one more chunk, scored in `elapsed_s`, and where to go on after it, at once.

        Raises `JobGone` and `Overtaken`.
        """
        with self.begin() as connection:
            self._advance(connection, job, elapsed_s, model=model, progress=progress)
            self._upsert_chunk(connection, job, chunk)

    def succeed(
        self,
        job: Job,
        chunk: FileChunk,
        model: str,
        *,
        document: bytes,
        summary: str,
        audio_ms: int,
        elapsed_s: float,
    ) -> None:
        """Stores the last chunk and the result, at once; raises `JobGone` and `Overtaken`."""
        with self.begin() as connection:
            self._advance(
                connection,
                job,
                elapsed_s,
                model=model,
                progress=1.0,
                status="succeeded",
                finished_ms=now_ms(),
                audio_ms=audio_ms,
            )
            self._upsert_chunk(connection, job, chunk)
            self._upsert(
                connection,
                results,
                {"job_id": job.id},
                {"document": document, "summary": summary},
            )
            self.count(connection, "succeeded")
            self._end(connection, job.id)

    def fail(self, job_id: str, error: dict[str, Any]) -> None:
        """Ends a job by a problem; nothing changes for one that has ended. Raises `JobGone`."""
        with self.begin() as connection:
            changed = connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job_id, jobs.c.status.in_(UNFINISHED))
                .values(status="failed", finished_ms=now_ms(), error=json.dumps(error))
            ).rowcount
            if not changed:
                raise JobGone(job_id)
            connection.execute(sa.delete(chunks).where(chunks.c.job_id == job_id))
            self.count(connection, "failed")
            if error["status"] >= OUR_FAULT:
                self.count(connection, "faults")
            self._end(connection, job_id)

    def _end(self, connection: sa.Connection, job_id: str) -> None:
        row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).one()
        self.on_end(connection, _job(row))

    def begin_anew(self, job: Job) -> None:
        """Forgets what was scored of a job: by a model that is no longer served."""
        with self.begin() as connection:
            connection.execute(sa.delete(chunks).where(chunks.c.job_id == job.id))
            connection.execute(
                sa.update(jobs)
                .where(jobs.c.id == job.id, jobs.c.status.in_(UNFINISHED))
                .values(n_chunks=0, progress=0.0, model=None)
            )

    def _advance(
        self, connection: sa.Connection, job: Job, elapsed_s: float, **values: Any
    ) -> None:
        """Locks the job's row first: a job that is being deleted gets no chunk any more."""
        progress = sa.case(
            (jobs.c.progress > values["progress"], jobs.c.progress), else_=values.pop("progress")
        )
        changed = connection.execute(
            sa.update(jobs)
            .where(
                jobs.c.id == job.id,
                jobs.c.status.in_(UNFINISHED),
                jobs.c.n_chunks == job.n_chunks,
            )
            .values(n_chunks=job.n_chunks + 1, n_attempts=0, progress=progress, **values)
        ).rowcount
        if not changed:
            is_there = sa.select(jobs.c.id).where(
                jobs.c.id == job.id, jobs.c.status.in_(UNFINISHED)
            )
            raise (Overtaken if connection.execute(is_there).first() else JobGone)(job.id)
        self.count(connection, "chunks")
        self.count(connection, "chunk_seconds", elapsed_s)

    def _upsert_chunk(self, connection: sa.Connection, job: Job, chunk: FileChunk) -> None:
        session = None
        if chunk.session is not None:
            session = zlib.compress(json.dumps(chunk.session, separators=(",", ":")).encode())
        self._upsert(
            connection,
            chunks,
            {"job_id": job.id, "chunk": job.n_chunks},
            {
                "lines": zlib.compress(ndjson(chunk.lines)),
                "audio_from": chunk.audio_from,
                "session": session,
            },
        )

    def _upsert(
        self,
        connection: sa.Connection,
        table: sa.Table,
        key: dict[str, Any],
        values: dict[str, Any],
    ) -> None:
        insert = self._insert(table).values(**key, **values)
        connection.execute(insert.on_conflict_do_update(index_elements=list(key), set_=values))

    def _insert(self, table: sa.Table) -> Any:
        """The dialect's own INSERT, which knows ON CONFLICT."""
        if self.engine.dialect.name == "sqlite":
            from sqlalchemy.dialects.sqlite import insert
        else:
            from sqlalchemy.dialects.postgresql import insert
        return insert(table)

    # --- totals for the metrics ----------------------------------------------------------------

    def count(self, connection: sa.Connection, name: str, amount: float = 1) -> None:
        """Adds to a total that outlives jobs and processes."""
        insert = self._insert(totals).values(name=name, value=amount)
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["name"], set_={"value": totals.c.value + amount}
            )
        )

    def totals(self) -> dict[str, float]:
        """All totals by name."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(totals.c.name, totals.c.value))
            return {row.name: row.value for row in rows}

    def by_status(self) -> dict[str, int]:
        """How many jobs there are of each status."""
        query = sa.select(jobs.c.status, sa.func.count().label("n_jobs")).group_by(jobs.c.status)
        with self.engine.connect() as connection:
            found = {row.status: row.n_jobs for row in connection.execute(query)}
        return {status: found.get(status, 0) for status in STATUSES}

    def n_messages_waiting(self) -> int:
        """Webhooks that are to be delivered, now or later."""
        query = sa.select(sa.func.count()).where(messages.c.status == "waiting")
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def oldest_queued_s(self) -> float:
        """How long the queued job that is next has waited; 0 where none is."""
        query = sa.select(sa.func.min(jobs.c.created_ms)).where(jobs.c.status == "queued")
        with self.engine.connect() as connection:
            created_ms = connection.execute(query).scalar_one()
        return 0.0 if created_ms is None else max(0.0, (now_ms() - created_ms) / 1000)

    # --- what died ---------------------------------------------------------------------------

    def begun_before(self, before_ms: int, limit: int = 1000) -> list[str]:
        """Ids of unfinished jobs that were accepted before a time."""
        query = (
            sa.select(jobs.c.id)
            .where(jobs.c.status.in_(UNFINISHED), jobs.c.created_ms < before_ms)
            .order_by(jobs.c.created_ms)
            .limit(limit)
        )
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    # --- executors -----------------------------------------------------------------------------

    def beat(self, executor_id: str) -> None:
        """Says that an executor is alive."""
        with self.begin() as connection:
            self._upsert(connection, executors, {"id": executor_id}, {"beat_ms": now_ms()})

    def leave(self, executor_id: str) -> None:
        """Says that an executor is no more: its work can be taken up at once."""
        with self.begin() as connection:
            connection.execute(sa.delete(executors).where(executors.c.id == executor_id))

    def n_executors(self, timeout_s: float) -> int:
        """How many were heard of within `timeout_s`."""
        query = sa.select(sa.func.count()).where(executors.c.beat_ms >= now_ms() - timeout_s * 1000)
        with self.engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def live_executors(self, timeout_s: float) -> list[str]:
        """Those that were heard of within `timeout_s`, in order; the others are forgotten."""
        with self.begin() as connection:
            connection.execute(
                sa.delete(executors).where(executors.c.beat_ms < now_ms() - timeout_s * 1000)
            )
            return list(
                connection.execute(sa.select(executors.c.id).order_by(executors.c.id)).scalars()
            )

    # --- retention -----------------------------------------------------------------------------

    def expired(self, before_ms: int, limit: int = 100) -> list[str]:
        """Ids of jobs that ended before a time."""
        query = (
            sa.select(jobs.c.id)
            .where(jobs.c.status.in_(FINISHED), jobs.c.finished_ms < before_ms)
            .limit(limit)
        )
        with self.engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def with_audio(self, names: list[str], *, finished_too: bool) -> set[str]:
        """Those of the ids whose recording is still needed: also where the service failed it."""
        kept: set[str] = set()
        with self.engine.connect() as connection:
            for first in range(0, len(names), NAMES_AT_A_TIME):
                some = names[first : first + NAMES_AT_A_TIME]
                query = sa.select(jobs.c.id, jobs.c.status, jobs.c.error)
                for row in connection.execute(query.where(jobs.c.id.in_(some))):
                    is_ours = row.error is not None and json.loads(row.error)["status"] >= OUR_FAULT
                    if finished_too or is_ours or row.status in UNFINISHED:
                        kept.add(row.id)
        return kept

    def _one(self, query: sa.Select[Any]) -> Job | None:
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _job(row)


def _job(row: sa.Row[Any]) -> Job:
    return Job(**row._mapping)


def ndjson(lines: tuple[wire.Line, ...]) -> bytes:
    """One JSON object a line."""
    return b"".join(line.model_dump_json().encode() + b"\n" for line in lines)
