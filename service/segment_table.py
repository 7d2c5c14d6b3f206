"""Segments as a table: `text/csv` (RFC 4180), of a file's result and of the command line.

Spreadsheets take a cell that begins like a formula for one, and roles, labels and file names are
other people's text: such cells get an apostrophe in front (OWASP, "CSV injection").
"""

import csv
import io
from collections.abc import Iterable

from service.wire import SegmentFields

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(text: str | None) -> str | None:
    """Text that no spreadsheet runs."""
    return f"'{text}" if text is not None and text.startswith(_FORMULA) else text


def segment_table(labels: tuple[str, ...], segments: Iterable[SegmentFields]) -> str:
    """One line a segment, one `score_` column a label; times in milliseconds."""
    text = io.StringIO()
    table = csv.writer(text)
    columns = ["channel", "role", "index", "start_ms", "end_ms", "partial", "label", "abstain"]
    table.writerow(
        [*columns, *(f"score_{label}" for label in labels), "smoothed_label", "utterance_id"]
    )
    for segment in segments:
        table.writerow(
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
    return text.getvalue()
