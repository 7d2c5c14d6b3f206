"""The running label: segment scores smoothed over an utterance, and a label that does not jump.

    mean      the average of the utterance's segments: the paper's (Section 3.2)
    ema       an average that forgets: an older segment counts less
    viterbi   the likeliest path through the labels, where a change costs the more the further
              apart two emotions are (Viterbi, 1967; Russell, 1980)

Every utterance begins anew. What an utterance says at its end (`ser_core.events.Utterance`) is the
mean whatever the smoothing: this is about what is said on the way.
"""

import math
import operator
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, get_args

import numpy as np

from ser_core.errors import BadParameter
from ser_core.events import Decision
from ser_core.features import Float32
from ser_core.labels import affect_distance
from ser_core.posteriors import UtteranceMean, named

Smoothing = Literal["mean", "ema", "viterbi"]
SMOOTHINGS: Final[tuple[Smoothing, ...]] = get_args(Smoothing)


@dataclass(frozen=True, slots=True)
class Hold:
    """What it takes to change a running label.

    `hysteresis` is how far another label's smoothed score must lie above the current one's;
    `min_dwell_s` how long a label stays once it was taken.
    """

    hysteresis: float
    min_dwell_s: float


# Chosen on development speakers, checked on others: docs/adr/0011-running-label.md.
DEFAULT_SMOOTHING: Final[Smoothing] = "viterbi"
DEFAULT_HOLDS: Final[dict[Smoothing, Hold]] = {
    "mean": Hold(0.0, 0.0),
    "ema": Hold(0.03, 0.0),
    "viterbi": Hold(0.0, 0.0),
}

#: Share of its weight that a segment loses with each one that follows it.
EMA_FORGETTING: Final = 0.2

#: Log-odds of a segment count this much: neighbours share 1.6 of their 2 s, so each tells little
#: that is new.
VITERBI_EVIDENCE: Final = 0.4
#: Log-probability that a change of label costs, and what each unit of distance adds to it.
VITERBI_CHANGE: Final = 0.6
VITERBI_DISTANCE: Final = 0.4

MAX_DWELL_S: Final = 60.0


@dataclass(frozen=True)
class SmoothingConfig:
    """How the running label is made; `None` is what suits the smoothing (`DEFAULT_HOLDS`).

    Raises `BadParameter` for what is out of range.
    """

    kind: Smoothing = DEFAULT_SMOOTHING
    hysteresis: float | None = None
    min_dwell_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in SMOOTHINGS:
            raise BadParameter(
                f"smoothing={self.kind[:64]!r} is not known",
                remedy=f"use {' or '.join(SMOOTHINGS)}",
            )
        if self.hysteresis is not None and not 0 <= self.hysteresis <= 1:
            raise BadParameter(
                f"hysteresis={self.hysteresis:g} is out of range", remedy="send 0 to 1"
            )
        if self.min_dwell_s is not None and not 0 <= self.min_dwell_s <= MAX_DWELL_S:
            raise BadParameter(
                f"min_dwell of {self.min_dwell_s:g} s is out of range",
                remedy=f"send 0 to {MAX_DWELL_S:g} s",
            )

    @property
    def hold(self) -> Hold:
        """Hysteresis and dwell, with the smoothing's own where none is given."""
        own = DEFAULT_HOLDS[self.kind]
        return Hold(
            own.hysteresis if self.hysteresis is None else self.hysteresis,
            own.min_dwell_s if self.min_dwell_s is None else self.min_dwell_s,
        )


