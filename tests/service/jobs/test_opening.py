import asyncio
import errno
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import pytest
from pydantic import SecretStr

from ser_core.errors import Unavailable
from service.app import create_app
from service.jobs.job import SQLITE_NAME
from service.jobs.opening import StoreOnDemand, open_store
from service.jobs.outbox import Outbox
from service.metrics import JobCounts
from service.runtime import Runtime
from service.settings import Settings


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    opened = MagicMock(return_value=(MagicMock(), MagicMock()))
    monkeypatch.setattr("service.jobs.opening.open_store", opened)
    return opened


class TestOpeningAhead:
    """The import takes a second of every live stream, so it happens before there are any."""

    def started(self, model_dir, tmp_path, meanwhile: threading.Event | None = None) -> None:
        app = create_app(Settings(model_dir=model_dir, device="cpu", jobs_dir=tmp_path))

        async def start_and_stop() -> None:
            async with app.router.lifespan_context(app):
                if meanwhile is not None:
                    assert await asyncio.to_thread(meanwhile.wait, 20)

        asyncio.run(start_and_stop())

    def test_a_store_that_is_there(self, model_dir, tmp_path, opened):
        (tmp_path / SQLITE_NAME).touch()
        self.started(model_dir, tmp_path)
        opened.assert_called_once()

    def test_none_is_made(self, model_dir, tmp_path, opened):
        self.started(model_dir, tmp_path)
        opened.assert_not_called()

    def test_one_that_is_away_stops_nothing(self, model_dir, tmp_path, opened):
        (tmp_path / SQLITE_NAME).touch()
        opened.side_effect = Unavailable("gone", remedy="wait", code="jobs_unavailable")
        self.started(model_dir, tmp_path)
        opened.assert_called_once()

    def test_nobody_waits_for_one_that_does_not_answer(
        self, model_dir, tmp_path, opened, monkeypatch
    ):
        (tmp_path / SQLITE_NAME).touch()
        has_begun, may_answer, stopped = threading.Event(), threading.Event(), []

        def answer_late(_: Settings) -> tuple[MagicMock, MagicMock]:
            has_begun.set()
            may_answer.wait(60)
            return MagicMock(), MagicMock()

        opened.side_effect = answer_late

        async def stop(_: Runtime) -> None:
            stopped.append(has_begun.is_set())

        monkeypatch.setattr(Runtime, "stop", stop)
        began_s = time.monotonic()
        self.started(model_dir, tmp_path, meanwhile=has_begun)
        assert time.monotonic() - began_s < 30
        assert stopped == [True]
        may_answer.set()


