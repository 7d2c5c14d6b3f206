"""A job's result from its stored lines: the document that `POST /v1/files` answers with.

The lines of hours are many: they are read chunk by chunk and compressed as they are put in their
places, so that memory does not grow with what a line holds.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator

from service import wire
from service.analysis import FileAnalysis
from service.file_json import result_parts, segment_json

_LINE_TYPES: dict[bytes, type[wire.Line]] = {
    b'"type":"segment"}': wire.SegmentLine,
    b'"type":"utterance"}': wire.UtteranceLine,
    b'"type":"alert"}': wire.AlertLine,
    b'"type":"warning"}': wire.WarningLine,
}


def parsed(chunk: bytes) -> Iterator[wire.Line]:
    """The lines of NDJSON that was written here."""
    for text in chunk.splitlines():
        kind = _LINE_TYPES[text[text.rindex(b",") + 1 :]]
        yield kind.model_validate_json(text)


def result_document(
    analysis: FileAnalysis, stored: Callable[[], Iterable[bytes]], last: tuple[wire.Line, ...]
) -> tuple[bytes, wire.SummaryLine]:
    """JSON of the result, compressed, and the summary; `stored` reads the earlier chunks."""

    def lines() -> Iterator[wire.Line]:
        for chunk in stored():
            yield from parsed(chunk)
        yield from last

    def segments_of(channel: int) -> Iterator[str]:
        for line in lines():
            if isinstance(line, wire.SegmentLine) and line.channel == channel:
                yield segment_json(line)

    others: list[wire.Line] = [line for line in lines() if not isinstance(line, wire.SegmentLine)]
    compressor = zlib.compressobj()
    parts = [
        compressor.compress(part.encode())
        for part in result_parts(analysis.result(others), segments_of)
    ]
    return b"".join([*parts, compressor.flush()]), analysis.summary()
