"""Emotional speech as a manifest: one CSV row a labelled recording."""

import csv
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ser_core.errors import BadParameter

COLUMNS = ("path", "corpus", "speaker", "gender", "original_label", "label", "duration_s")


@dataclass(frozen=True)
class Recording:
    """One labelled utterance; `speaker` is unique within its corpus.

    `name` is the path as the manifest has it, relative to the data folder: the same on every
    machine. `gender` is the manifest's word, "" where it has none; `original_label` the corpus's
    own word for the emotion.
    """

    path: Path
    corpus: str
    speaker: str
    label: str
    duration_s: float
    gender: str = ""
    name: str = ""
    original_label: str = ""

    @property
    def speaker_key(self) -> tuple[str, str]:
        return self.corpus, self.speaker


def read_manifest(manifest: Path, data: Path, labels: tuple[str, ...]) -> list[Recording]:
    """Rows of `manifest`, whose paths are relative to `data`.

    Raises `BadParameter`, naming the line, for a missing column or file, an unknown label, a
    duration that is not a positive number, or a recording that stands there twice: of two speakers
    it could be learned from and tested on.
    """
    recordings: list[Recording] = []
    seen: dict[str, str] = {}
    for where, row in rows(manifest):
        recording = read_row(row, data, labels, where)
        first = seen.setdefault(os.path.normpath(recording.name), where)
        if first != where:
            raise BadParameter(
                f"{where}: {recording.name} stands there twice, first at {first}",
                remedy="keep one of them; glrf corpus check tells all",
            )
        recordings.append(recording)
    return recordings


def rows(manifest: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row of a manifest stands (`file:line`), and its cells as text.

    Raises `BadParameter` for a file that is no CSV, lacks a column, or has no rows.
    """
    if not manifest.is_file():
        raise BadParameter(f"manifest {manifest} does not exist", remedy="give a CSV file")
    is_empty = True
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        try:
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise BadParameter(
                    f"{manifest} lacks the columns {', '.join(missing)}",
                    remedy=f"its first line must name {','.join(COLUMNS)}",
                )
            for row in reader:
                is_empty = False
                yield f"{manifest}:{reader.line_num}", row
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadParameter(
                f"{manifest}:{reader.line_num + 1}: not CSV in UTF-8 ({error})",
                remedy="write it anew, as CSV in UTF-8",
            ) from error
    if is_empty:
        raise BadParameter(f"{manifest} has no rows", remedy="list at least one recording")


def read_row(row: dict[str, str], data: Path, labels: tuple[str, ...], where: str) -> Recording:
    """A row of a manifest. Raises `BadParameter`, as `read_manifest` does, with `where`."""
    recording = parse_row(row, data, where)
    # A NUL is what is left of a binary file; no system has it in a name.
    if "\0" in recording.name or not recording.path.is_file():
        raise BadParameter(f"{where}: {recording.path} does not exist", remedy="check --data")
    if recording.label not in labels:
        raise BadParameter(
            f"{where}: unknown label {recording.label!r}",
            remedy=f"use one of {', '.join(labels)}",
        )
    return recording


def parse_row(row: dict[str, str], data: Path, where: str) -> Recording:
    """As `read_row`, whatever the label, and without a look at the audio."""
    empty = [column for column in ("path", "corpus", "speaker", "label") if not row[column]]
    if empty:
        raise BadParameter(f"{where}: {', '.join(empty)} is empty", remedy="fill it in")
    blank = [name for name in ("corpus", "speaker", "label") if row[name] != row[name].strip()]
    if blank:
        raise BadParameter(
            f"{where}: {', '.join(blank)} has blanks around it",
            remedy="take them off: with and without them one speaker would be two",
        )
    try:
        duration_s = float(row["duration_s"])
    except (TypeError, ValueError):
        duration_s = math.nan
    if not 0 < duration_s < math.inf:
        raise BadParameter(
            f"{where}: duration_s={row['duration_s']!r} is not a positive number",
            remedy="give seconds",
        )
    return Recording(
        data / row["path"],
        row["corpus"],
        row["speaker"],
        row["label"],
        duration_s,
        gender=row["gender"] or "",
        name=row["path"],
        original_label=row["original_label"] or "",
    )


def write_manifest(recordings: Iterable[Recording], manifest: Path) -> None:
    """Writes the rows in order, durations to the millisecond."""
    manifest.parent.mkdir(parents=True, exist_ok=True)
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for r in recordings:
            duration_s = f"{r.duration_s:.3f}"
            writer.writerow(
                (r.name, r.corpus, r.speaker, r.gender, r.original_label, r.label, duration_s)
            )
