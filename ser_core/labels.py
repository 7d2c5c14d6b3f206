"""Emotion labels and the paper's pure criterion."""

from collections.abc import Collection, Iterable

NEUTRAL = "neutral"

#: The five classes of the paper's ST-EMO corpus, in the order of its Table 1.
LABELS = ("angry", "happy", NEUTRAL, "sad", "fear")


def is_pure(label: str, predictions: Iterable[str]) -> bool:
    """Pure criterion of one utterance (paper, Section 3.1, "pure accuracy").

    A non-neutral utterance is pure when its label is predicted for at least one segment and
    every other segment is predicted that label or neutral. A neutral utterance is pure when
    every segment is predicted neutral. An utterance without segments is not pure.

    `label` is the reference label when a model is assessed, or the predicted utterance label
    when a stream is described.
    """
    seen: Collection[str] = set(predictions)
    return label in seen and all(other in (label, NEUTRAL) for other in seen)
