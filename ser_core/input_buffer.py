"""Audio that a session received and has not worked on yet: work is done once a hop (ADR 23)."""

import numpy as np

from ser_core.decode import Decoder
from ser_core.features import Float32
from ser_core.opus import BadPacket, OpusDecoder


class InputBuffer:
    """Raw audio as it came, or samples of packets: those are decoded at once, they may be bad."""

    def __init__(self, decoder: Decoder | OpusDecoder, n_channels: int) -> None:
        self._decoder = decoder
        self._n_channels = n_channels
        self._raw = bytearray()
        self._decoded: list[Float32] = []
        #: Whole samples of a channel.
        self.n_samples = 0

    @property
    def n_rest_bytes(self) -> int:
        """Bytes of a sample that is not whole yet."""
        return len(self._raw) % self._decoder.frame_bytes

    def keep(self, data: bytes) -> None:
        """Raw samples in any chunking, or one Opus packet.

        Raises `BadPacket` for one that cannot be decoded; silence is kept in its place.
        """
        if not isinstance(self._decoder, OpusDecoder):
            self._raw += data
            self.n_samples = len(self._raw) // self._decoder.frame_bytes
            return
        try:
            self._keep_samples(self._decoder.accept(data))
        except BadPacket as error:
            self._keep_samples(np.zeros((error.n_samples, self._n_channels), np.float32))
            raise

    def _keep_samples(self, samples: Float32) -> None:
        self._decoded.append(samples)
        self.n_samples += len(samples)

    def take(self) -> Float32:
        """All whole samples, float32 `(n, n_channels)`; they are not kept any longer."""
        if isinstance(self._decoder, OpusDecoder):
            empty = np.empty((0, self._n_channels), np.float32)
            samples = np.concatenate(self._decoded or [empty])
            self._decoded.clear()
        else:
            n_bytes = self.n_samples * self._decoder.frame_bytes
            samples = self._decoder.accept(bytes(self._raw[:n_bytes]))
            del self._raw[:n_bytes]
        self.n_samples = 0
        return samples
