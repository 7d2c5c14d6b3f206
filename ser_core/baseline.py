"""A speaker's baseline: how the network hears their neutral voice, and what that tells of the rest.

A voice that is dark or tense by nature is heard as sad or angry whatever it says. Who tells the
service that a stream begins in a neutral voice has what follows scored relative to it (ADR 26).
"""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from ser_core.errors import BadParameter
from ser_core.features import Float32

MIN_BASELINE_S: Final = 1.0
MAX_BASELINE_S: Final = 60.0


@dataclass(frozen=True)
class NeutralVoice:
    """What a model says of neutral voices, and what one of them tells of its speaker.

    `logits` `(n_labels,)` are the mean over speakers that the network had not learned from. Of how
    far one speaker's neutral voice lies from it, the `share` in 0..1 is found again in what they
    say in other moods: the slope of the one on the other, by least squares over those speakers.
    """

    logits: tuple[float, ...]
    share: float


class Span(NamedTuple):
    """A segment's samples, `start` to `end`; `partial` if they are fewer than a whole one's."""

    start: int
    end: int
    partial: bool


class Baseline:
    """One channel's speaker: the mean of the first seconds' logits, and how to take it off.

    A segment weighs as much as it was the first to hear, until `n_samples` were heard. What is
    taken off changes with an utterance, never within one.
    """

    def __init__(self, neutral: NeutralVoice, n_samples: int) -> None:
        self._neutral = np.asarray(neutral.logits, np.float64)
        self._share = neutral.share
        self._n_wanted = n_samples
        self._n_heard = 0
        self._heard_until = 0
        self._total = np.zeros(len(neutral.logits))
        self._stand_in: tuple[Float32, Span] | None = None  # of an utterance without a whole one
        self._end: int | None = None
        self._offset: Float32 | None = None

    @property
    def end(self) -> int | None:
        """Where the utterance ended with which the speaker was known, in samples."""
        return self._end

    def accept(self, logits: Float32, span: Span, *, is_clear: bool) -> Float32:
        """Takes logits `(n_labels,)` of one segment, in order.

        Returns them without what is known to be the speaker's own. `is_clear`: whether there is
        enough speech in it, undistorted, to tell how they sound.
        """
        if self._offset is not None:
            return logits - self._offset
        if is_clear and span.partial:  # until the next one, which has heard all that it had
            self._stand_in = (logits, span)
        elif is_clear:
            self._stand_in = None
            self._hear(logits, span)
        return logits

    def end_utterance(self, end: int) -> None:
        """The utterance that was heard has ended at sample `end`."""
        if self._stand_in is not None:
            self._hear(*self._stand_in)
            self._stand_in = None
        if self._end is None and self._n_heard >= self._n_wanted:
            self._settle(end)

    def _hear(self, logits: Float32, span: Span) -> None:
        n_new = span.end - max(span.start, self._heard_until)
        if self._n_heard < self._n_wanted and n_new > 0:
            self._heard_until = span.end
            self._n_heard += n_new
            self._total += n_new * logits.astype(np.float64)

    def _settle(self, end: int) -> None:
        self._end = end
        own = self._total / self._n_heard - self._neutral
        self._offset = (self._share * own).astype(np.float32)

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on bit for bit, as JSON holds it."""
        stand_in = self._stand_in
        return {
            "n_heard": self._n_heard,
            "heard_until": self._heard_until,
            "total": self._total.tolist(),
            "stand_in": stand_in and (stand_in[0].tolist(), *stand_in[1]),
            "end": self._end,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Takes what `state` gave, of a baseline with the same neutral voice."""
        self._n_heard = state["n_heard"]
        self._heard_until = state["heard_until"]
        self._total = np.array(state["total"], np.float64)
        if state["stand_in"] is not None:
            logits, *span = state["stand_in"]
            self._stand_in = (np.array(logits, np.float32), Span(*span))
        if state["end"] is not None:
            self._settle(state["end"])


def check_baseline(seconds: float) -> None:
    """Raises `BadParameter` for what is neither 0, for none, nor 1 to 60 s."""
    if seconds and not MIN_BASELINE_S <= seconds <= MAX_BASELINE_S:
        raise BadParameter(
            f"a baseline of {seconds:g} s is out of range",
            remedy=f"send 0 for none, or {MIN_BASELINE_S:g} to {MAX_BASELINE_S:g} s of speech",
        )
