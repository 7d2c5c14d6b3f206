"""Raw audio as it travels: encoding, rate and channels, and how bytes and time belong together."""

from dataclasses import dataclass
from typing import Final

CHUNK_MS: Final = 100
#: Bytes of one sample of one channel.
_SAMPLE_BYTES: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


@dataclass(frozen=True)
class AudioFormat:
    """Raw interleaved audio; `sample_rate` in Hz. The defaults are the server's."""

    encoding: str = "pcm_s16le"
    sample_rate: int = 16_000
    channels: int = 1

    @property
    def is_raw(self) -> bool:
        """Whether bytes are samples, so that a time is a place among them."""
        return self.encoding in _SAMPLE_BYTES

    @property
    def frame_bytes(self) -> int:
        """Of one sample of every channel; 1 in an encoding that is not raw samples."""
        return _SAMPLE_BYTES[self.encoding] * self.channels if self.is_raw else 1

    @property
    def chunk_bytes(self) -> int:
        """Of 100 ms, in whole sample frames."""
        return self.sample_rate * CHUNK_MS // 1000 * self.frame_bytes

    def bytes_at(self, time_ms: int) -> int:
        """How many bytes of audio end at `time_ms`.

        Raises `ValueError` for a time between two samples: a stream cannot be cut there.
        """
        frames, rest = divmod(time_ms * self.sample_rate, 1000)
        if rest or time_ms < 0:
            raise ValueError(f"{time_ms} ms is between two samples at {self.sample_rate} Hz")
        return frames * self.frame_bytes
