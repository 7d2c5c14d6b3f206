"""Audio as it travels: encoding, rate and channels, and how its bytes and time belong together."""

from dataclasses import dataclass
from typing import Final

from glrf_client import opus

CHUNK_MS: Final = 100
#: Bytes of one sample of one channel.
_SAMPLE_BYTES: Final = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


@dataclass(frozen=True)
class AudioFormat:
    """Raw interleaved audio, or Opus packets; `sample_rate` in Hz, of Opus always 48000.

    The defaults are the server's.
    """

    encoding: str = "pcm_s16le"
    sample_rate: int = 16_000
    channels: int = 1

    @classmethod
    def told(
        cls, encoding: str | None, sample_rate: int | None, channels: int | None
    ) -> "AudioFormat":
        """What a caller says of a stream; what is left out is the contract's default."""
        encoding = encoding or cls.encoding
        default_hz = opus.RATE_HZ if encoding == "opus" else cls.sample_rate
        return cls(encoding, sample_rate or default_hz, channels or cls.channels)

    @property
    def is_raw(self) -> bool:
        """Whether bytes are samples, so that a time is a place among them."""
        return self.encoding in _SAMPLE_BYTES

    @property
    def is_packets(self) -> bool:
        """Whether a chunk is one Opus packet, which is not cut or joined with another."""
        return self.encoding == "opus"

    @property
    def frame_bytes(self) -> int:
        """Of one sample of every channel; 1 in an encoding that is not raw samples."""
        return _SAMPLE_BYTES[self.encoding] * self.channels if self.is_raw else 1

    @property
    def chunk_bytes(self) -> int:
        """Of 100 ms, in whole sample frames."""
        return self.sample_rate * CHUNK_MS // 1000 * self.frame_bytes

    def duration_s(self, chunk: bytes | bytearray) -> float:
        """How long a chunk of raw audio is, or a packet."""
        if self.is_packets:
            return opus.packet_samples(chunk) / opus.RATE_HZ
        return len(chunk) / self.frame_bytes / self.sample_rate

    def places_s(self, n_places: int) -> float:
        """Seconds of so many bytes of raw audio, or samples of packets; 0 in other encodings."""
        if self.is_packets:
            return n_places / opus.RATE_HZ
        return n_places / self.frame_bytes / self.sample_rate if self.is_raw else 0.0

    def place_at(self, time_ms: int) -> int:
        """How much audio ends at `time_ms`: bytes if it is raw, of packets samples at 48 kHz.

        Raises `ValueError` for a time between two samples: a stream cannot be cut there.
        """
        frames, rest = divmod(time_ms * self.sample_rate, 1000)
        if rest or time_ms < 0:
            raise ValueError(f"{time_ms} ms is between two samples at {self.sample_rate} Hz")
        return frames * self.frame_bytes
