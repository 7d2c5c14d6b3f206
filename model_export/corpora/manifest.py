"""Emotional speech as a manifest: one CSV row a labelled recording."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from ser_core.errors import BadParameter

COLUMNS = ("path", "corpus", "speaker", "gender", "original_label", "label", "duration_s")


@dataclass(frozen=True)
class Recording:
    """One labelled utterance; `speaker` is unique within its corpus.

    `name` is the path as the manifest has it, relative to the data folder: the same on every
    machine. `gender` is the manifest's word, "" where it has none.
    """

    path: Path
    corpus: str
    speaker: str
    label: str
    duration_s: float
    gender: str = ""
    name: str = ""

    @property
    def speaker_key(self) -> tuple[str, str]:
        return self.corpus, self.speaker


def read_manifest(manifest: Path, data: Path, labels: tuple[str, ...]) -> list[Recording]:
    """Rows of `manifest`, whose paths are relative to `data`.

    Raises `BadParameter`, naming the line, for a missing column or file, an unknown label, or a
    duration that is not a positive number.
    """
    if not manifest.is_file():
        raise BadParameter(f"manifest {manifest} does not exist", remedy="give a CSV file")
    recordings: list[Recording] = []
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if missing:
            raise BadParameter(
                f"{manifest} lacks the columns {', '.join(missing)}",
                remedy=f"its first line must name {','.join(COLUMNS)}",
            )
        for row in reader:
            recordings.append(_recording(row, data, labels, f"{manifest}:{reader.line_num}"))
    if not recordings:
        raise BadParameter(f"{manifest} has no rows", remedy="list at least one recording")
    return recordings


def _recording(row: dict[str, str], data: Path, labels: tuple[str, ...], where: str) -> Recording:
    path = data / row["path"]
    if not path.is_file():
        raise BadParameter(f"{where}: {path} does not exist", remedy="check --data")
    if row["label"] not in labels:
        raise BadParameter(
            f"{where}: unknown label {row['label']!r}", remedy=f"use one of {', '.join(labels)}"
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
        path,
        row["corpus"],
        row["speaker"],
        row["label"],
        duration_s,
        gender=row["gender"] or "",
        name=row["path"],
    )
