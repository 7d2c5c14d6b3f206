"""Opus packets to float32 samples, one packet at a time (RFC 6716).

The decoder is libopus inside PyAV, from the extra `media`. It always decodes to 48 kHz, at which
every Opus stream can be decoded, whatever it was encoded from.
"""

from typing import Any

import numpy as np

from ser_core.decode import MAX_CHANNELS
from ser_core.errors import BadAudio, BadParameter, UnsupportedEncoding
from ser_core.features import Float32

RATE_HZ = 48_000
_MAX_PACKET_SAMPLES = 5_760  # 120 ms (RFC 6716, Section 3.2.5)


class BadPacket(BadAudio):
    """A packet that cannot be decoded; it is `n_samples` at 48 kHz long, 0 if that is unknown."""

    code = "bad_packet"

    def __init__(self, message: str, n_samples: int) -> None:
        super().__init__(
            message, remedy="send one whole Opus packet a frame, without Ogg around it"
        )
        self.n_samples = n_samples


def packet_samples(packet: bytes) -> int:
    """Samples at 48 kHz that a packet holds, by its first bytes (RFC 6716, Section 3.1).

    0 where they do not tell, or tell of more than the 120 ms that are allowed.
    """
    if not packet:
        return 0
    config, count_code = packet[0] >> 3, packet[0] & 3
    if config < 12:  # SILK
        frame = (480, 960, 1_920, 2_880)[config & 3]
    elif config < 16:  # hybrid
        frame = (480, 960)[config & 1]
    else:  # CELT
        frame = (120, 240, 480, 960)[config & 3]
    if count_code == 3:
        n_frames = packet[1] & 0x3F if len(packet) > 1 else 0
    else:
        n_frames = (1, 2, 2)[count_code]
    n_samples = frame * n_frames
    return n_samples if n_samples <= _MAX_PACKET_SAMPLES else 0


class OpusDecoder:
    """Stateful decoder of one stream's packets.

    Raises `UnsupportedEncoding` without PyAV and `BadParameter` for channels other than 1 or 2.
    """

    frame_bytes = 1  # packets have any length

    def __init__(self, n_channels: int) -> None:
        if not 1 <= n_channels <= MAX_CHANNELS:
            raise BadParameter(
                f"channels={n_channels} is out of range", remedy="send 1 or 2 channels"
            )
        try:
            import av
        except ImportError as error:
            raise UnsupportedEncoding(
                "encoding opus needs PyAV, which this server does not have",
                remedy="pip install 'glrf[media]', or send pcm_s16le",
            ) from error
        self._n_channels = n_channels
        self._av: Any = av
        self._codec: Any = av.CodecContext.create("libopus", "r")
        self._codec.sample_rate = RATE_HZ
        self._codec.layout = "mono" if n_channels == 1 else "stereo"

    def accept(self, packet: bytes) -> Float32:
        """One packet to float32 `(n, n_channels)`; raises `BadPacket`, and the next may be good."""
        n_samples = packet_samples(packet)
        if not packet:  # PyAV takes it for the stream's end, and decodes nothing after it
            raise BadPacket("the Opus packet is empty", 0)
        if not n_samples:
            raise BadPacket("the Opus packet's length cannot be told", 0)
        try:
            frames = self._codec.decode(self._av.Packet(packet))
        except (self._av.FFmpegError, ValueError) as error:
            raise BadPacket(f"the Opus packet cannot be decoded: {error}", n_samples) from error
        parts = [self._samples(frame) for frame in frames]
        return np.concatenate(parts or [np.zeros((n_samples, self._n_channels), np.float32)])

    def flush(self) -> int:
        """Nothing is held back."""
        return 0

    def _samples(self, frame: Any) -> Float32:
        data: Any = frame.to_ndarray()
        if not frame.format.is_planar:
            data = data.reshape(-1, self._n_channels).T
        if data.dtype == np.int16:
            data = data.astype(np.float32) / np.float32(32768)
        return np.ascontiguousarray(data.T, np.float32)
