"""Raw audio bytes to float32 samples."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ser_core.errors import BadParameter, UnsupportedEncoding
from ser_core.features import Float32

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)

MIN_RATE_HZ, MAX_RATE_HZ = 8_000, 48_000
MAX_CHANNELS = 2

#: First bytes of containers that are sometimes sent where raw samples are due.
_CONTAINER_MAGIC = {
    b"RIFF": "WAV",
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"ID3\x03": "MP3",
    b"ID3\x04": "MP3",
    b"\x1a\x45\xdf\xa3": "WebM",
}


def _mulaw_table() -> Float32:
    """ITU-T G.711 mu-law: complemented sign, 3-bit segment, 4-bit step, bias 33."""
    code = ~np.arange(256, dtype=np.int64) & 0xFF
    magnitude = ((2 * (code & 0x0F) + 33) << (code >> 4 & 7)) - 33
    linear = np.where(code & 0x80, -magnitude, magnitude) * 4  # 14 bits to 16
    return (linear / 32768).astype(np.float32)


def _alaw_table() -> Float32:
    """ITU-T G.711 A-law: even bits inverted, 3-bit segment, 4-bit step."""
    code = np.arange(256, dtype=np.int64) ^ 0x55
    segment, step = code >> 4 & 7, code & 0x0F
    magnitude = np.where(segment == 0, 2 * step + 1, (2 * step + 33) << np.maximum(segment - 1, 0))
    linear = np.where(code & 0x80, magnitude, -magnitude) * 8  # 13 bits to 16
    return (linear / 32768).astype(np.float32)


MULAW = _mulaw_table()
ALAW = _alaw_table()

_STEP = np.float32(1 / 32768)  # a power of two: multiplying is exact
_SAMPLE_BYTES: dict[Encoding, int] = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


def check_encoding(encoding: str) -> Encoding:
    """The encoding, if it is spoken here; else raises `UnsupportedEncoding`, naming them all."""
    for known in ENCODINGS:
        if encoding == known:
            return known
    raise UnsupportedEncoding(
        f"encoding {encoding!r} is not supported",
        remedy=f"use one of {', '.join(ENCODINGS)}",
    )


def check_channels(n_channels: int) -> None:
    """Raises `BadParameter` for a number of channels other than 1 or 2."""
    if not 1 <= n_channels <= MAX_CHANNELS:
        raise BadParameter(f"channels={n_channels} is out of range", remedy="send 1 or 2 channels")


class Decoder:
    """Decoder of interleaved raw audio.

    Raises `UnsupportedEncoding` for an encoding that is not spoken here and `BadParameter` for a
    number of channels other than 1 or 2.
    """

    def __init__(self, encoding: str, n_channels: int) -> None:
        self._encoding: Encoding = check_encoding(encoding)
        check_channels(n_channels)
        self._n_channels = n_channels

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return _SAMPLE_BYTES[self._encoding] * self._n_channels

    def accept(self, data: bytes) -> Float32:
        """Whole sample frames to float32 `(n, n_channels)`; raises `ValueError` for a part of one.

        Floats are as sent, to be passed to `sanitize`.
        """
        return self._samples(data).reshape(-1, self._n_channels)

    def source_of(self, position: int) -> int:
        """The first sample whose bytes the samples from `position` on depend on: that one."""
        return position

    def _samples(self, data: bytes) -> Float32:
        match self._encoding:
            case "pcm_s16le":
                return np.multiply(np.frombuffer(data, "<i2"), _STEP, dtype=np.float32)
            case "mulaw":
                return MULAW[np.frombuffer(data, np.uint8)]
            case "alaw":
                return ALAW[np.frombuffer(data, np.uint8)]
            case "pcm_f32le":
                return np.frombuffer(data, "<f4").astype(np.float32, copy=False)


def sanitize(samples: NDArray[np.floating]) -> tuple[Float32, int]:
    """Samples as float32 in [-1, 1], NaN and infinities as silence, and how many those were."""
    if samples.size and samples.dtype == np.float32:
        # Almost all audio is as it should be, and NaN passes through a minimum.
        least, most = float(samples.min()), float(samples.max())
        if least >= -1 and most <= 1:
            return np.ascontiguousarray(samples), 0
    finite = np.isfinite(samples)
    n_bad = int(samples.size - np.count_nonzero(finite))
    clean = samples if n_bad == 0 else np.where(finite, samples, np.float32(0))
    return np.clip(clean, -1, 1).astype(np.float32), n_bad


#: Bytes that `sniff_container` looks at.
SNIFF_BYTES = 8


def sniff_container(data: bytes) -> str | None:
    """Name of the container whose signature `data` begins with, or `None` for raw audio."""
    return "M4A" if data[4:8] == b"ftyp" else _CONTAINER_MAGIC.get(data[:4])
