"""Emotion labels, how far apart they are, and the paper's pure criterion."""

import math
from collections.abc import Collection, Iterable, Mapping

NEUTRAL = "neutral"

#: The five classes of the paper's ST-EMO corpus, in the order of its Table 1.
LABELS = ("angry", "happy", NEUTRAL, "sad", "fear")

#: Where an emotion lies on the circle of affect, in degrees from pleasure (0) by way of arousal
#: (90): J. A. Russell, "A circumplex model of affect", Journal of Personality and Social
#: Psychology 39(6), 1980, circular scaling of "happy", "angry", "afraid" and "sad" (Figure 2).
CIRCUMPLEX_DEGREES = {"happy": 7.8, "angry": 99.0, "fear": 116.0, "sad": 207.5}

#: Valence and arousal, each -1..1: points of the unit circle, and neutral in its centre.
VALENCE_AROUSAL = {
    label: (math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    for label, degrees in CIRCUMPLEX_DEGREES.items()
} | {NEUTRAL: (0.0, 0.0)}


def affect_distance(one: str, other: str) -> float:
    """Distance of two labels in the valence-arousal plane, 0..2.

    A label without a place there (of another model) is as far from all others as neutral is from
    the circle: 1.
    """
    if one == other:
        return 0.0
    if one not in VALENCE_AROUSAL or other not in VALENCE_AROUSAL:
        return 1.0
    return math.dist(VALENCE_AROUSAL[one], VALENCE_AROUSAL[other])


def affect_of(scores: Mapping[str, float]) -> tuple[float, float] | None:
    """Valence and arousal, each -1..1, of scores 0..1 by label.

    The centre of the labels' points on Russell's circle (`VALENCE_AROUSAL`), each weighted by its
    score; `None` where no label that has a place there has a score.
    """
    placed = {label: score for label, score in scores.items() if label in VALENCE_AROUSAL}
    total = sum(placed.values())
    if total <= 0:
        return None
    weights = {label: score / total for label, score in placed.items()}
    valence = sum(weight * VALENCE_AROUSAL[label][0] for label, weight in weights.items())
    arousal = sum(weight * VALENCE_AROUSAL[label][1] for label, weight in weights.items())
    return valence, arousal


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
