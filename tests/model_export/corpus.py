"""A tiny made-up corpus on disk: voices whose pitch and loudness tell the label."""

import csv
from pathlib import Path

import soundfile

from model_export.corpora import COLUMNS
from tests.synthetic import RATE_HZ, voice

LABELS = ("angry", "happy", "neutral", "sad", "fear")
SPEAKERS = ("s1", "s2", "s3", "s4")


def write_corpus(
    root: Path, labels: tuple[str, ...] = LABELS, *, corpus: str = "toy", rate_hz: int = RATE_HZ
) -> Path:
    """Writes 2 recordings a label and speaker, 1.2 s and 3 s long; returns the manifest."""
    rows = []
    for s, speaker in enumerate(SPEAKERS):
        for i, label in enumerate(labels):
            for take, duration_s in enumerate((1.2, 3.0)):
                path = f"{corpus}-{speaker}-{label}-{take}.flac"
                pitch_hz = 110 + 60 * i + 4 * s
                samples = voice(int(duration_s * rate_hz), rate_hz, pitch_hz, seed=take + 7 * s)
                soundfile.write(root / path, samples, rate_hz)
                rows.append((path, corpus, speaker, "female", label, label, duration_s))
    manifest = root / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return manifest


def write_split(root: Path, corpus: str = "toy") -> Path:
    split = root / "split.json"
    split.write_text(
        f'{{"train": {{"{corpus}": ["s1", "s2"]}}, "dev": {{"{corpus}": ["s3"]}}, '
        f'"test": {{"{corpus}": ["s4"]}}}}'
    )
    return split


#: Nothing between the network and the toy corpus, which is told apart by pitch alone.
_PLAIN = """
vtlp = 0.0
tilt_db = 0.0
noise = 0.0
reverberation = 0.0
car = 0.0
telephone = 0.0
edges = 0.0
crop = 0.0
n_masks = 0"""


def write_config(
    root: Path,
    *,
    epochs: int = 2,
    augmented: bool = True,
    learning_rate: float = 2e-3,
    mixup: float = 0.0,
) -> Path:
    config = root / "toy.toml"
    config.write_text(
        f"""
name = "toy"
[features]
n_mels = 24
n_mfcc = 13
[network]
channels = 8
n_blocks = 2
n_heads = 2
[augment]
speeds = [1.0]{"" if augmented else _PLAIN}
[mixup]
probability = {mixup}
[training]
epochs = {epochs}
batch_size = 8
learning_rate = {learning_rate}
"""
    )
    return config


def write_audio(path: Path, duration_s: float = 0.5, rate_hz: int = RATE_HZ) -> Path:
    """A hum of that length, in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, voice(int(duration_s * rate_hz), rate_hz, 150, seed=1), rate_hz)
    return path
