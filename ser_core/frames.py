"""Cuts a stream of samples into hop-sized steps, so that work happens once a hop.

The segment grid needs new features every 0.4 s, so nothing is computed in between: a chunk is
only copied. The step has the same shape however the audio was chunked, and the arithmetic is
therefore bit-identical too.
"""

from typing import NamedTuple

import numpy as np

from ser_core.features import FeatureSpec, Float32


class Step(NamedTuple):
    """Samples of the frames that one step completed, and where in the utterance the step ends."""

    samples: Float32
    end: int


class HopFramer:
    """Accepts samples, hands out the samples of the frames that each hop completed.

    Frame `i` covers samples `[i * hop_samples, i * hop_samples + frame_samples)` counted from
    the start of the utterance. Step `k` (from 1) holds the frames that lie whole in the first
    `k * step_samples` samples and in no earlier step.

    With `last_end`, the end of an earlier step, it goes on after that step: the first sample
    accepted is then that at `first_sample`.
    """

    def __init__(self, spec: FeatureSpec, step_samples: int, last_end: int = 0) -> None:
        if step_samples < spec.frame_samples:
            raise ValueError("a step must hold at least one frame")
        self._spec = spec
        self._step_samples = step_samples
        self._pending = np.empty(0, np.float32)  # samples from the first frame not handed out
        self.first_sample = spec.n_frames(last_end) * spec.hop_samples  # where _pending begins
        self.last_end = last_end

    @property
    def n_received(self) -> int:
        """Samples accepted since the utterance began."""
        return self.first_sample + len(self._pending)

    @property
    def next_end(self) -> int:
        """Where in the utterance the next step will end."""
        return self.last_end + self._step_samples

    def accept(self, samples: Float32) -> list[Step]:
        """Takes float32 `(n,)`; returns each step that it completed, often none."""
        self._pending = np.concatenate((self._pending, samples))
        steps: list[Step] = []
        while self.n_received >= self.next_end:
            steps.append(self._take(self.next_end))
        return steps

    def flush(self) -> Step | None:
        """The frames of the last, incomplete step; `None` when there is not one whole frame."""
        if self._spec.n_frames(self.n_received) == self._spec.n_frames(self.last_end):
            return None
        return self._take(self.n_received)

    def resume(self, end: int, pending: Float32) -> None:
        """Goes on after a step that ended at `end`; `pending` begins with the next frame."""
        self.last_end, self._pending = end, pending
        self.first_sample = end - len(pending)

    def _take(self, end: int) -> Step:
        step = Step(self._pending[: end - self.first_sample], end)
        first_new = self._spec.n_frames(end) * self._spec.hop_samples
        # A copy: a view would keep the whole step alive until the next one.
        self._pending = self._pending[first_new - self.first_sample :].copy()
        self.first_sample = first_new
        self.last_end = end
        return step
