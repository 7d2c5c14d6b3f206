"""Segments as a table: `text/csv` (RFC 4180), of a file's result and of the command line."""

import csv
import io
from collections.abc import Iterable

from service.wire import SegmentFields


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
                *(getattr(segment, column) for column in columns[:5]),
                "true" if segment.partial else "false",
                *(getattr(segment, column) for column in columns[6:]),
                *(segment.scores[label] for label in labels),
                segment.smoothed.label,
                segment.utterance_id,
            ]
        )
    return text.getvalue()
