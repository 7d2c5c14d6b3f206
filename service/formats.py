"""The formats that a result is given in: which one a client asks for, and the result in it.

    kind = chosen(request.headers.get("accept", ""))
    text = render(kind, result)

Files, jobs and the command line all ask here.
"""

from collections.abc import Iterator
from typing import Final, Literal, get_args

from ser_core.waveform import Waveform
from service import wire
from service.captions import captions
from service.report.page import page, policy
from service.segment_table import segment_table

Kind = Literal["json", "ndjson", "csv", "vtt", "html"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
MEDIA_TYPES: Final[dict[Kind, str]] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
    "vtt": "text/vtt",
    "html": "text/html",
}


def chosen(*accept: str) -> Kind:
    """The format that the lines of an `Accept` header like best (RFC 9110, 12.5.1 and 5.3).

    Of what it likes equally, the first that it names; JSON for anything else, and for `*/*`.
    """
    named: dict[str, Kind] = {media_type: kind for kind, media_type in MEDIA_TYPES.items()}
    named |= {"*/*": "json", "application/*": "json"}
    best: Kind = "json"
    best_weight = 0.0
    for part in ",".join(accept).split(","):
        media_type, *parameters = part.split(";")
        kind = named.get(media_type.strip().lower())
        weight = _weight(parameters)
        if kind is not None and weight > best_weight:
            best, best_weight = kind, weight
    return best


def _weight(parameters: list[str]) -> float:
    """A media type's `q`, 1 where there is none that can be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 1.0
    return 1.0


def render(
    kind: Kind,
    result: wire.FileResult,
    *,
    title: str = "Recording",
    waveform: Waveform | None = None,
) -> str:
    """The whole result as text. `title` and `waveform` are shown by `html`."""
    match kind:
        case "json":
            return result.model_dump_json()
        case "ndjson":
            return "".join(line.model_dump_json() + "\n" for line in _lines(result))
        case "csv":
            return segment_table(result.model.labels, _segments(result))
        case "vtt":
            return captions(result)
        case "html":
            return page(result, title=title, waveform=waveform)


def headers_of(kind: Kind) -> dict[str, str] | None:
    """What an answer in a format says besides its type: a page, what it may do in a browser."""
    return {"Content-Security-Policy": policy()} if kind == "html" else None


def _segments(result: wire.FileResult) -> Iterator[wire.SegmentFields]:
    for channel in result.channels:
        if isinstance(channel, wire.ScoredChannel):
            yield from channel.segments


def _lines(result: wire.FileResult) -> Iterator[wire.Line | wire.SummaryLine]:
    """What was told of the file, line by line: warnings, then all in the order of its end."""
    for warning in result.warnings:
        yield wire.WarningLine(**warning.model_dump(exclude={"type"}))
    lines: list[wire.SegmentLine | wire.UtteranceLine | wire.AlertLine] = []
    summaries: list[wire.FileChannelSummary | wire.UnscoredChannel] = []
    for channel in result.channels:
        if isinstance(channel, wire.UnscoredChannel):
            summaries.append(channel)
            continue
        lines += (wire.SegmentLine(**dict(segment)) for segment in channel.segments)
        lines += (wire.UtteranceLine(**dict(utterance)) for utterance in channel.utterances)
        lines += (wire.AlertLine(**dict(alert)) for alert in channel.alerts)
        summaries.append(
            wire.FileChannelSummary(
                channel=channel.channel,
                role=channel.role,
                **channel.summary.model_dump(include=set(wire.ChannelSummary.model_fields)),
                turning_points=channel.turning_points,
            )
        )
    yield from sorted(lines, key=lambda line: (line.end_ms, line.channel))
    yield wire.SummaryLine(
        request_id=result.request_id,
        model=result.model,
        duration_ms=result.duration_ms,
        channels=tuple(summaries),
        call=result.call,
        run=result.run,
    )
