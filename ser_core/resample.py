"""Stateful sample-rate conversion; its output depends neither on the chunking nor on the far past.

soxr works in blocks that are counted from the start of its stream, so the last bits of a sample
depend on where that was. Here a new soxr stream takes over every `SPAN_S`, at positions that are
counted from the start of the signal, and hears `WARM_UP_S` before its turn. A signal can thus be
entered anywhere, `source_of` a position, and every sample from there on is the same bit for bit
(ADR 10).
"""

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import soxr

from ser_core.features import Float32

#: A soxr stream converts this much of the signal, then the next one does.
SPAN_S = 2
#: What a soxr stream hears before its turn. After 12 ms nothing of its start is left above 1e-6,
#: at any rate from 8 to 192 kHz.
WARM_UP_S = 0.05


@dataclass(slots=True)
class _Span:
    """One soxr stream: what it is still to skip, what it owes, and what waits for its turn."""

    stream: "soxr.ResampleStream"
    n_skipped: int
    n_owed: int
    waiting: list[Float32] = field(default_factory=list[Float32])

    def accept(self, samples: Float32, *, last: bool = False) -> None:
        converted = self.stream.resample_chunk(samples, last=last)
        n_skipped = min(self.n_skipped, len(converted))
        self.n_skipped -= n_skipped
        converted = converted[n_skipped : n_skipped + self.n_owed]
        self.n_owed -= len(converted)
        self.waiting.append(converted)


class Resampler:
    """One channel from `rate_in_hz` to `rate_out_hz`, by `soxr.ResampleStream` (quality HQ).

    The output over accept and flush together is as long as soxr's of the whole signal, and equals
    it to 1e-6. soxr holds back about 120 ms at 8 kHz until flush. Equal rates pass through.

    With `position` it enters a signal: its input is that from `source_of(position)` on, its
    output that from `position` on.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int, position: int = 0) -> None:
        self._rates = (rate_in_hz, rate_out_hz)
        # Only at a multiple of these do samples of both rates coincide.
        common_hz = math.gcd(rate_in_hz, rate_out_hz)
        self._unit_in, self._unit_out = rate_in_hz // common_hz, rate_out_hz // common_hz
        warm_up_units = math.ceil(WARM_UP_S * rate_in_hz / self._unit_in)
        self._warm_up = (warm_up_units * self._unit_in, warm_up_units * self._unit_out)
        self._span = (SPAN_S * rate_in_hz, SPAN_S * rate_out_hz)
        self._enter(position)

    def source_of(self, position: int) -> int:
        """The first sample of the input that the output from `position` on depends on."""
        if self._is_transparent:
            return position
        return self._opening(position // self._span[1])

    def accept(self, samples: Float32) -> Float32:
        """float32 `(n,)` at the input rate to float32 `(m,)` at the output rate."""
        if self._is_transparent:
            return samples
        samples = np.ascontiguousarray(samples)
        ready: list[Float32] = []
        while (n_first := self._next_opening - self._n_received) <= len(samples):
            self._feed(samples[:n_first])
            samples = samples[n_first:]
            ready.append(self._take())  # a span that is done is fed no more
            self._open()
        self._feed(samples)
        return np.concatenate([*ready, self._take()]) if ready else self._take()

    def flush(self) -> Float32:
        """What was held back; the next sample accepted begins a new signal."""
        if self._is_transparent:
            return np.empty(0, np.float32)
        for span in self._spans:
            span.accept(np.empty(0, np.float32), last=True)
            span.n_owed = 0
        rest = self._take()
        self._enter(0)
        return rest

    @property
    def _is_transparent(self) -> bool:
        return self._rates[0] == self._rates[1]

    def _opening(self, index: int) -> int:
        """Where in the input the stream of span `index` begins."""
        return max(0, index * self._span[0] - self._warm_up[0])

    def _enter(self, position: int) -> None:
        self._spans: deque[_Span] = deque()
        self._n_spans = position // self._span[1]
        self._n_received = self._opening(self._n_spans)
        if not self._is_transparent:
            self._open()
            n_passed = position % self._span[1]
            self._spans[0].n_skipped += n_passed
            self._spans[0].n_owed -= n_passed

    def _open(self) -> None:
        stream = soxr.ResampleStream(*self._rates, 1, dtype="float32", quality="HQ")
        n_skipped = self._warm_up[1] if self._n_spans else 0
        self._spans.append(_Span(stream, n_skipped, self._span[1]))
        self._n_spans += 1
        self._next_opening = self._opening(self._n_spans)

    def _feed(self, samples: Float32) -> None:
        self._n_received += len(samples)
        for span in self._spans:
            span.accept(samples)

    def _take(self) -> Float32:
        """What is converted, in the order of the signal."""
        ready: list[Float32] = []
        while self._spans:
            first = self._spans[0]
            ready += first.waiting
            first.waiting.clear()
            if first.n_owed:
                break
            self._spans.popleft()
        return np.concatenate(ready) if ready else np.empty(0, np.float32)
