import asyncio
from pathlib import Path

import pytest

from service import checkpoint
from service.jobs.audio import AudioFolder
from service.jobs.database import create_tables, database_url, open_engine
from service.jobs.job import Job, now_ms
from service.jobs.scoring import Scoring
from service.jobs.store import JobStore
from service.registry import ModelRegistry
from service.runtime import Runtime
from service.settings import Settings
from tests.service.running import TIMEOUT_S, GatedBackend, wav
from tests.synthetic import voice


async def test_a_job_that_another_version_began_begins_anew(
    job_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot read the state in which a session was left there."""
    engine = open_engine(database_url(None, tmp_path))
    create_tables(engine)
    store = JobStore(engine)
    with store.begin() as connection:
        store.add(connection, Job("one", "me", "{}", body_sha256="0", created_ms=now_ms()))
    (tmp_path / "one").write_bytes(wav(voice(16_000 * 30)))
    backend = GatedBackend()
    backend.gate.set()
    async with asyncio.timeout(TIMEOUT_S):
        runtime = Runtime(job_settings, ModelRegistry([backend]))
        await runtime.start()
        for version in (1, 1, 2):
            monkeypatch.setattr(checkpoint, "VERSION", version)
            scoring = Scoring(runtime, store, AudioFolder(tmp_path))
            assert await scoring.next_chunk("one")
            await scoring.close()
        await runtime.stop()
    assert store.take("one").n_chunks == 1
    engine.dispose()
