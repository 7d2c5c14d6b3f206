"""The samples of one recording, and what its header says of them."""

from pathlib import Path

import numpy as np
import soundfile
import soxr

from ser_core.containers import open_audio
from ser_core.decode import sanitize
from ser_core.errors import BadAudio, InputError
from ser_core.features import Float32

#: Their headers count samples rightly, as `ser_core.containers` has checked by then.
_COUNTED = ("WAV", "FLAC")
#: Subtypes of libsndfile that hold what is no number.
_FLOATING = ("FLOAT", "DOUBLE")


def read(path: Path) -> tuple[Float32, int]:
    """A whole recording as mono float32 `(n,)` and its rate in Hz; channels are averaged.

    Any container that the service reads, heard as it hears it: in [-1, 1], what is no number as
    silence. Raises `InputError` that names the file.
    """
    try:
        with open_audio(path) as audio:
            samples, _ = sanitize(np.concatenate(list(audio.blocks(audio.rate_hz))))
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

    Raises `InputError` for what the service would not read, and for samples that are no numbers.
    """
    with open_audio(path) as audio:
        if audio.container in _COUNTED:
            try:
                info = soundfile.info(path)
            except soundfile.LibsndfileError:  # a codec that only PyAV has
                pass
            else:
                if info.subtype in _FLOATING:
                    n_bad = sum(sanitize(block)[1] for block in audio.blocks(audio.rate_hz))
                    if n_bad:
                        raise BadAudio(
                            f"holds {n_bad} samples that are no numbers", remedy="convert it anew"
                        )
                return info.frames / audio.rate_hz, audio.rate_hz
        n_samples = sum(len(block) for block in audio.blocks(audio.rate_hz))
        return n_samples / audio.rate_hz, audio.rate_hz
