from pathlib import Path

import pytest

from ser_core.errors import Overloaded, Unavailable
from service.jobs.audio import MARK
from service.jobs.intake import Intake
from service.jobs.job import Job
from service.jobs.opening import StoreOnDemand, open_store
from service.settings import Settings


def intake_of(settings: Settings) -> Intake:
    return Intake(settings, StoreOnDemand(settings))


async def test_uploads_are_bounded_before_they_are_rows(tmp_path: Path) -> None:
    intake = intake_of(Settings(jobs_dir=tmp_path, jobs_max_uploads=2))
    async with intake.receiving(), intake.receiving():
        with pytest.raises(Overloaded, match="2 recordings come in already"):
            async with intake.receiving():
                pass
    async with intake.receiving():
        pass


class TestTheFolderOfAnOlderVersion:
    """It has no mark."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return Settings(jobs_dir=tmp_path)

    async def begin_upload(self, settings: Settings) -> None:
        async with intake_of(settings).receiving():
            pass

    def add_job(self, settings: Settings) -> None:
        store, queue = open_store(settings)
        with store.begin() as connection:
            store.add(connection, Job("a" * 32, "k", "{}", body_sha256="", created_ms=1))
        queue.close()
        store.engine.dispose()

    async def test_with_recordings_it_is_marked(self, settings: Settings, tmp_path: Path) -> None:
        self.add_job(settings)
        (tmp_path / "audio").mkdir()
        (tmp_path / "audio" / ("a" * 32)).touch()
        await self.begin_upload(settings)
        assert (tmp_path / "audio" / MARK).exists()

    async def test_without_any_to_score_it_is_marked(
        self, settings: Settings, tmp_path: Path
    ) -> None:
        (tmp_path / "audio").mkdir()
        await self.begin_upload(settings)
        assert (tmp_path / "audio" / MARK).exists()

    @pytest.mark.parametrize("is_there", [False, True])
    async def test_without_those_to_score_it_is_away(
        self, settings: Settings, tmp_path: Path, is_there: bool
    ) -> None:
        self.add_job(settings)
        if is_there:
            (tmp_path / "audio").mkdir()
        with pytest.raises(Unavailable, match="is away") as caught:
            await self.begin_upload(settings)
        assert caught.value.code == "jobs_unavailable"
        (tmp_path / "audio").mkdir(exist_ok=True)
        (tmp_path / "audio" / MARK).touch()  # as the remedy says
        await self.begin_upload(settings)
