"""JSON of a file's result whose segments are put in as text, one after the other.

Those of an hour, held as objects and encoded at once, would take the event loop for tenths of a
second, and many times the memory of their text.
"""

from collections.abc import Callable, Iterable, Iterator

from service import wire


def segment_json(line: wire.SegmentLine) -> str:
    """A segment as a result holds it."""
    return line.model_dump_json(exclude={"type"})


def result_parts(
    result: wire.FileResult, segments_of: Callable[[int], Iterable[str]]
) -> Iterator[str]:
    """The document in parts; `segments_of` a channel gives its segments, which `result` lacks."""
    before, after = _around(
        result.model_copy(update={"channels": ()}).model_dump_json(), "channels"
    )
    yield before
    for number, channel in enumerate(result.channels):
        yield "," if number else ""
        text = channel.model_dump_json()
        if isinstance(channel, wire.UnscoredChannel):
            yield text
            continue
        start, end = _around(text, "segments")
        yield start
        for index, segment in enumerate(segments_of(channel.channel)):
            yield f",{segment}" if index else segment
        yield end
    yield after


def _around(text: str, member: str) -> tuple[str, str]:
    """Both sides of the place between the brackets of an empty list."""
    empty = f'"{member}":[]'  # cannot stand inside a JSON string, where quotes are escaped
    before, _, after = text.partition(empty)
    return before + empty[:-1], "]" + after
