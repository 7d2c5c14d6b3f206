"""The table: one row an utterance, a channel or a segment, and at least one row a recording."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args

import pyarrow as pa

from service.wire import FileResult, ScoredChannel

Kind = Literal["utterances", "channels", "segments"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Row = dict[str, Any]

_TEXT, _WHOLE, _TRUTH = pa.string(), pa.int64(), pa.bool_()
_COLUMNS: dict[Kind, dict[str, pa.DataType]] = {
    "utterances": {
        "utterance_id": _TEXT,
        "start_ms": _WHOLE,
        "end_ms": _WHOLE,
        "n_segments": _WHOLE,
        "pure": _TRUTH,
    },
    "channels": {"n_utterances": _WHOLE, "n_turning_points": _WHOLE},
    "segments": {
        "index": _WHOLE,
        "start_ms": _WHOLE,
        "end_ms": _WHOLE,
        "partial": _TRUTH,
        "abstain": _TEXT,
        "smoothed_label": _TEXT,
        "utterance_id": _TEXT,
    },
}


def schema_of(kind: Kind, labels: Sequence[str]) -> pa.Schema:
    """Columns of the table. All but `file` may be null: a recording without speech has one row.

    `error` and `error_detail` tell why a recording could not be scored.
    """
    columns: dict[str, pa.DataType] = {
        "file": _TEXT,
        "duration_ms": _WHOLE,
        "channel": pa.int32(),
        "role": _TEXT,
        **_COLUMNS[kind],
        "label": _TEXT,
        **{f"score_{label}": pa.float32() for label in labels},
    }
    if kind == "channels":
        columns |= {f"share_{label}": pa.float32() for label in labels}
    columns |= {"error": _TEXT, "error_detail": _TEXT}
    return pa.schema([pa.field(name, of, name != "file") for name, of in columns.items()])


def rows_of(name: str, result: FileResult, kind: Kind) -> list[Row]:
    """What one recording adds to the table; a channel that is `off` adds nothing."""
    rows = [
        {
            "file": name,
            "duration_ms": result.duration_ms,
            "channel": channel.channel,
            "role": channel.role,
            **row,
        }
        for channel in result.channels
        if isinstance(channel, ScoredChannel)
        for row in _rows_of_channel(channel, kind)
    ]
    return rows or [{"file": name, "duration_ms": result.duration_ms}]


def failed_row(name: str, code: str, detail: str) -> Row:
    """The row of a recording that could not be scored."""
    return {"file": name, "error": code, "error_detail": detail}


def _rows_of_channel(channel: ScoredChannel, kind: Kind) -> Iterator[Row]:
    match kind:
        case "utterances":
            for utterance in channel.utterances:
                yield _picked(utterance, kind) | _scored(utterance.label, utterance.scores)
        case "segments":
            for segment in channel.segments:
                yield (
                    _picked(segment, kind)
                    | _scored(segment.label, segment.scores)
                    | {"smoothed_label": segment.smoothed.label}
                )
        case "channels":
            summary = channel.summary
            yield {
                "n_utterances": len(channel.utterances),
                "n_turning_points": len(channel.turning_points),
                **_scored(summary.label, summary.scores),
                **{f"share_{label}": share for label, share in summary.time_share.items()},
            }


def _picked(told: object, kind: Kind) -> Row:
    return {name: getattr(told, name, None) for name in _COLUMNS[kind]}


def _scored(label: str | None, scores: dict[str, float]) -> Row:
    return {"label": label, **{f"score_{name}": score for name, score in scores.items()}}