class Smoother(Protocol):
    """Takes an utterance's segments one by one; `UtteranceMean` is the plainest.

    As there, partial segments stand in only until the next one, which has heard all that they had.
    `restore` takes what `state` gave and goes on from there bit for bit; a state is JSON.
    """

    def accept(self, scores: Float32, *, partial: bool) -> None:
        """Takes one scored segment, float32 `(n_labels,)`."""
        ...

    @property
    def scores(self) -> Float32:
        """Smoothed scores, float32 `(n_labels,)`."""
        ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class ForgettingMean:
    """Exponentially weighted mean: the plain mean at first, and the last seconds' later on."""

    def __init__(self, n_labels: int) -> None:
        self._total = np.zeros(n_labels)
        self._weight = 0.0
        self._is_partial = True

    def accept(self, scores: Float32, *, partial: bool) -> None:
        keep = 0.0 if partial or self._is_partial else 1 - EMA_FORGETTING
        self._is_partial = partial
        self._total = keep * self._total + scores
        self._weight = keep * self._weight + 1

    @property
    def scores(self) -> Float32:
        return (self._total / max(1.0, self._weight)).astype(np.float32)

    def state(self) -> dict[str, Any]:
        return {
            "total": self._total.tolist(),
            "weight": self._weight,
            "is_partial": self._is_partial,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._total = np.array(state["total"], np.float64)
        self._weight = state["weight"]
        self._is_partial = state["is_partial"]


class Viterbi:
    """The likeliest path of labels up to now (A. J. Viterbi, 1967), in the log domain.

    A segment's evidence for a label is the log-odds of its score: one label is true and the others
    are not. The first may be any. The smoothed scores are the probabilities of the best paths that
    end in each label; they sum to one.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        # Numbers of Python: for a handful of labels NumPy's calls would cost three times as much.
        self._costs = [[_change_cost(before, after) for before in labels] for after in labels]
        self._path = [0.0] * len(labels)  # log-probability; the best is 0
        self._is_partial = True

    def accept(self, scores: Float32, *, partial: bool) -> None:
        path = [VITERBI_EVIDENCE * _log_odds(score) for score in scores.tolist()]
        if not (partial or self._is_partial):
            path = [
                evidence + max(map(operator.sub, self._path, costs))
                for evidence, costs in zip(path, self._costs, strict=True)
            ]
        self._is_partial = partial
        best = max(path)
        self._path = [value - best for value in path]

    @property
    def scores(self) -> Float32:
        p = np.array([math.exp(value) for value in self._path])
        return (p / p.sum()).astype(np.float32)

    def state(self) -> dict[str, Any]:
        return {"path": self._path, "is_partial": self._is_partial}

    def restore(self, state: dict[str, Any]) -> None:
        self._path = [float(value) for value in state["path"]]
        self._is_partial = state["is_partial"]


def _change_cost(before: str, after: str) -> float:
    distance = affect_distance(before, after)
    return VITERBI_CHANGE + VITERBI_DISTANCE * distance if distance > 0 else 0.0


def _log_odds(score: float) -> float:
    p = min(max(score, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


class RunningLabel:
    """What is said of one utterance on the way: smoothed scores, and a label that is held.

    `mean` is kept beside, for the utterance's result. A smoothing that is changed on the way begins
    with the next segment, but for `mean`, which knows the whole utterance; the label stays until
    there is reason to change it.
    """

    def __init__(self, labels: tuple[str, ...], rate_hz: int) -> None:
        self.mean = UtteranceMean(labels)
        self._labels = labels
        self._rate_hz = rate_hz
        self._kind: Smoothing = "mean"
        self._smoother: Smoother = self.mean
        self._scores = np.zeros(len(labels), np.float32)
        self._label: int | None = None
        self._since = 0  # where the label was taken, in samples

    def accept(self, scores: Float32, config: SmoothingConfig, *, partial: bool, end: int) -> None:
        """Takes one scored segment, float32 `(n_labels,)`, that ends at sample `end`."""
        self._use(config.kind)
        self.mean.accept(scores, partial=partial)
        if self._smoother is not self.mean:
            self._smoother.accept(scores, partial=partial)
        self._scores = self._smoother.scores
        best = int(np.argmax(self._scores))
        if self._label is None or (best != self._label and self._may_change(best, config, end)):
            self._label, self._since = best, end

    @property
    def decision(self) -> Decision:
        """Smoothed scores and the label held; zeros and no label before the first segment."""
        label = None if self._label is None else self._labels[self._label]
        return Decision(label, named(self._scores, self._labels))

    def _may_change(self, best: int, config: SmoothingConfig, end: int) -> bool:
        hold = config.hold
        lead = float(self._scores[best]) - float(self._scores[self._label or 0])
        return lead >= hold.hysteresis and end - self._since >= round(
            hold.min_dwell_s * self._rate_hz
        )

    def _use(self, kind: Smoothing) -> None:
        if kind == self._kind:
            return
        self._kind = kind
        match kind:
            case "mean":
                self._smoother = self.mean
            case "ema":
                self._smoother = ForgettingMean(len(self._labels))
            case "viterbi":
                self._smoother = Viterbi(self._labels)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on bit for bit, as JSON holds it."""
        return {
            "mean": self.mean.state(),
            "kind": self._kind,
            "smoother": None if self._smoother is self.mean else self._smoother.state(),
            "scores": self._scores.tolist(),
            "label": self._label,
            "since": self._since,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave, of an utterance with the same labels."""
        self.mean.restore(state["mean"])
        self._use(state["kind"])
        if self._smoother is not self.mean:
            self._smoother.restore(state["smoother"])
        self._scores = np.array(state["scores"], np.float32)
        self._label, self._since = state["label"], state["since"]
