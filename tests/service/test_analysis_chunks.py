"""A file scored in chunks, each by an analysis that goes on from the one before."""

import io
from collections.abc import AsyncIterator

import pytest

from service.analysis import FileAnalysis, FileChunk
from service.inference.batcher import Batcher
from service.requests import FileQuery
from service.wire import Line
from tests.service.running import GatedBackend, wav
from tests.synthetic import voice

CHUNK_S = 1.5


def backend() -> GatedBackend:
    opened = GatedBackend()
    opened.gate.set()
    return opened


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize(
    "query", [FileQuery(), FileQuery(endpointing="off"), FileQuery(rules="angry>=0.1:1s")]
)
async def test_chunks_resumed_one_by_one_tell_what_the_whole_tells(rate_hz: int, query: FileQuery):
    file = io.BytesIO(wav(voice(rate_hz * 8, rate_hz), rate_hz))
    # Batches of one: those of other sizes may round otherwise.
    async with Batcher(backend(), max_batch=1) as batcher:
        whole = FileAnalysis(file, batcher, query, request_id="1")
        lines = [line async for line in whole.lines()]
        told: list[Line] = []
        last: FileChunk | None = None
        n_chunks = 0
        while last is None or last.session is not None:
            analysis = FileAnalysis(file, batcher, query, request_id="1")
            for line in told:
                analysis.tally.accept(line)
            last = await _first(analysis.chunks(CHUNK_S, last))
            told += last.lines
            n_chunks += 1
        assert n_chunks > 4
        assert told == lines
        # The last one was given the file's end: it knows all of it.
        assert analysis.result(told) == whole.result(lines)


async def _first(chunks: AsyncIterator[FileChunk]) -> FileChunk:
    async for chunk in chunks:
        return chunk
    raise AssertionError("there is always a chunk")
