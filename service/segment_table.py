"""Segments as a table: `text/csv` (RFC 4180), of a file's result and of the command line.

Spreadsheets take a cell that begins like a formula for one, and roles, labels and file names are
other people's text: such cells get an apostrophe in front (OWASP, "CSV injection").
"""

import csv
import io
from collections.abc import Iterable
from operator import itemgetter

from service.wire import SegmentFields

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(text: str | None) -> str | None:
    """Text that no spreadsheet runs."""
    return f"'{text}" if text is not None and text.startswith(_FORMULA) else text


def segment_table(labels: tuple[str, ...], segments: Iterable[SegmentFields]) -> str:
    """One line a segment, one `score_` column a label; times in milliseconds.

    In the order of their ends, then of channels, whatever the order they come in. Only their lines
    are kept meanwhile: a recording may have hours.
    """
    columns = ["channel", "role", "index", "start_ms", "end_ms", "partial", "label", "abstain"]
    scores = (f"score_{label}" for label in labels)
    head = _line([*columns, *scores, "smoothed_label", "utterance_id"])
    lines = [(one.end_ms, one.channel, _segment(labels, one)) for one in segments]
    lines.sort(key=itemgetter(0, 1))
    return head + "".join(line for _, _, line in lines)


def _segment(labels: tuple[str, ...], segment: SegmentFields) -> str:
    return _line(
        [
            segment.channel,
            plain(segment.role),
            segment.index,
            segment.start_ms,
            segment.end_ms,
            "true" if segment.partial else "false",
            plain(segment.label),
            segment.abstain,
            *(segment.scores[label] for label in labels),
            plain(segment.smoothed.label),
            segment.utterance_id,
        ]
    )


def _line(cells: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
