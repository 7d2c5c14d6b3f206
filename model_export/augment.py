"""Augmentation of one utterance, in the power-spectral and mel domain, where it is cheap.

Plain training learns the few speakers by heart. Each random change here stands for something that
differs between the corpora and the world: vocal tract, rate, microphone, room, noise, line.
"""

from typing import Annotated, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.signal import lfilter

from model_export.mel import warped_filters
from ser_core.features import FeatureSpec, Float32, mel_db

#: Most of a recording's silent edges that is ever heard, on either side.
MAX_EDGE_FRAMES: Final = 120
#: G.711 between its steps: noise under the signal, and the finest step, mu-law's, at full scale 1.
_COMPANDING_DB: Final = 38.0
_FINEST_STEP: Final = 8 / 32768
_QUIET: Final = 1e-3  # -30 dB


_Probability = Annotated[float, Field(ge=0, le=1)]
_Speed = Annotated[float, Field(ge=0.5, le=2)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class AugmentConfig:
    """Ranges and probabilities; zero turns a change off. The defaults are those of the tables.

    Raises `ValueError` for what is out of range, and a range of SNR whose first end is the higher.
    """

    speeds: Annotated[tuple[_Speed, ...], Field(min_length=1)] = (0.9, 1.0, 1.1)
    vtlp: float = Field(default=0.1, ge=0, lt=1)
    """Largest stretch of the frequency axis, either way."""
    tilt_db: float = Field(default=3.0, ge=0)
    """Largest spectral tilt over the band, either way; half of it as slow ripple."""
    noise: _Probability = 0.3
    """Probability of added noise, at `snr_db` under the utterance's level."""
    snr_db: tuple[float, float] = (20.0, 50.0)
    reverberation: _Probability = 0.05
    narrowband: _Probability = 0.0
    """Probability of a telephone's band, about 300 to 3,400 Hz."""
    car: _Probability = 0.2
    """Probability of a car's noise, at `car_snr_db` under the utterance's level."""
    car_snr_db: tuple[float, float] = (0.0, 25.0)
    telephone: _Probability = 0.2
    """Probability of 8 kHz sampling in G.711: nothing above 4 kHz, and the companding's noise."""
    edges: _Probability = 0.3
    """Probability that a part of the silent edges is kept."""
    crop: _Probability = 0.05
    """Probability of hearing only the first 0.8 to 2 s of speech, as a stream's start does."""
    n_masks: int = Field(default=2, ge=0)
    mask_mels: int = Field(default=6, ge=0)
    mask_frames: int = Field(default=12, ge=0)

    def __post_init__(self) -> None:
        for name in ("snr_db", "car_snr_db"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} = [{low:g}, {high:g}] must be the lower, then the higher")


class Augmenter:
    """Random features of an utterance. One an epoch and process; not thread-safe."""

    def __init__(self, features: FeatureSpec, config: AugmentConfig, rng: Generator) -> None:
        self._features, self._config, self._rng = features, config, rng
        factors = np.linspace(1 - config.vtlp, 1 + config.vtlp, 21) if config.vtlp else [1.0]
        self._filters = [warped_filters(features, float(factor)).T.copy() for factor in factors]
        n_bins = features.mel_filters.shape[1]
        nyquist_hz = features.sample_rate_hz / 2
        peak_bins = features.mel_filters.argmax(axis=1)
        self._centres_hz = peak_bins / (n_bins - 1) * nyquist_hz
        self._bins_hz = np.linspace(0, nyquist_hz, n_bins)
        self._bandwidth = features.mel_filters.sum(axis=1)
        # By these a frame's mels sum to its power: each stands for the bins it is nearest to.
        nearest = np.abs(self._bins_hz - self._centres_hz[:, None]).argmin(axis=0)
        n_nearest = np.bincount(nearest, minlength=features.n_mels)
        self._to_power = (n_nearest / self._bandwidth).astype(np.float32)
        self._finest = _FINEST_STEP**2 / 12 * np.square(features.window).sum()  # a bin's power

    def __call__(self, power: Float32) -> tuple[Float32, int]:
        """Power spectrum `(T, n_bins)` to MFCC `(T', n_mfcc)`, T' <= T, and the first frame heard.

        The speech is heard, perhaps with some of its edges, perhaps its start alone.
        """
        rng, config = self._rng, self._config
        first, last = self._extent(power)
        power = power[first:last]
        mel = power @ self._filters[rng.integers(len(self._filters))]  # (T, n_mels)
        if rng.random() < config.reverberation:
            decay = 10 ** (-6 * 0.01 / rng.uniform(0.15, 0.8))  # 60 dB in that many seconds
            wet = np.asarray(lfilter([1 - decay], [1, -decay], mel, axis=0), np.float32)
            mel = mel + rng.uniform(0.1, 1.0) * wet
        mel = mel * self._colour()
        if rng.random() < config.noise:
            mel = mel + self._noise(mel)
        # What is off draws nothing here, so that older experiments draw as they did.
        if config.car and rng.random() < config.car:
            mel = mel + self._car(mel)
        if rng.random() < config.narrowband:
            mel = mel * self._line()
        if config.telephone and rng.random() < config.telephone:
            mel = self._telephone(mel)
        return self._mask(mel_db(mel)) @ self._features.dct, first

    def _extent(self, power: Float32) -> tuple[int, int]:
        rng, config = self._rng, self._config
        first, last = speech_bounds(power)
        if rng.random() < config.edges:
            first -= int(rng.integers(0, min(first, MAX_EDGE_FRAMES) + 1))
            last += int(rng.integers(0, min(len(power) - last, MAX_EDGE_FRAMES) + 1))
        if rng.random() < config.crop and last - first > 80:
            last = first + int(rng.integers(78, min(last - first, 198) + 1))
        return first, last

    def _colour(self) -> Float32:
        x = np.linspace(-1, 1, self._features.n_mels)
        tilt, ripple, phase = self._rng.uniform(-1, 1, 3)
        n_waves = self._rng.uniform(0.5, 2)
        shape = tilt * x + 0.5 * ripple * np.sin(np.pi * (n_waves * x + phase))
        return (10 ** (self._config.tilt_db * shape / 10)).astype(np.float32)

    def _noise(self, mel: Float32) -> Float32:
        rng = self._rng
        slope = rng.uniform(0, 2)  # white, pink to brown: power as 1 / f ** slope
        shape = self._bandwidth * np.maximum(self._centres_hz, 60) ** -slope
        level = mel.mean() * 10 ** (-rng.uniform(*self._config.snr_db) / 10)
        flicker = rng.standard_exponential(mel.shape, dtype=np.float32)
        return (flicker * (shape / shape.mean() * level)).astype(np.float32)

    def _line(self) -> Float32:
        low, high = self._rng.uniform(50, 320), self._rng.uniform(3200, 4000)
        inside = (self._centres_hz > low) & (self._centres_hz < high)
        return np.where(inside, 1, 10 ** -self._rng.uniform(4, 9)).astype(np.float32)

    def _car(self, mel: Float32) -> Float32:
        """Road, engine and wind: steep low colours, harmonics, slow gusts; SNR of whole powers."""
        rng, hz = self._rng, self._bins_hz
        road = (1 + (hz / rng.uniform(60, 200)) ** 2) ** -rng.uniform(1.0, 1.7)
        wind = (1 + (hz / rng.uniform(200, 600)) ** 2) ** -1.2
        orders = np.arange(1, 9)  # of half the firing rate
        lines = np.exp(-(((hz - orders[:, None] * rng.uniform(12, 55)) / 30) ** 2))
        engine = (rng.standard_exponential(8) / orders) @ lines
        spectra = np.stack([road, engine, wind]) * _high_pass(hz, rng.uniform(40, 150))
        shares = 10 ** rng.uniform([0, -1.5, -2], [0, 0.3, 0]) / spectra.sum(axis=1)
        road, engine, wind = shares[:, None] * spectra @ self._features.mel_filters.T
        t = np.arange(len(mel)) * 0.01
        gusts = np.sin(2 * np.pi * (rng.uniform(0.1, 1.2, (2, 1)) * t + rng.random((2, 1))))
        gust = 10 ** (0.4 * gusts.sum(axis=0))
        level = 10 ** (-rng.uniform(*self._config.car_snr_db) / 10)
        level *= (mel @ self._to_power).mean()
        level /= (road + engine + gust.mean() * wind) @ self._to_power
        noise = np.outer(gust * level, wind).astype(np.float32)
        noise += ((road + engine) * level).astype(np.float32)
        return noise * rng.standard_exponential(mel.shape, dtype=np.float32)

    def _telephone(self, mel: Float32) -> Float32:
        """G.711 at 8 kHz; its steps grow with the samples, so that its noise follows the frame."""
        rng, hz = self._rng, self._bins_hz
        # Above 4 kHz the resampler before the features leaves nothing at all.
        corner_hz = rng.uniform(3300, 3800)
        low_pass = (hz < 4000) * 10 ** (-4 * np.maximum(0, hz - corner_hz) / (4000 - corner_hz))
        line = low_pass * _high_pass(hz, rng.uniform(20, 300))
        passed, white = (np.stack([line, low_pass]) @ self._features.mel_filters.T).astype(
            np.float32
        )
        mel = mel * (passed / self._bandwidth)
        density = (mel @ self._to_power) / low_pass.sum()
        noise = np.minimum(density * 10 ** (-_COMPANDING_DB / 10) + self._finest, density)
        flicker = rng.standard_exponential(mel.shape, dtype=np.float32)
        return mel + flicker * noise[:, None].astype(np.float32) * white

    def _mask(self, mel: Float32) -> Float32:
        """SpecAugment (Park et al., 2019): bands of mels and of frames become the mean."""
        rng, config = self._rng, self._config
        mean = mel.mean()
        for _ in range(config.n_masks):
            width = int(rng.integers(0, config.mask_mels + 1))
            start = int(rng.integers(0, mel.shape[1] - width + 1))
            mel[:, start : start + width] = mean
            width = int(rng.integers(0, min(config.mask_frames, len(mel) // 5) + 1))
            start = int(rng.integers(0, len(mel) - width + 1))
            mel[start : start + width] = mean
        return mel


def _high_pass(hz: NDArray[np.float64], cutoff_hz: float) -> NDArray[np.float64]:
    """Power response of a second-order Butterworth high-pass."""
    return hz**4 / (hz**4 + cutoff_hz**4)


def speech_bounds(power: Float32) -> tuple[int, int]:
    """First and last-plus-one frame louder than 30 dB under the loudest one."""
    energy = power.sum(axis=1)
    loud = np.flatnonzero(energy >= energy.max() * _QUIET)
    return int(loud[0]), int(loud[-1]) + 1
