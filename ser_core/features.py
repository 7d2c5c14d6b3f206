"""Frame-local MFCC features in NumPy.

One frame's features depend on that frame's samples and on nothing else: fixed reference,
`center=False`, no clip-wide `top_db`, no clip-wide normalisation (ADR 1). So a stream computes
each frame once, in any chunking, and a file gives the same numbers.

The definition is `librosa.feature.mfcc(n_fft=win_length=400, hop_length=160, center=False,
window="hann")` on `power_to_db(ref=1, amin=1e-10, top_db=None)`; tests hold the two together.
librosa itself (1.75 s of import) makes the mel filters when a model is trained; they travel in
the model file.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_AMIN = 1e-10  # power floor, -100 dB; librosa's default
_DECIBELS = np.float32(10 / math.log(10))


@dataclass(frozen=True, eq=False)
class FeatureSpec:
    """What a feature is: stated once, stored in the model file, never set by an operator.

    `mel_filters` is float32 `(n_mels, frame_samples // 2 + 1)`, from `librosa.filters.mel`.
    """

    mel_filters: Float32 = field(repr=False)
    n_mfcc: int
    sample_rate_hz: int = 16_000
    frame_samples: int = 400
    hop_samples: int = 160

    def __post_init__(self) -> None:
        if self.mel_filters.ndim != 2 or self.mel_filters.shape[1] != self.frame_samples // 2 + 1:
            raise ValueError(
                f"mel_filters of shape {self.mel_filters.shape} do not fit "
                f"{self.frame_samples}-sample frames"
            )
        if not 0 < self.n_mfcc <= self.n_mels:
            raise ValueError(f"n_mfcc={self.n_mfcc} must be in 1..{self.n_mels}")
        if not 0 < self.hop_samples <= self.frame_samples:
            raise ValueError("hop_samples must be in 1..frame_samples")

    @property
    def n_mels(self) -> int:
        return self.mel_filters.shape[0]

    def n_frames(self, n_samples: int) -> int:
        """Whole frames in `n_samples` samples (no padding)."""
        return max(0, 1 + (n_samples - self.frame_samples) // self.hop_samples)

    @cached_property
    def window(self) -> NDArray[np.float64]:
        """Periodic Hann window, float64 `(frame_samples,)`."""
        n = np.arange(self.frame_samples)
        return 0.5 - 0.5 * np.cos(2 * np.pi * n / self.frame_samples)

    @cached_property
    def dct(self) -> Float32:
        """Orthonormal DCT-II basis, float32 `(n_mels, n_mfcc)`: MFCC = mel_db @ dct."""
        mel = np.arange(self.n_mels)[:, None] + 0.5
        k = np.arange(self.n_mfcc)[None, :]
        basis = np.cos(np.pi * mel * k / self.n_mels) * math.sqrt(2 / self.n_mels)
        basis[:, 0] = 1 / math.sqrt(self.n_mels)
        return basis.astype(np.float32)

    @cached_property
    def _dct_64(self) -> NDArray[np.float64]:
        return self.dct.astype(np.float64)

    @cached_property
    def _mel_t(self) -> Float32:
        return np.ascontiguousarray(self.mel_filters.T)


def power_spectrum(samples: Float32, spec: FeatureSpec) -> Float32:
    """Power spectrum of every whole frame.

    `samples` is float32 `(n_samples,)` in [-1, 1] at the spec's rate; the result is float32
    `(n_frames, frame_samples // 2 + 1)`.
    """
    n_frames = spec.n_frames(len(samples))
    if n_frames == 0:
        return np.empty((0, spec.frame_samples // 2 + 1), np.float32)
    samples = np.ascontiguousarray(samples)
    step = samples.itemsize
    frames = np.ndarray(
        (n_frames, spec.frame_samples), samples.dtype, samples, 0, (spec.hop_samples * step, step)
    )
    # In float64, as librosa: a float32 FFT's rounding reaches the bands beside a pure tone.
    spectrum = np.fft.rfft(frames * spec.window, axis=1)
    return (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32)


def mel_db(mel_power: Float32) -> Float32:
    """Decibels of mel-band power, reference 1, floored at -100 dB; same shape."""
    # NumPy has a vector routine for the natural logarithm alone.
    return np.log(np.maximum(mel_power, _AMIN)) * _DECIBELS


def mfcc(samples: Float32, spec: FeatureSpec) -> Float32:
    """MFCC of every whole frame: float32 `(n_samples,)` to float32 `(n_frames, n_mfcc)`."""
    return mfcc_of_power(power_spectrum(samples, spec), spec)


def mfcc_of_power(power: Float32, spec: FeatureSpec) -> Float32:
    """The same from `power_spectrum`'s result."""
    mel_power = power @ spec._mel_t  # pyright: ignore[reportPrivateUsage]
    # Summed in float64: forty bands at -100 dB make coefficients of hundreds.
    return (mel_db(mel_power).astype(np.float64) @ spec._dct_64).astype(np.float32)  # pyright: ignore[reportPrivateUsage]


def quantile(values: NDArray[np.floating], share: float) -> NDArray[np.floating]:
    """Along the first axis, linearly between neighbours.

    `np.quantile` for one share and finite values, at a tenth of its time for the few frames of a
    step.
    """
    ordered = np.sort(values, axis=0)
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
