import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ser_core.errors import BadParameter
from service import wire
from service.analysis import FileChunk
from service.jobs.audio import MARK, AudioFolder
from service.jobs.database import chunks, create_tables, database_url, open_engine
from service.jobs.job import Job, JobGone, Overtaken, now_ms
from service.jobs.outbox import Outbox
from service.jobs.store import JobStore
from service.metrics import JobCounts
from service.webhooks import Delivered, GivenUp, RetryAt

CHUNK = FileChunk((wire.WarningLine(channel=0, code="clipping", message="x"),), 5, {"a": 1})


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    engine = open_engine(database_url(None, tmp_path))
    create_tables(engine)
    return JobStore(engine)


def added(store: JobStore, name: str = "one", **fields) -> Job:
    job = Job(id=name, caller="me", query="{}", body_sha256="0", created_ms=now_ms(), **fields)
    with store.begin() as connection:
        store.add(connection, job)
    return job


def put(store: JobStore, job: Job) -> None:
    store.put_chunk(job, CHUNK, "model", progress=0.5, elapsed_s=1)


def succeed(store: JobStore, job: Job) -> None:
    last = replace(CHUNK, session=None)
    store.succeed(job, last, "model", document=b"{}", summary="{}", audio_ms=9, elapsed_s=1)


class TestChunks:
    def test_a_chunk_and_where_to_go_on_are_there_together(self, store: JobStore):
        added(store)
        put(store, store.take("one"))
        job = store.take("one")
        assert (job.status, job.n_chunks, job.n_begun, job.progress) == ("running", 1, 2, 0.5)
        last = store.last_chunk(job)
        assert last is not None
        assert (last.audio_from, last.session) == (5, {"a": 1})
        assert b"".join(store.lines("one", 1)) == CHUNK.lines[0].model_dump_json().encode() + b"\n"

    def test_two_executors_cannot_store_the_same_chunk(self, store: JobStore):
        added(store)
        slow, fast = store.take("one"), store.take("one")
        put(store, fast)
        with pytest.raises(Overtaken):
            put(store, slow)
        with store.begin() as connection:
            assert connection.execute(sa.select(sa.func.count(chunks.c.chunk))).scalar() == 1

    def test_a_deleted_job_gets_no_chunk_any_more(self, store: JobStore):
        added(store)
        job = store.take("one")
        with store.begin() as connection:
            store.delete(connection, "one")
        with pytest.raises(JobGone):
            put(store, job)
        with pytest.raises(JobGone):
            store.take("one")

    def test_attempts_count_since_the_last_chunk(self, store: JobStore):
        added(store)
        store.take("one")
        put(store, store.take("one"))
        assert store.take("one").n_attempts == 1

    def test_what_is_given_back_is_no_attempt(self, store: JobStore):
        added(store)
        store.take("one")
        store.give_back(store.take("one"))
        assert store.take("one").n_attempts == 2
        job = store.take("one")
        put(store, job)
        store.take("one")
        store.give_back(job)  # the chunk was stored all the same
        assert store.take("one").n_attempts == 2

    def test_what_begins_anew_forgets_its_chunks(self, store: JobStore):
        added(store)
        put(store, store.take("one"))
        store.begin_anew(store.take("one"))
        job = store.take("one")
        assert (job.n_chunks, job.progress, store.last_chunk(job)) == (0, 0.0, None)


class TestEnd:
    def test_the_end_is_told_once_in_its_transaction(self, store: JobStore):
        told: list[Job] = []
        store.on_end = lambda _, job: told.append(job)
        added(store)
        job = store.take("one")
        succeed(store, job)
        with pytest.raises(JobGone):
            succeed(store, job)
        with pytest.raises(JobGone):
            store.fail("one", {"status": 422})
        assert [(each.status, each.audio_ms) for each in told] == [("succeeded", 9)]
        assert store.totals()["succeeded"] == 1
        assert store.by_status() == {"queued": 0, "running": 0, "succeeded": 1, "failed": 0}

    def test_nothing_ends_where_the_end_cannot_be_told(self, store: JobStore):
        def fail(*_: object) -> None:
            raise OSError("no more disk")

        store.on_end = fail
        added(store)
        with pytest.raises(OSError, match="disk"):
            store.fail("one", {"status": 422})
        assert store.take("one").status == "running"

    @pytest.mark.parametrize(("status", "n_faults"), [(422, None), (499, None), (500, 1), (503, 1)])
    def test_whose_fault_it_was_is_counted(
        self, store: JobStore, status: int, n_faults: int | None
    ):
        added(store)
        store.fail("one", {"status": status})
        assert store.totals().get("failed") == 1
        assert store.totals().get("faults") == n_faults

    def test_how_long_the_next_has_waited(self, store: JobStore):
        assert store.oldest_queued_s() == 0
        added(store)
        time.sleep(0.05)
        added(store, "two")
        assert store.oldest_queued_s() >= 0.05
        store.take("one")
        assert store.oldest_queued_s() < 0.05
        store.take("two")
        assert store.oldest_queued_s() == 0

    def test_a_webhook_that_waits_keeps_no_result_beyond_its_time(self, store: JobStore):
        outbox = Outbox(store, lambda *_: None, keep_days=7.0)
        added(store, webhook_url="https://hooks.example/")
        succeed(store, store.take("one"))
        job = store.find("one")
        assert job is not None
        with store.begin() as connection:
            outbox.announce(connection, job)
        assert store.expired(now_ms() + 1000) == ["one"]
        with store.begin() as connection:
            store.expire(connection, "one")
        assert store.find("one") is None
        assert store.result("one") is None
        outbox.clear(now_ms() + 1000)
        waiting = outbox.waiting("msg_one", 0)
        assert waiting is not None
        outbox.note("msg_one", 0, 0, GivenUp("gone"))
        assert len(outbox.dead("me", 10)) == 1
        outbox.clear(now_ms() + 1000)
        assert outbox.dead("me", 10) == []

    def test_only_what_has_ended_expires(self, store: JobStore):
        added(store)
        added(store, "two")
        store.fail("two", {"status": 422})
        assert store.expired(now_ms() - 1000) == []
        assert store.expired(now_ms() + 1000) == ["two"]

    def test_recordings_are_needed_while_jobs_are_unfinished(
        self, store: JobStore, monkeypatch: pytest.MonkeyPatch
    ):
        added(store)
        added(store, "two")
        store.fail("two", {"status": 422})
        added(store, "ours")
        store.fail("ours", {"status": 500})
        names = ["one", "two", "ours", "receiving-x"]
        assert store.with_audio(names, finished_too=False) == {"one", "ours"}
        assert store.with_audio(names, finished_too=True) == {"one", "two", "ours"}
        monkeypatch.setattr("service.jobs.store.NAMES_AT_A_TIME", 2)
        assert store.with_audio(names, finished_too=True) == {"one", "two", "ours"}


