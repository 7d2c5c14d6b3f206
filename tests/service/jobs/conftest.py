from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs.supervisor import workers
from service.settings import Settings
from tests.service.running import RunningServer

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


@pytest.fixture(scope="session")
def service(job_settings: Settings) -> Iterator[RunningServer]:
    """An API with a worker process beside it."""
    with workers(job_settings), RunningServer(job_settings) as running:
        yield running
