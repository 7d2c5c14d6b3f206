"""Emotional speech as a manifest: one CSV row a labelled recording."""

import csv
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from ser_core.containers import open_audio
from ser_core.errors import BadParameter, InputError
from ser_core.features import Float32

COLUMNS = ("path", "corpus", "speaker", "gender", "original_label", "label", "duration_s")


@dataclass(frozen=True)
class Recording:
    """One labelled utterance; `speaker` is unique within its corpus."""

    path: Path
    corpus: str
    speaker: str
    label: str
    duration_s: float

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
    return Recording(path, row["corpus"], row["speaker"], row["label"], duration_s)


def read(path: Path) -> tuple[Float32, int]:
    """A whole recording as mono float32 `(n,)` and its rate in Hz; channels are averaged.

    Any container that the service reads. Raises `InputError` that names the file.
    """
    try:
        with open_audio(path) as audio:
            samples = np.concatenate(list(audio.blocks(audio.rate_hz)))
            return np.ascontiguousarray(samples.mean(axis=1), np.float32), audio.rate_hz
    except InputError as error:
        raise type(error)(f"{path}: {error}", remedy=error.remedy, code=error.code) from error


def load(path: Path, rate_hz: int) -> Float32:
    """As `read`, converted to `rate_hz`."""
    samples, rate_in_hz = read(path)
    if rate_in_hz == rate_hz:
        return samples
    return np.asarray(soxr.resample(samples, rate_in_hz, rate_hz, quality="HQ"), np.float32)


def describe(recordings: list[Recording]) -> dict[str, dict[str, object]]:
    """Speakers, hours and recordings by label, a corpus."""
    return {
        corpus: {
            "speakers": len({r.speaker for r in recordings if r.corpus == corpus}),
            "hours": round(sum(r.duration_s for r in recordings if r.corpus == corpus) / 3600, 3),
            "labels": dict(Counter(r.label for r in recordings if r.corpus == corpus)),
        }
        for corpus in sorted({r.corpus for r in recordings})
    }


def labels_by_corpus(
    recordings: list[Recording], labels: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """The labels that occur in each corpus, in the order of `labels`."""
    present = {(recording.corpus, recording.label) for recording in recordings}
    return {
        corpus: tuple(label for label in labels if (corpus, label) in present)
        for corpus in sorted({corpus for corpus, _ in present})
    }
