"""Makes the demo clip: `python glrf/demo/make_clip.py` writes `clip.flac` and `clip.json` here.

One sentence-pair a phrase, spoken by espeak-ng with the prosody that acting studies report for the
emotion (Juslin & Laukka, 2003: fast, loud, high and varied for anger and joy; slow, soft, low and
flat for sadness; fast, high and unsteady for fear). It is a synthetic voice: what a model hears
in it is for show and measures nothing.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

RATE_HZ = 16_000
PAUSE_S = 0.3
PEAK = 0.6
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Phrase:
    """One phrase and its prosody.

    `rate` in words a minute; `pitch` and `pitch_range` as espeak-ng takes them, 50 is its default;
    `level` is linear, 1 the loudest phrase.
    """

    meant: str
    text: str
    rate: int
    pitch: int
    pitch_range: int
    level: float


PHRASES = (
    Phrase("neutral", "The train to the coast leaves at ten, from the second platform.",
           160, 45, 40, 0.5),
    Phrase("angry", "I told you twice already! Take your hands off it, now!",
           190, 70, 90, 1.0),
    Phrase("happy", "That is wonderful news! We are all coming on Sunday!",
           180, 85, 100, 0.8),
    Phrase("sad", "The house is so quiet, now that he is gone.",
           115, 35, 15, 0.25),
    Phrase("fear", "Did you hear that? There is someone behind the door.",
           200, 95, 60, 0.45),
)  # fmt: skip


def speak(phrase: Phrase) -> NDArray[np.float32]:
    """The phrase as float32 `(n,)` at 16 kHz, trimmed and scaled to its level."""
    ssml = (
        f'<speak><prosody rate="{phrase.rate / 175:.0%}" pitch="{phrase.pitch * 2}%" '
        f'range="{phrase.pitch_range * 2}%">{phrase.text}</prosody></speak>'
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phrase.wav"
        subprocess.run(
            ["espeak-ng", "-v", "en-us", "-m", "-w", str(path), ssml], check=True, timeout=30
        )
        samples, rate_hz = soundfile.read(path, dtype="float32")
    samples = soxr.resample(np.asarray(samples, np.float32), rate_hz, RATE_HZ)
    loud = np.flatnonzero(np.abs(samples) > 0.005)
    samples = samples[loud[0] : loud[-1] + 1]
    return (samples * (PEAK * phrase.level / np.abs(samples).max())).astype(np.float32)


def main() -> None:
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is missing: install it (apt-get install espeak-ng) and try again")
    pause = np.zeros(int(PAUSE_S * RATE_HZ), np.float32)
    pieces, bounds, end = [], [], 0
    for phrase in PHRASES:
        piece = np.concatenate((speak(phrase), pause))
        # Ends on a whole 100 ms, so that a phrase is a whole number of chunks.
        piece = np.pad(piece, (0, -len(piece) % (RATE_HZ // 10)))
        pieces.append(piece)
        start, end = end, end + len(piece)
        bounds.append(
            {
                "start_ms": start * 1000 // RATE_HZ,
                "end_ms": end * 1000 // RATE_HZ,
                **asdict(phrase),
            }
        )
    samples = np.concatenate(pieces)
    # A little noise, as of a room: digital silence is unlike any recording.
    samples += np.random.default_rng(0).normal(0, 2e-4, len(samples)).astype(np.float32)
    soundfile.write(HERE / "clip.flac", samples, RATE_HZ, subtype="PCM_16")
    (HERE / "clip.json").write_text(json.dumps({"phrases": bounds}, indent=2) + "\n")
    print(f"clip.flac: {len(samples) / RATE_HZ:.1f} s in {len(PHRASES)} phrases")


if __name__ == "__main__":
    main()
