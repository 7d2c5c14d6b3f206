"""The samples of one recording, and what its header says of them."""

from pathlib import Path

import numpy as np
import soundfile
import soxr

from ser_core.containers import open_audio
from ser_core.errors import InputError
from ser_core.features import Float32

#: Their headers count samples rightly, as `ser_core.containers` has checked by then.
_COUNTED = ("WAV", "FLAC")


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


def measure(path: Path) -> tuple[float, int]:
    """Duration in seconds and rate in Hz, from the header and the first samples where that does.

    Raises `InputError` for what the service would not read.
    """
    with open_audio(path) as audio:
        if audio.container in _COUNTED:
            try:
                return soundfile.info(path).frames / audio.rate_hz, audio.rate_hz
            except soundfile.LibsndfileError:  # a codec that only PyAV has
                pass
        n_samples = sum(len(block) for block in audio.blocks(audio.rate_hz))
        return n_samples / audio.rate_hz, audio.rate_hz
