"""The samples of one recording."""

from pathlib import Path

import numpy as np
import soxr

from ser_core.containers import open_audio
from ser_core.errors import InputError
from ser_core.features import Float32


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