async def test_a_folder_that_may_not_be_looked_at_is_a_store_that_is_away(
    model_dir, tmp_path, monkeypatch, caplog
):
    app = create_app(Settings(model_dir=model_dir, device="cpu", jobs_dir=tmp_path))
    counts = app.state.runtime.metrics.jobs
    counts.is_up = True

    def deny(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", deny)
        await app.state.runtime.scrape()
    assert counts.is_up is False
    assert "jobs cannot be counted" in caplog.text


async def test_counters_of_a_store_are_told_from_the_first_look_at_it_on(model_dir, tmp_path):
    app = create_app(Settings(model_dir=model_dir, device="cpu", jobs_dir=tmp_path))
    counts, scrape = app.state.runtime.metrics.jobs, app.state.runtime.scrape

    def totals() -> dict[str, set[float]]:
        counters = [family for family in counts.collect() if family.type == "counter"]
        return {f.name: {sample.value for sample in f.samples} for f in counters}

    before = totals()
    assert set(map(len, before.values())) == {0}
    await scrape()  # there is no store, so that its first fault will be an increase
    assert totals() == {name: {0.0} for name in before}

    store, queue = open_store(app.state.runtime.settings)
    with store.begin() as connection:
        store.count(connection, "faults", 5)
    Outbox(store, lambda *_: None, keep_days=7.0).tell(
        "https://a.example", "me", {"type": "x", "session_id": "call", "seq": 0}
    )
    queue.close()
    app = create_app(app.state.runtime.settings)
    counts, scrape = app.state.runtime.metrics.jobs, app.state.runtime.scrape
    with patch.object(StoreOnDemand, "open", side_effect=Unavailable("away", remedy="wait")):
        await scrape()
    assert counts.is_up is False
    assert set(map(len, totals().values())) == {0}
    await scrape()
    assert totals()["glrf_jobs_faults"] == {5.0}
    assert counts.n_webhooks_waiting == 1


def test_a_store_whose_file_is_gone_is_away(tmp_path, caplog):
    opened, counts = StoreOnDemand(Settings(jobs_dir=tmp_path)), JobCounts()
    opened.count_into(counts)
    assert counts.is_up is None  # there was never one
    assert opened.open()[0].n_executors(1) == 0
    opened.count_into(counts)
    assert counts.is_up is True
    (tmp_path / SQLITE_NAME).rename(tmp_path / "elsewhere")
    opened.count_into(counts)
    assert counts.is_up is False
    assert "the store's file is gone" in caplog.text
    (tmp_path / "elsewhere").rename(tmp_path / SQLITE_NAME)
    opened.count_into(counts)
    assert counts.is_up is True
    opened.close()


class TestAFolderThatTakesNoFile:
    """As a volume of another user does: it is told before a job is refused for it."""

    @pytest.mark.parametrize("name", ["GLRF_JOBS_DIR", "GLRF_JOBS_URL"])
    def test_at_the_start(self, tmp_path: Path, caplog, name: str) -> None:
        folder = tmp_path / "mounted-late" / "jobs"
        if name == "GLRF_JOBS_DIR":
            folder.parent.touch()
            opened = StoreOnDemand(Settings(jobs_dir=folder))
        else:
            url = SecretStr(f"sqlite:///{folder / SQLITE_NAME}")
            opened = StoreOnDemand(Settings(jobs_dir=tmp_path, jobs_url=url))
        opened.open_ahead()
        [told] = [record.getMessage() for record in caplog.records]
        assert f"{folder} takes no file" in told
        assert told.endswith(name)
        counts = JobCounts()
        opened.count_into(counts)
        assert counts.is_up is False
        if name == "GLRF_JOBS_DIR":
            folder.parent.unlink()
        folder.mkdir(parents=True)
        opened.count_into(counts)
        assert counts.is_up is True
        opened.close()

    def test_when_a_job_comes(self, tmp_path: Path) -> None:
        opened, counts = StoreOnDemand(Settings(jobs_dir=tmp_path / "jobs")), JobCounts()
        opened.open_ahead()
        opened.count_into(counts)
        assert counts.is_up is None
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "jobs").touch()
        with pytest.raises(Unavailable):
            opened.open()
        opened.count_into(counts)
        assert counts.is_up is False
        (tmp_path / "jobs").unlink()
        opened.count_into(counts)
        assert counts.is_up is True
        opened.close()


def test_a_missing_folder_is_told_at_once_and_as_that(tmp_path, caplog, monkeypatch):
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: pytest.fail("it waits"))
    monkeypatch.setattr("service.jobs.database.time", clock)
    url = SecretStr(f"sqlite:///{tmp_path}/missing/jobs.sqlite")
    with pytest.raises(Unavailable):
        open_store(Settings(jobs_dir=tmp_path, jobs_url=url))
    assert "unable to open database file" in caplog.text


def test_the_log_says_which_store_cannot_be_reached(model_dir, tmp_path, caplog):
    url = "postgresql://glrf:secret@127.0.0.1:1/jobs"
    settings = Settings(model_dir=model_dir, device="cpu", jobs_dir=tmp_path, jobs_url=url)  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        open_store(settings)
    assert "no store of jobs at postgresql" in caplog.text
    assert "127.0.0.1:1/jobs" in caplog.text
    assert "refused" in caplog.text
    assert "secret" not in caplog.text
