"""A made-up corpus: voices whose pitch, loudness and pace tell the label. No recording of anybody.

It shows that the chain runs, from audio to the report; what a network learns here says nothing.
"""

import csv
from pathlib import Path
from typing import Final

import numpy as np
import soundfile

from model_export.corpora import COLUMNS
from ser_core.features import Float32
from ser_core.labels import LABELS

NAME: Final = "synthetic"
RATE_HZ: Final = 16_000
#: Pitch as a share of the speaker's own, loudness, syllables a second.
_MANNERS: Final = {
    "angry": (1.6, 0.30, 5.0),
    "happy": (1.4, 0.22, 4.0),
    "neutral": (1.0, 0.15, 3.0),
    "sad": (0.85, 0.08, 2.0),
    "fear": (1.8, 0.10, 6.0),
}


def write_corpus(root: Path, n_speakers: int = 4, takes_s: tuple[float, ...] = (1.4, 2.6)) -> Path:
    """Writes a FLAC file a speaker, label and take below `root`; returns the manifest there.

    `takes_s` are the takes' lengths. The same arguments give the same files.
    """
    root.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str | float, ...]] = []
    for speaker in range(n_speakers):
        gender = ("female", "male")[speaker % 2]
        own_hz = (200.0, 120.0)[speaker % 2] * (1 + 0.04 * (speaker // 2))
        for label in LABELS:
            for take, duration_s in enumerate(takes_s):
                seed = (speaker, LABELS.index(label), take)
                path = f"speaker-{speaker}-{label}-{take}.flac"
                samples = voice(label, own_hz, duration_s, np.random.default_rng(seed))
                soundfile.write(root / path, samples, RATE_HZ)
                rows.append((path, NAME, f"speaker-{speaker}", gender, label, label, duration_s))
    manifest = root / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return manifest


def voice(label: str, own_hz: float, duration_s: float, rng: np.random.Generator) -> Float32:
    """One utterance at 16 kHz, float32 `(n_samples,)`, |peak| below 1: harmonics and a breath."""
    pitch, loudness, syllables_hz = _MANNERS[label]
    t = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    hz = own_hz * pitch * rng.uniform(0.94, 1.06)
    phase = 2 * np.pi * (hz * t + 0.02 * hz * np.sin(2 * np.pi * 0.7 * t + rng.uniform(0, 6)))
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 9)) / 2
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * syllables_hz * t + rng.uniform(0, 6))
    breath = 0.003 * rng.standard_normal(len(t))
    return (loudness * envelope * harmonics + breath).astype(np.float32)
