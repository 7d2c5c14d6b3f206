"""Scores a job chunk by chunk, through the pipeline of files and streams.

A chunk is stored with the state in which the session left it; whoever scores the next one goes on
from there, as a stream does on another connection. While nothing dies the analysis stays open
between two chunks.
"""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import BinaryIO

from sqlalchemy import exc

from ser_core.errors import BadAudio, SerError, Unavailable
from service import checkpoint, problems
from service.analysis import FileAnalysis, FileChunk, FileLimits
from service.decoding import Stalled
from service.inference.batcher import Batcher
from service.jobs.audio import AudioFolder
from service.jobs.job import Job
from service.jobs.result import parsed, result_document
from service.jobs.store import OUR_FAULT, JobStore
from service.registry import model_key
from service.requests import FileQuery
from service.runtime import Runtime
from service.threads import Threads

#: Attempts at one chunk that ended the process, or failed by a fault of its own, before the job is
#: given up.
MAX_ATTEMPTS = 10
#: What an attempt fails by that neither the recording nor the model is to blame for, and that
#: passes: it counts as none, however long it takes. But a decoder that stalls each time may do so
#: because of its recording, and the job would come to no end.
_PASSES = (OSError, Unavailable, exc.OperationalError, exc.TimeoutError)

log = logging.getLogger(__name__)


class Hopeless(SerError):
    """A chunk ended the process, or failed for reasons of its own, again and again."""

    code = "job_crashed"


@dataclass
class _Open:
    """A job's analysis between two chunks."""

    n_chunks: int
    model: str
    file: BinaryIO
    analysis: FileAnalysis
    chunks: AsyncGenerator[FileChunk]

    async def close(self) -> None:
        await self.chunks.aclose()
        self.file.close()

    @property
    def progress(self) -> float:
        """The share of the file that was read; all of it is not yet the end."""
        n_read = os.lseek(self.file.fileno(), 0, os.SEEK_CUR)
        return min(0.99, n_read / max(1, os.fstat(self.file.fileno()).st_size))


