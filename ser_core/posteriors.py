"""From logits to calibrated scores, from segments to the utterance and the stream."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_core.events import Decision, Scores, Summary
from ser_core.features import Float32
from ser_core.labels import is_pure

#: Where the exponential neither overflows nor says anything new.
_LEAST, _MOST = np.float32(-80), np.float32(80)


@dataclass(frozen=True)
class Calibration:
    """Per-label logistic calibration: score = sigmoid(scale * logit + bias) (Platt, 1999)."""

    scale: tuple[float, ...]
    bias: tuple[float, ...]

    def scores(self, logits: Float32) -> Float32:
        """One-vs-rest logits `(..., n_labels)` to scores in 0..1 of the same shape."""
        scale, bias = self._arrays
        z = np.minimum(np.maximum(logits * scale + bias, _LEAST), _MOST)
        return (1 / (1 + np.exp(-z))).astype(np.float32, copy=False)

    @cached_property
    def _arrays(self) -> tuple[Float32, Float32]:
        return np.asarray(self.scale, np.float32), np.asarray(self.bias, np.float32)


def named(scores: Float32, labels: tuple[str, ...]) -> Scores:
    """float32 `(n_labels,)` as a mapping."""
    return dict(zip(labels, scores.tolist(), strict=True))


class UtteranceMean:
    """Running mean of segment scores: the paper's final prediction (Section 3.2).

    Partial segments stand in only until the first whole one: the latest of them has heard all
    that the earlier ones had.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.total = np.zeros(len(labels))
        self.predicted: Counter[str] = Counter()
        self._is_partial = False

    def accept(self, scores: Float32, *, partial: bool) -> None:
        """Takes one scored segment, float32 `(n_labels,)`."""
        if partial or self._is_partial:
            self.total[:] = 0
            self.predicted.clear()
        self._is_partial = partial
        self.total += scores
        self.predicted[self.labels[int(np.argmax(scores))]] += 1

    @property
    def n_segments(self) -> int:
        """How many segments the mean speaks for."""
        return self.predicted.total()

    @property
    def decision(self) -> Decision:
        """Mean scores and the largest's label; zeros and no label before the first segment."""
        return _decide(self.total, self.n_segments, self.labels)

    @property
    def scores(self) -> Float32:
        """Mean scores, float32 `(n_labels,)`."""
        return _mean(self.total, self.n_segments)

    @property
    def is_pure(self) -> bool:
        """The pure criterion with the predicted label in the place of the reference."""
        label = self.decision.label
        return label is not None and is_pure(label, self.predicted)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on bit for bit, as JSON holds it."""
        return {
            "total": self.total.tolist(),
            "predicted": dict(self.predicted),
            "is_partial": self._is_partial,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave, of a mean over the same labels."""
        self.total = np.array(state["total"], np.float64)
        self.predicted = Counter(state["predicted"])
        self._is_partial = state["is_partial"]


class ChannelTotals:
    """What one channel said from the stream's start, utterance by utterance."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self._labels = labels
        self._total = np.zeros(len(labels))
        self._predicted: Counter[str] = Counter()

    def accept(self, utterance: UtteranceMean) -> None:
        """Takes a finished utterance."""
        self._total += utterance.total
        self._predicted += utterance.predicted

    def summary(self, channel: int, baseline_end: int | None = None) -> Summary:
        """Mean scores, the largest's label, and the share of the means' segments by label."""
        n_segments = self._predicted.total()
        decision = _decide(self._total, n_segments, self._labels)
        share = {label: self._predicted[label] / max(1, n_segments) for label in self._labels}
        return Summary(channel, decision.label, decision.scores, share, baseline_end)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on bit for bit, as JSON holds it."""
        return {"total": self._total.tolist(), "predicted": dict(self._predicted)}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave, of totals over the same labels."""
        self._total = np.array(state["total"], np.float64)
        self._predicted = Counter(state["predicted"])


def _mean(total: NDArray[np.float64], n_segments: int) -> Float32:
    return (total / max(1, n_segments)).astype(np.float32)


def _decide(total: NDArray[np.float64], n_segments: int, labels: tuple[str, ...]) -> Decision:
    mean = _mean(total, n_segments)
    return Decision(labels[int(np.argmax(mean))] if n_segments else None, named(mean, labels))
