"""One process's share of an archive: chunks in, rows out, through the service's own pipeline."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Self

from glrf.batch.archive import Chunk, Item
from glrf.batch.rows import Kind, Row, failed_row, rows_of
from ser_core.errors import SerError
from service.analysis import FileAnalysis, FileLimits
from service.inference.backend import Backend
from service.inference.batcher import Batcher
from service.loading import load_models
from service.requests import FileQuery
from service.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """How an archive is scored: the same for every process that has a part in it."""

    settings: Settings
    query: FileQuery
    kind: Kind


class Scorer:
    """Scores chunks, one recording after the other; the model is loaded once."""

    def __init__(self, work: Work, backend: Backend) -> None:
        self._work = work
        self._backend = backend

    @classmethod
    def loaded(cls, work: Work) -> Self:
        """With the model that is asked for, of those of the settings."""
        return cls(work, load_models(work.settings).find(work.query.model))

    def score(self, chunk: Chunk) -> list[Row]:
        """The rows of all its recordings. One that cannot be scored has a row that says why."""
        return asyncio.run(self._score(chunk))

    async def _score(self, chunk: Chunk) -> list[Row]:
        rows: list[Row] = []
        # A batch of another size may round otherwise, and all machines are to tell the same.
        async with Batcher(self._backend, max_batch=1) as batcher:
            for item in chunk.items:
                rows += await self._rows(item, batcher)
        return rows

    async def _rows(self, item: Item, batcher: Batcher) -> list[Row]:
        query = self._work.query
        if item.roles:
            query = query.model_copy(update={"roles": item.roles})
        try:
            analysis = FileAnalysis(
                item.path,
                batcher,
                query,
                limits=FileLimits(max_file_s=float("inf")),
                detector=self._work.settings.vad,
            )
            lines = [line async for line in analysis.lines()]
            return rows_of(item.name, analysis.result(lines), self._work.kind)
        except SerError as error:
            return [failed_row(item.name, error.code, error.detail)]
        except OSError as error:
            return [failed_row(item.name, "unreadable", error.strerror or str(error))]
        except Exception as error:  # one recording must not end the run of a million
            log.exception("%s failed", item.name)
            return [failed_row(item.name, "internal_error", repr(error))]
