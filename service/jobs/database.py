"""The store's tables, on SQLite or PostgreSQL by the same code (SQLAlchemy Core).

DBOS keeps its own tables in the same database, so that a job and its workflow are written in one
transaction.
"""

import sqlite3
import time
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.schema import CreateIndex, CreateTable

from ser_core.errors import BadParameter
from service.jobs.job import SQLITE_NAME

#: Of these tables and of what the workflows do. Work of another number is left to the processes
#: that know it, so it changes only when old jobs cannot be finished by new code (ADR 17).
JOB_SCHEMA = 1

#: Of libpq: seconds for a connection, milliseconds until what was sent must have been received.
_PATIENCE: Final = {"connect_timeout": "5", "tcp_user_timeout": "10000"}

#: Held while tables are made, so that two processes that start together do not collide.
_CREATION_LOCK = 0x676C7266  # "glrf"
_SQLITE_WAIT_MS = 30_000
#: Primary result codes of SQLite that no waiting mends: no file, no folder, no right to write.
_LASTING = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY}

_metadata = sa.MetaData()

jobs = sa.Table(
    "glrf_jobs",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("caller", sa.String(64), nullable=False),
    sa.Column("idempotency_key", sa.String(255)),
    sa.Column("query", sa.Text, nullable=False),  # JSON of `FileQuery`, defaults left out
    sa.Column("webhook_url", sa.Text),
    sa.Column("body_sha256", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("progress", sa.Float, nullable=False, default=0.0),
    sa.Column("created_ms", sa.BigInteger, nullable=False),  # since 1970, as all times here
    sa.Column("started_ms", sa.BigInteger),
    sa.Column("finished_ms", sa.BigInteger),
    sa.Column("audio_ms", sa.BigInteger),  # the recording's duration, once it is known
    sa.Column("model", sa.Text),  # `name@version sha256 state` of the chunks so far
    sa.Column("n_chunks", sa.Integer, nullable=False, default=0),
    # Chunks begun in all, and since the last one was stored: what crashes took.
    sa.Column("n_begun", sa.Integer, nullable=False, default=0),
    sa.Column("n_attempts", sa.Integer, nullable=False, default=0),
    sa.Column("error", sa.Text),  # JSON: title, status, detail, code, remedy
    sa.UniqueConstraint("caller", "idempotency_key"),
)

chunks = sa.Table(
    "glrf_job_chunks",
    _metadata,
    sa.Column("job_id", sa.String(32), primary_key=True),
    sa.Column("chunk", sa.Integer, primary_key=True),
    sa.Column("lines", sa.LargeBinary, nullable=False),  # zlib of NDJSON
    sa.Column("audio_from", sa.BigInteger, nullable=False),
    sa.Column("session", sa.LargeBinary),  # zlib of JSON; none after the last chunk
)

results = sa.Table(
    "glrf_job_results",
    _metadata,
    sa.Column("job_id", sa.String(32), primary_key=True),
    sa.Column("document", sa.LargeBinary, nullable=False),  # zlib of JSON
    sa.Column("summary", sa.Text, nullable=False),  # the NDJSON answer's last line
)

messages = sa.Table(
    "glrf_job_messages",
    _metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    # What it tells of: a job, with which it is deleted, or a live session.
    sa.Column("job_id", sa.String(32)),
    sa.Column("session_id", sa.String(32)),
    sa.Column("caller", sa.String(64), nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),  # counts replays
    sa.Column("n_attempts", sa.Integer, nullable=False),
    sa.Column("created_ms", sa.BigInteger, nullable=False),
    sa.Column("tried_ms", sa.BigInteger),
    sa.Column("cause", sa.Text),  # of the last failure
)

executors = sa.Table(
    "glrf_job_executors",
    _metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("beat_ms", sa.BigInteger, nullable=False),
)

totals = sa.Table(
    "glrf_job_totals",
    _metadata,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)

_indexes = [
    sa.Index("glrf_jobs_by_caller", jobs.c.caller, jobs.c.created_ms, jobs.c.id),
    sa.Index("glrf_jobs_by_status", jobs.c.status, jobs.c.finished_ms),
    sa.Index("glrf_job_messages_by_status", messages.c.status),
]


def database_url(url: str | None, folder: Path) -> sa.URL:
    """Where the store is: as `GLRF_JOBS_URL` says, else in the folder; raises `BadParameter`."""
    if url is None:
        return sa.URL.create("sqlite", database=str(folder.absolute() / SQLITE_NAME))
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise _bad_url() from error
    match parsed.get_backend_name():
        case "sqlite" if parsed.database not in (None, "", ":memory:"):
            return parsed.set(drivername="sqlite")
        case "postgresql" | "postgres":
            # What the address itself says wins.
            patience = {name: n for name, n in _PATIENCE.items() if name not in parsed.query}
            return parsed.set(drivername="postgresql+psycopg").update_query_dict(patience)
        case _:
            raise _bad_url()


def _bad_url() -> BadParameter:
    # The address itself is not told: it may hold a password.
    return BadParameter(
        "GLRF_JOBS_URL is neither sqlite:///PATH nor postgresql://USER@HOST/DATABASE",
        remedy="correct it, or unset it for SQLite in GLRF_JOBS_DIR",
    )


#: Errors are logged without a statement's values: roles, addresses of webhooks, keys of requests.
_ENGINE: Final[dict[str, Any]] = {"pool_size": 5, "max_overflow": 15, "hide_parameters": True}


def open_engine(url: sa.URL) -> sa.Engine:
    """A pool of connections; the tables are made by `create_tables`."""
    if url.get_backend_name() != "sqlite":
        return sa.create_engine(url, pool_pre_ping=True, **_ENGINE)
    engine = sa.create_engine(url, **_ENGINE)

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: Any) -> None:
        # Writers one after the other, from their first statement on, as DBOS has it.
        connection.isolation_level = "IMMEDIATE"
        connection.execute(f"PRAGMA busy_timeout={_SQLITE_WAIT_MS}")
        # A commit is on disk before it is told.
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def create_tables(engine: sa.Engine) -> None:
    """Makes what is missing of our tables; any number of processes may do it at a time."""
    if engine.dialect.name == "sqlite":
        _keep_readers_going(engine)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(sa.text("BEGIN IMMEDIATE"))
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATION_LOCK)))
        for table in _metadata.sorted_tables:
            connection.execute(CreateTable(table, if_not_exists=True))
        for index in _indexes:
            connection.execute(CreateIndex(index, if_not_exists=True))


def _keep_readers_going(engine: sa.Engine) -> None:
    """Turns on the write-ahead log, beside which readers need not wait for writers.

    It stays on in the file. While another process opens or leaves the file this is refused at once,
    whatever the busy timeout.
    """
    deadline_s = time.monotonic() + _SQLITE_WAIT_MS / 1000
    while True:
        try:
            with engine.connect() as connection:
                if connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() != "wal":
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError as error:
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
            if code in _LASTING or time.monotonic() > deadline_s:
                raise
            time.sleep(0.05)
