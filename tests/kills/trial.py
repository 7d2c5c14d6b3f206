"""Jobs under `kill -9` of the API and of the workers, held against a quiet run of the same."""

import asyncio
import random
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import sqlalchemy as sa

from service.jobs.database import chunks, database_url, jobs, open_engine, results
from tests.kills.processes import Service
from tests.service.running import wav
from tests.synthetic import voice

#: One worker's, so that a kill takes at most so many chunks in hand.
JOBS_AT_A_TIME = 2
CHUNK_S = 2
CLIENTS = 16
_POLL_S = 0.1
#: Of one job, with all that is killed meanwhile.
_PATIENCE_S = 600.0


@dataclass
class Report:
    """What happened, and what the store and the clients say of it."""

    n_api_kills: int = 0
    n_worker_kills: int = 0
    n_jobs: int = 0
    n_posts: int = 0
    n_chunks: int = 0
    n_lost: int = 0
    n_twice: int = 0
    n_repeated_chunks: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def most_repeated(self) -> int:
        """Chunks in hand of the workers that were killed, at most."""
        return self.n_worker_kills * JOBS_AT_A_TIME

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, doubled, changed, or repeated beyond what was in hand."""
        is_whole = not (self.n_lost or self.n_twice or self.differences)
        return is_whole and self.n_repeated_chunks <= self.most_repeated

    def lines(self) -> list[str]:
        """The report as text."""
        return [
            f"{self.n_jobs} jobs, {self.n_chunks} chunks; kills: {self.n_api_kills} of the API, "
            f"{self.n_worker_kills} of workers; {self.n_posts} requests until all were accepted",
            f"{self.n_lost} lost, {self.n_twice} results or jobs twice, {self.n_repeated_chunks} "
            f"chunks repeated (at most {self.most_repeated} were in hand)",
            f"{len(self.differences)} results differ from the quiet run's",
        ]


@dataclass(frozen=True)
class Recording:
    """A body and its query."""

    body: bytes
    query: dict[str, str]


def recordings() -> list[Recording]:
    """Synthesised audio of several rates, channels and options."""
    stereo = np.stack([voice(8_000 * 9, 8_000), voice(8_000 * 9, 8_000, seed=2)], axis=1)
    return [
        Recording(wav(voice(16_000 * 13)), {}),
        Recording(wav(stereo, 8_000), {"roles": "customer,agent:off"}),
        Recording(wav(voice(44_100 * 6, 44_100), 44_100), {"endpointing": "off"}),
        Recording(wav(voice(16_000 * 11, seed=5)), {"rules": "angry>=0.1:1s,happy>=0.1:2s"}),
        Recording(wav(stereo[:, ::-1], 8_000), {"smoothing": "ema"}),
    ]


class Trial:
    """So many jobs while so many processes are killed, on the store of one address."""

    def __init__(
        self,
        folder: Path,
        *,
        n_jobs: int,
        n_kills: int,
        url: str | None = None,
        n_workers: int = 2,
        seed: int = 0,
        model_dir: Path | None = None,
    ) -> None:
        self._recordings = recordings()
        self._n_jobs = n_jobs
        self._n_kills = n_kills
        self._chance = random.Random(seed)
        self._engine = open_engine(database_url(url, folder))
        environment = {
            "GLRF_JOBS_DIR": str(folder),
            "GLRF_JOBS_CHUNK_S": str(CHUNK_S),
            "GLRF_JOBS_AT_A_TIME": str(JOBS_AT_A_TIME),
        }
        if url is not None:
            environment["GLRF_JOBS_URL"] = url
        if model_dir is not None:
            environment["GLRF_MODEL_DIR"] = str(model_dir)
        self.service = Service(environment, n_workers)
        self._killed = 0
        self._has_progressed = asyncio.Condition()
        self.report = Report(n_jobs=n_jobs)

    async def run(self) -> Report:
        try:
            await self.service.start()
            quiet = [await self._job(recording) for recording in self._recordings]
            await self._compare_with_files(quiet)
            n_quiet_chunks = await asyncio.to_thread(self._n_begun)
            places = asyncio.Semaphore(CLIENTS)
            self.report.n_posts = 0
            async with asyncio.TaskGroup() as group:
                for number in range(self._n_jobs):
                    group.create_task(self._client(number, quiet, places))
                group.create_task(self._kill())
            await asyncio.to_thread(self._audit, len(quiet), n_quiet_chunks)
        finally:
            await self.service.end()
            self._engine.dispose()
        return self.report

    async def _client(
        self, number: int, quiet: list[dict[str, Any]], places: asyncio.Semaphore
    ) -> None:
        """Jobs come as kills go on, so that there is something in hand at each."""
        async with self._has_progressed:
            await self._has_progressed.wait_for(
                lambda: self._killed * self._n_jobs >= number * self._n_kills
            )
        kind = number % len(quiet)
        async with places:
            result = await self._job(self._recordings[kind])
        if result is None:
            self.report.n_lost += 1
        elif result != quiet[kind]:
            self.report.differences.append(f"job {number}, recording {kind}")

    async def _kill(self) -> None:
        for _ in range(self._n_kills):
            # Only who works has something to lose: a chunk was begun since the last kill.
            n_begun = await asyncio.to_thread(self._n_begun)
            async with asyncio.timeout(_PATIENCE_S):
                while await asyncio.to_thread(self._n_begun) == n_begun:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await asyncio.sleep(self._chance.uniform(0.0, 0.5))
            if await self.service.kill_one(self._chance):
                self.report.n_worker_kills += 1
            else:
                self.report.n_api_kills += 1
            self._killed += 1
            async with self._has_progressed:
                self._has_progressed.notify_all()
        self._killed = self._n_jobs * self._n_kills
        async with self._has_progressed:
            self._has_progressed.notify_all()

    async def _job(self, recording: Recording) -> Any:
        """The result of a job, asked for until it is there, without what names the job."""
        key = {"Idempotency-Key": uuid.uuid4().hex}
        async with asyncio.timeout(_PATIENCE_S), httpx.AsyncClient(timeout=20) as client:
            job = await self._until(
                client, 202, "POST", "", params=recording.query, content=recording.body, headers=key
            )
            while job["status"] in ("queued", "running"):
                await asyncio.sleep(_POLL_S)
                job = await self._until(client, 200, "GET", f"/{job['id']}")
            if job["status"] != "succeeded":
                return None
            return _unnamed(await self._until(client, 200, "GET", f"/{job['id']}/result"))

    async def _until(
        self, client: httpx.AsyncClient, status: int, method: str, path: str, **request: Any
    ) -> Any:
        """A client's way with a service that may be away: the same request again."""
        while True:
            self.report.n_posts += method == "POST"
            try:
                answer = await client.request(
                    method, f"{self.service.url}/v1/jobs{path}", **request
                )
            except httpx.TransportError:
                pass
            else:
                if answer.status_code == status:
                    return answer.json()
                assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.2)

    async def _compare_with_files(self, quiet: list[dict[str, Any]]) -> None:
        async with httpx.AsyncClient(base_url=self.service.url, timeout=60) as client:
            for recording, result in zip(self._recordings, quiet, strict=True):
                answer = await client.post(
                    "/v1/files", params=recording.query, content=recording.body
                )
                if _unnamed(answer.json()) != result:
                    self.report.differences.append("a quiet job and POST /v1/files")

    def _n_begun(self) -> int:
        with self._engine.connect() as connection:
            return connection.execute(sa.select(sa.func.sum(jobs.c.n_begun))).scalar_one()

    def _audit(self, n_quiet: int, n_quiet_chunks: int) -> None:
        """What the store says: every job once, with one result and each of its chunks once."""
        report = self.report
        with self._engine.connect() as connection:

            def count(query: Any) -> int:
                return connection.execute(query).scalar_one()

            everything = sa.select(sa.func.count())
            n_rows = count(everything.select_from(jobs)) - n_quiet
            n_results = count(everything.select_from(results)) - n_quiet
            n_stored = count(everything.select_from(chunks))
            n_chunks = count(sa.select(sa.func.sum(jobs.c.n_chunks)))
            report.n_chunks = n_stored - n_quiet_chunks
            report.n_lost += max(0, self._n_jobs - n_results)
            report.n_twice = max(0, n_rows - self._n_jobs) + max(0, n_results - self._n_jobs)
            report.n_twice += abs(n_stored - n_chunks)
        report.n_repeated_chunks = self._n_begun() - n_chunks


def _unnamed(result: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in result.items() if name != "request_id"}
