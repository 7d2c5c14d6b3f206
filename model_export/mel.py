"""Mel filters, made by librosa once, when a model is trained; they travel in the model file."""

import warnings

import librosa
import numpy as np

from ser_core.features import FeatureSpec, Float32


def feature_spec(n_mels: int, n_mfcc: int, fmin_hz: float, fmax_hz: float) -> FeatureSpec:
    """Feature spec with Slaney mel filters at 16 kHz, 25 ms frames every 10 ms.

    Raises `ValueError` for more MFCC than mels, and for so many mels that one hears nothing.
    """
    rate_hz, frame_samples = FeatureSpec.sample_rate_hz, FeatureSpec.frame_samples
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters")  # refused below
        filters = librosa.filters.mel(
            sr=rate_hz, n_fft=frame_samples, n_mels=n_mels, fmin=fmin_hz, fmax=fmax_hz
        )
    if n_empty := int((~filters.any(axis=1)).sum()):
        raise ValueError(
            f"n_mels={n_mels}: {n_empty} mel filters between {fmin_hz:g} and {fmax_hz:g} Hz are"
            f" narrower than the {rate_hz / frame_samples:g} Hz from bin to bin, and hear nothing"
        )
    return FeatureSpec(mel_filters=np.asarray(filters, np.float32), n_mfcc=n_mfcc)


def warped_filters(features: FeatureSpec, factor: float) -> Float32:
    """Filters whose frequency axis is stretched by `factor`: another vocal tract length.

    Vocal tract length perturbation (Jaitly and Hinton, 2013): a filter answers at `f` as the
    original one at `f * factor`; near the top the warp bends so that the Nyquist frequency stays.
    float32 `(n_mels, n_bins)`.
    """
    n_bins = features.mel_filters.shape[1]
    f = np.linspace(0, 1, n_bins)
    knee = 0.8 / max(factor, 1)
    bent = knee * factor + (f - knee) * (1 - knee * factor) / (1 - knee)
    warped = np.where(f < knee, f * factor, bent)
    rows = [np.interp(warped, f, row) for row in features.mel_filters]
    return np.asarray(rows, np.float32)
