"""A call to look at, made from the demo clip's phrases: a customer who is angry, then not."""

import json
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from scipy.signal import lfilter

from ser_core.features import Float32
from tests.browser.chromium import CLIP

RATE_HZ = 16_000
ROLES = "customer,agent"

#: What the shipped model says of a phrase that is played faster or slower, and duller: phrase,
#: speed, pole of a low-pass filter.
_SAID = {
    "neutral": ("neutral", 1.5, 0.9),
    "angry": ("angry", 1.5, 0.0),
    "happy": ("angry", 0.7, 0.0),
    "glad": ("fear", 0.8, 0.0),
    "sad": ("neutral", 0.55, 0.9),
    "calm": ("sad", 1.5, 0.9),
}
#: Who says what, and how long after the one before ended, in seconds; less than 0: over it.
_TURNS = (
    (1, "calm", 0.6), (0, "neutral", 0.3), (0, "neutral", 0.2), (1, "neutral", 0.3),
    (0, "neutral", 0.4),
    (0, "angry", 0.5), (1, "calm", -0.8), (0, "angry", 0.3), (0, "angry", 0.2), (0, "angry", 0.3),
    (1, "neutral", -1.1), (0, "angry", 0.2), (1, "calm", 0.5), (0, "sad", 0.6), (0, "sad", 0.5),
    (1, "neutral", 9.0), (0, "neutral", 0.4), (1, "calm", 0.3), (0, "neutral", 0.4),
    (0, "neutral", 0.6),
    (1, "happy", 0.5), (0, "happy", 0.4), (0, "glad", 0.3), (1, "glad", -0.6), (0, "happy", 0.4),
    (1, "happy", 0.3), (0, "glad", 0.3),
)  # fmt: skip


def made_call(path: Path) -> None:
    """Writes it as a stereo file of about two minutes."""
    said = {name: _spoken(*phrase) for name, phrase in _SAID.items()}
    channels: tuple[list[Float32], list[Float32]] = ([], [])
    lengths, end = [0, 0], 0
    for channel, name, gap_s in _TURNS:
        start = max(lengths[channel], end + round(gap_s * RATE_HZ))
        channels[channel].append(np.zeros(start - lengths[channel], np.float32))
        channels[channel].append(said[name])
        lengths[channel] = start + len(said[name])
        end = max(end, lengths[channel])
    call = np.zeros((end + RATE_HZ, 2), np.float32)
    for channel, parts in enumerate(channels):
        call[: lengths[channel], channel] = np.concatenate(parts)
    sf.write(path, call, RATE_HZ)


def _spoken(meant: str, speed: float, pole: float) -> Float32:
    samples = sf.read(CLIP, dtype="float32")[0].astype(np.float32)
    phrases = json.loads(CLIP.with_suffix(".json").read_text())["phrases"]
    (place,) = (phrase for phrase in phrases if phrase["meant"] == meant)
    first, last = (place[end] * RATE_HZ // 1000 for end in ("start_ms", "end_ms"))
    phrase = soxr.resample(samples[first:last], RATE_HZ * speed, RATE_HZ)
    return np.asarray(lfilter([1 - pole], [1, -pole], phrase), np.float32)
