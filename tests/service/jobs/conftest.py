from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs import supervisor
from service.jobs.supervisor import workers
from service.settings import Settings
from tests.service.running import RunningServer

#: How a worker begins here: its queues and its beat are looked at often.
LIVELY = """
from service.jobs import executor, sweep
executor.POLL_S, sweep.BEAT_S = 0.1, 0.25
"""
SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXM="


@pytest.fixture(scope="session")
def job_settings(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        model_dir=model_dir,
        port=0,
        device="cpu",
        max_batch=1,  # batches of other sizes may round otherwise
        log_level="warning",
        jobs_dir=tmp_path_factory.mktemp("jobs"),
        jobs_chunk_s=2,
        jobs_max_bytes=2**20,
        webhook_secrets=SECRET,  # type: ignore[arg-type]
        webhook_allowed_hosts="127.0.0.1",
        webhook_retry_s="0.1,0.1",
    )


@pytest.fixture(scope="package", autouse=True)
def lively_workers() -> Iterator[None]:
    """Workers that tests start look for work ten times a second, others twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "_WORKER", LIVELY + supervisor._WORKER)
        yield


@pytest.fixture(scope="package")
def service(job_settings: Settings, lively_workers: None) -> Iterator[RunningServer]:
    """An API with a worker process beside it, which is gone before other packages' tests."""
    with workers(job_settings), RunningServer(job_settings) as running:
        yield running
