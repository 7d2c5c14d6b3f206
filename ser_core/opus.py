"""Opus packets to float32 samples, one packet at a time (RFC 6716).

The decoder is libopus inside PyAV, from the extra `media`. It always decodes to 48 kHz, at which
every Opus stream can be decoded, whatever it was encoded from.

What libopus makes of a packet depends on those before it, and its state cannot be read. So, as in
`ser_core.resample`, a new libopus decoder takes over every `SPAN_S`, at packets that are counted
from the start of the stream, and hears `WARM_UP_S` before its turn. A stream can thus be entered
at a packet, `source_of` a sample, and every sample from there on is the same bit for bit (ADR 13).
"""

import contextlib
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from ser_core.decode import Decoder, check_channels
from ser_core.errors import BadAudio, UnsupportedEncoding
from ser_core.features import Float32
from ser_core.resample import SPAN_S
from ser_core.resample import WARM_UP_S as RESAMPLER_WARM_UP_S

RATE_HZ = 48_000
_STEP = np.float32(1 / 32_768)
MAX_PACKET_SAMPLES = 5_760  # 120 ms (RFC 6716, Section 3.2.5)

#: What a libopus decoder hears before its turn; measured (ADR 13). RFC 7845, Section 4.6, asks for
#: 80 ms at least.
WARM_UP_S = 0.5

_SPAN_SAMPLES = SPAN_S * RATE_HZ
_WARM_UP_SAMPLES = int(WARM_UP_S * RATE_HZ)
#: A turn begins before a resampler's span needs its first sample, however long the packets are:
#: what is sent again is then little more than what resampling asks for.
_LEAD_SAMPLES = int(RESAMPLER_WARM_UP_S * RATE_HZ) + _WARM_UP_SAMPLES + 2 * MAX_PACKET_SAMPLES
#: Turns that are remembered: half a minute, where what is to come depends on a few seconds.
_N_TURNS = 16


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
    return n_samples if n_samples <= MAX_PACKET_SAMPLES else 0


class PacketDecoder:
    """One libopus decoder: a run of packets, each decoded by what came before it.

    Raises `UnsupportedEncoding` without PyAV and `BadParameter` for channels other than 1 or 2.
    """

    def __init__(self, n_channels: int) -> None:
        check_channels(n_channels)
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
        if not frames:
            return np.zeros((n_samples, self._n_channels), np.float32)
        parts = [self._samples(frame) for frame in frames]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _samples(self, frame: Any) -> Float32:
        # As they lie, interleaved and of 16 bits: PyAV's own way takes four times as long.
        assert frame.format.name == "s16", frame.format.name
        data = np.frombuffer(frame.planes[0], np.int16, frame.samples * self._n_channels)
        return np.multiply(data, _STEP, dtype=np.float32).reshape(-1, self._n_channels)


class _Turn(NamedTuple):
    """Samples from `begins` on are of the decoder whose first packet starts at `opening`."""

    opening: int
    begins: int


class OpusDecoder:
    """The packets of one stream.

    With `position` it enters a stream: its first packet is the one that starts there, and its
    output is the stream's from the sample on of which that is the `source_of`. Raises
    `UnsupportedEncoding` without PyAV and `BadParameter` for channels other than 1 or 2.
    """

    frame_bytes = 1  # packets have any length

    def __init__(self, n_channels: int, position: int = 0) -> None:
        self._n_channels = n_channels
        self._position = position  # where the next packet starts
        self._decoder = PacketDecoder(n_channels)
        self._next: PacketDecoder | None = None
        self._turns: deque[_Turn] = deque([_Turn(position, position)], maxlen=_N_TURNS)
        self._plan(position)

    def accept(self, packet: bytes) -> Float32:
        """One packet to float32 `(n, n_channels)`; raises `BadPacket`, and the next may be good."""
        n_samples = packet_samples(packet)
        if n_samples:  # without time it is no packet of the stream
            self._take_turns()
            self._position += n_samples
            if self._next is not None:
                with contextlib.suppress(BadPacket):  # told by whose turn it is
                    self._next.accept(packet)
        return self._decoder.accept(packet)

    def source_of(self, position: int) -> int:
        """Where the first packet starts that the samples from `position` on depend on.

        `position` may be as far in the past as a session looks back.
        """
        fitting = [turn.opening for turn in self._turns if turn.begins <= position]
        return fitting[-1]

    def _plan(self, opening: int) -> None:
        """Where the decoder after the one that was opened at `opening` is to be opened."""
        n_spans = (opening + _LEAD_SAMPLES) // _SPAN_SAMPLES + 1
        self._opening, self._next_opening = opening, n_spans * _SPAN_SAMPLES - _LEAD_SAMPLES

    def _take_turns(self) -> None:
        if self._next is None and self._position >= self._next_opening:
            self._next = PacketDecoder(self._n_channels)
            self._plan(self._position)
        elif self._next is not None and self._position - self._opening >= _WARM_UP_SAMPLES:
            self._decoder, self._next = self._next, None
            self._turns.append(_Turn(self._opening, self._position))


def decoder(encoding: str, n_channels: int, position: int = 0) -> Decoder | OpusDecoder:
    """Of raw samples or packets, for a stream that is entered at `position`.

    Raises as `Decoder` and `OpusDecoder` do.
    """
    if encoding == "opus":
        return OpusDecoder(n_channels, position)
    return Decoder(encoding, n_channels)