def test_an_idempotency_key_is_of_one_caller(store: JobStore):
    added(store, idempotency_key="k")
    with pytest.raises(IntegrityError):
        added(store, "two", idempotency_key="k")
    other = Job("three", "you", "{}", "0", now_ms(), idempotency_key="k")
    with store.begin() as connection:
        store.add(connection, other)
    added(store, "four")
    added(store, "five")


def test_webhooks_are_counted_until_they_are_delivered_or_given_up(store: JobStore):
    outbox = Outbox(store, lambda *_: None, keep_days=7.0)
    for seq in range(3):
        outbox.tell("https://a.example", "me", {"type": "x", "session_id": "call", "seq": seq})
    assert store.n_messages_waiting() == 3
    outbox.note("msg_call_0", 0, 0, Delivered(200))
    outbox.note("msg_call_1", 0, 0, GivenUp("gone"))
    outbox.note("msg_call_2", 0, 0, RetryAt(now_ms() / 1000 + 3600, "busy"))
    assert store.n_messages_waiting() == 1
    counts = JobCounts()
    counts.is_up, counts.n_webhooks_waiting = True, store.n_messages_waiting()
    [waiting] = [family for family in counts.collect() if family.name == "glrf_webhooks_waiting"]
    assert [sample.value for sample in waiting.samples] == [1]


def test_the_silent_are_dead(store: JobStore):
    store.beat("b")
    store.beat("a")
    assert store.live_executors(10) == ["a", "b"]
    assert (store.n_executors(10), store.n_executors(-1)) == (2, 0)
    store.leave("a")
    assert store.live_executors(10) == ["b"]
    assert store.live_executors(-1) == []


def test_processes_that_start_together_make_one_store(tmp_path: Path):
    failures: list[BaseException] = []

    def start() -> None:
        try:
            engine = open_engine(database_url(None, tmp_path))
            create_tables(engine)
            engine.dispose()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("url", ["mysql://a/b", "sqlite://", "sqlite:///:memory:", "secret", "://"])
def test_an_address_of_no_store_is_refused_unshown(tmp_path: Path, url: str):
    with pytest.raises(BadParameter, match="GLRF_JOBS_URL") as error:
        database_url(url, tmp_path)
    assert "secret" not in error.value.detail


class TestAudioFolder:
    def test_what_is_kept_is_whole_and_the_rest_is_gone(self, tmp_path: Path):
        folder = AudioFolder(tmp_path / "audio")
        folder.mark()
        with folder.receiving() as upload:
            upload.file.write(b"abc")
            upload.keep(folder.path("one"))
        with folder.receiving() as upload:
            upload.file.write(b"half")
        assert folder.path("one").read_bytes() == b"abc"
        assert {path.name for path in (tmp_path / "audio").iterdir()} == {"one", MARK}
        assert folder.strays(3600) == []
        assert folder.strays(-1) == ["one"]
        folder.remove("one")
        folder.remove("one")
        assert folder.strays(-1) == []

    def test_what_is_not_of_jobs_is_no_stray(self, tmp_path: Path):
        folder = AudioFolder(tmp_path)
        (tmp_path / "of somebody else").touch()
        assert folder.strays(-1) == []  # while the share is not mounted
        folder.mark()
        (tmp_path / "lost+found").mkdir()
        assert folder.strays(-1) == ["of somebody else"]

    def test_an_upload_does_not_make_the_folder(self, tmp_path: Path):
        with pytest.raises(FileNotFoundError), AudioFolder(tmp_path / "audio").receiving():
            pass
        assert not list(tmp_path.iterdir())
