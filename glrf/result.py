"""What `glrf analyze` prints of a file: text to look at, JSON lines, a CSV table, or captions."""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rich.console import Console

from glrf.live import score_bars, utterance_table
from glrf.names import shown
from glrf_client import FileResult
from service import wire
from service.formats import render
from service.segment_table import plain

Write = Callable[[Path, wire.FileResult], None]


def writer(form: Literal["json", "csv", "vtt", "text"]) -> Write:
    """Writes one file's result after the other to stdout."""
    match form:
        case "json":
            return _write_json
        case "csv":
            return _CsvTable().write
        case "vtt":
            return _write_captions
        case "text":
            return _write_text


def parsed(result: wire.FileResult) -> FileResult:
    """As a client would have received it."""
    return FileResult.parse(result.model_dump(mode="json"))


def _write_json(path: Path, result: wire.FileResult) -> None:
    print(json.dumps({"file": shown(path), **result.model_dump(mode="json")}))


class _CsvTable:
    """The server's table with a column `file` before it; one header for all files."""

    def __init__(self) -> None:
        self._has_header = False

    def write(self, path: Path, result: wire.FileResult) -> None:
        header, *rows = csv.reader(io.StringIO(render("csv", result)))
        table = csv.writer(sys.stdout, lineterminator="\n")
        if not self._has_header:
            table.writerow(["file", *header])
            self._has_header = True
        table.writerows([plain(shown(path)), *row] for row in rows)


def _write_captions(_: Path, result: wire.FileResult) -> None:
    print(render("vtt", result), end="")


def _write_text(path: Path, result: wire.FileResult) -> None:
    told = parsed(result)
    console = Console()

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    model = f"{told.model.name}@{told.model.version}"
    say(f"{shown(path)}: {told.duration_ms / 1000:.1f} s, model {model}")
    for channel in told.channels:
        name = channel.role or f"channel {channel.channel}"
        if channel.summary is None:
            say(f"{name}: not scored")
            continue
        share = " ".join(
            f"{label} {part:.0%}" for label, part in channel.summary.time_share.items() if part
        )
        say(f"{name}: {channel.summary.label or 'no speech'}" + (f" ({share})" if share else ""))
        for point in channel.turning_points:
            at_s, lasted_s = point.start_ms / 1000, point.lasted_ms / 1000
            turn = f"from {point.from_label} to {point.to_label}"
            say(f"at {at_s:.1f} s {turn}, for {lasted_s:.1f} s")
        console.print(score_bars(channel.segments, told.model.labels))
        console.print(utterance_table(channel.utterances))
    for warning in told.warnings:
        say(f"warning: {warning.code}: {warning.message}")
