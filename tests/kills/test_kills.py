"""The small size of the kill test; `python -m tests.kills` is the full one."""

from pathlib import Path

import pytest

from tests.kills.postgres import postgres
from tests.kills.trial import Report, Trial
from tests.synthetic import write_model

#: Most of it is the starts of processes, which take long on a machine that does much else.
pytestmark = pytest.mark.timeout(600)


async def killed(folder: Path, url: str | None = None) -> Report:
    (folder / "models").mkdir()
    write_model(folder / "models" / "tiny.onnx")
    trial = Trial(folder / "jobs", n_jobs=12, n_kills=4, url=url, model_dir=folder / "models")
    return await trial.run()


def check(report: Report) -> None:
    assert report.n_api_kills + report.n_worker_kills == 4
    assert report.n_chunks > 3 * 12
    assert report.is_good, "\n".join([*report.lines(), *report.differences])


async def test_no_job_is_lost_or_done_twice_on_sqlite(tmp_path: Path):
    check(await killed(tmp_path))


@pytest.mark.postgres
async def test_no_job_is_lost_or_done_twice_on_postgresql(tmp_path: Path):
    with postgres() as url:
        check(await killed(tmp_path, url))
