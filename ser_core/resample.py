"""Stateful sample-rate conversion; its output does not depend on the chunking."""

import numpy as np
import soxr

from ser_core.features import Float32


class Resampler:
    """One channel from `rate_in_hz` to `rate_out_hz`, by `soxr.ResampleStream` (quality HQ).

    The output over accept and flush together is bit-identical to converting the whole signal at
    once. soxr holds back about 120 ms at 8 kHz until flush. Equal rates pass through.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int) -> None:
        self._rates = (rate_in_hz, rate_out_hz)
        self._stream = self._open()

    def _open(self) -> "soxr.ResampleStream | None":
        rate_in, rate_out = self._rates
        if rate_in == rate_out:
            return None
        return soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")

    def accept(self, samples: Float32) -> Float32:
        """float32 `(n,)` at the input rate to float32 `(m,)` at the output rate."""
        if self._stream is None:
            return samples
        return self._stream.resample_chunk(np.ascontiguousarray(samples))

    def flush(self) -> Float32:
        """What was held back; the next sample accepted begins a new signal."""
        if self._stream is None:
            return np.empty(0, np.float32)
        rest = self._stream.resample_chunk(np.empty(0, np.float32), last=True)
        self._stream = self._open()
        return rest