class Scoring:
    """The jobs that this process scores. All methods belong to the event loop of `runtime`."""

    def __init__(self, runtime: Runtime, store: JobStore, audio: AudioFolder) -> None:
        self._runtime = runtime
        self._store = store
        self._audio = audio
        self._open: dict[str, _Open] = {}
        # A share that hangs holds up the jobs that it has the recordings of, and not the end.
        self._folder_threads = Threads("the folder of jobs", runtime.settings.jobs_at_a_time)

    async def next_chunk(self, job_id: str) -> bool:
        """Scores and stores one more chunk; whether that was not the last one.

        Raises `SerError` for what ends the job, and `JobGone` where there is none any more.
        """
        began_s = time.perf_counter()
        taken: Job | None = None
        try:
            taken = job = await asyncio.to_thread(self._store.take, job_id)
            if job.n_attempts > MAX_ATTEMPTS:
                raise Hopeless(
                    f"{MAX_ATTEMPTS} attempts at chunk {job.n_chunks} came to nothing",
                    remedy="report the job's id to the operator: the log has the causes",
                )
            job, state = await self._opened(job)
            chunk = await anext(state.chunks)
            if chunk.session is not None:
                state.n_chunks += 1
                await asyncio.to_thread(
                    self._store.put_chunk,
                    job,
                    chunk,
                    state.model,
                    progress=state.progress,
                    elapsed_s=time.perf_counter() - began_s,
                )
                return True
            await asyncio.to_thread(self._finish, job, state, chunk, began_s)
        except BaseException as error:
            await self.forget(job_id)
            is_none = isinstance(error, _PASSES) and not isinstance(error, Stalled)
            if taken is not None and is_none:
                with contextlib.suppress(exc.SQLAlchemyError):  # then one counts too many
                    await asyncio.to_thread(self._store.give_back, taken)
            raise
        await self.forget(job_id)
        return False

    async def _opened(self, job: Job) -> tuple[Job, _Open]:
        """The job's analysis after its last stored chunk: as it was left here, or taken up.

        The job comes back without its chunks where it begins anew.
        """
        state = self._open.get(job.id)
        if state is not None and state.n_chunks == job.n_chunks:
            return job, state
        await self.forget(job.id)
        query = FileQuery(**json.loads(job.query))
        batcher = self._runtime.batcher(query.model)
        last = await self._last_chunk(job, batcher)
        if last is None and job.n_chunks:
            log.warning("job %s begins anew: %s is no longer what scores it", job.id, job.model)
            await asyncio.to_thread(self._store.begin_anew, job)
            job = replace(job, n_chunks=0)
        settings = self._runtime.settings
        file = await self._folder_threads.run(self._recording, job.id)
        analysis = FileAnalysis(
            file,
            batcher,
            query,
            decode=self._runtime.decoding.open,
            limits=FileLimits(settings.jobs_max_s, settings.max_untold_events),
            detector=settings.vad,
            request_id=job.id,
        )
        if last is not None:
            await asyncio.to_thread(self._retell, analysis, job)
        chunks = analysis.chunks(settings.jobs_chunk_s, last)
        state = _Open(job.n_chunks, _identity(batcher), file, analysis, chunks)
        self._open[job.id] = state
        return job, state

    def _recording(self, job_id: str) -> BinaryIO:
        """Raises `BadAudio` (`job_audio_lost`), and `OSError` where another try may find it."""
        path = self._audio.path(job_id)
        try:
            return path.open("rb")
        except FileNotFoundError as error:
            if self._audio.is_away or path.exists():
                raise  # a share that is not mounted, or was not a moment ago
            raise BadAudio(
                "the recording is no longer there",
                remedy="send it again; operators: all of the service shares one GLRF_JOBS_DIR",
                code="job_audio_lost",
            ) from error

    def _retell(self, analysis: FileAnalysis, job: Job) -> None:
        """What was told before adds up with what is to come."""
        for chunk in self._store.lines(job.id, job.n_chunks):
            for line in parsed(chunk):
                analysis.tally.accept(line)

    async def _last_chunk(self, job: Job, batcher: Batcher) -> FileChunk | None:
        """Where to go on; nowhere if another model, detector or version scored what is there."""
        if not job.n_chunks:
            return None
        last = await asyncio.to_thread(self._store.last_chunk, job)
        if last is None or last.session is None or job.model != _identity(batcher):
            return None
        return last if last.session["detector"] == self._runtime.settings.vad else None

    def _finish(self, job: Job, state: _Open, chunk: FileChunk, began_s: float) -> None:
        document, summary = result_document(
            state.analysis, lambda: self._store.lines(job.id, job.n_chunks), chunk.lines
        )
        self._store.succeed(
            job,
            chunk,
            state.model,
            document=document,
            summary=summary.model_dump_json(),
            audio_ms=summary.duration_ms,
            elapsed_s=time.perf_counter() - began_s,
        )
        if not self._runtime.settings.jobs_keep_audio:
            self._audio.remove(job.id)

    async def fail(self, job_id: str, error: SerError) -> None:
        """Ends a job by an error; raises `JobGone`.

        Where the service is to blame the recording stays: it could be scored yet.
        """
        document = problems.document(error, job_id)
        await asyncio.to_thread(self._store.fail, job_id, document)
        if document["status"] < OUR_FAULT and not self._runtime.settings.jobs_keep_audio:
            await asyncio.to_thread(self._audio.remove, job_id)

    async def forget(self, job_id: str) -> None:
        """Closes what is open of a job, if anything is: its decoder and its recording."""
        state = self._open.pop(job_id, None)
        if state is not None:
            with contextlib.suppress(Exception):
                await state.close()

    async def close(self) -> None:
        """Closes what is open; the jobs can be taken up by others."""
        for job_id in list(self._open):
            await self.forget(job_id)


def _identity(batcher: Batcher) -> str:
    """Of what scores: a session's state is of no use to another model, or to other code."""
    return f"{model_key(batcher.backend)} {batcher.backend.sha256} {checkpoint.VERSION}"
