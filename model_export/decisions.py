"""What a test fold's logits decide: an utterance's label, and whether it is pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_export.cells import SegmentLogits
from ser_core.labels import NEUTRAL, is_pure


@dataclass(frozen=True)
class Decisions:
    """Arrays `(n_recordings,)`: str but for `is_pure`, which is bool."""

    corpus: NDArray[np.str_]
    speaker: NDArray[np.str_]
    reference: NDArray[np.str_]
    predicted: NDArray[np.str_]
    is_pure: NDArray[np.bool_]


def decide(said: SegmentLogits, among: Mapping[str, Sequence[str]]) -> Decisions:
    """Decides each utterance among its corpus's labels, as `model_export.evaluation.assess` does.

    The average of the segments' scores is the final prediction (paper, Section 3.2); a recording
    without a segment is neutral.
    """
    labels = [str(label) for label in said.labels]
    scores = 1 / (1 + np.exp(-np.clip(said.logits.astype(np.float64), -80, 80)))
    allowed = np.array(
        [[label in among[str(corpus)] for label in labels] for corpus in said.corpus], bool
    )
    n_recordings = len(said.paths)
    n_segments = np.bincount(said.recording, minlength=n_recordings)
    total = np.zeros((n_recordings, len(labels)))
    np.add.at(total, said.recording, scores)
    mean = total / np.maximum(n_segments, 1)[:, None]
    silent = n_segments == 0
    if NEUTRAL in labels:
        mean[silent, labels.index(NEUTRAL)] = 1
    own = np.array(labels)
    predicted = own[np.where(allowed, mean, -1).argmax(axis=1)]
    segments = own[np.where(allowed[said.recording], scores, -1).argmax(axis=1)]
    order = np.argsort(said.recording, kind="stable")
    runs = np.split(segments[order], np.cumsum(n_segments)[:-1])
    pure = [
        is_pure(str(reference), (str(x) for x in (run if len(run) else [decision])))
        for reference, run, decision in zip(said.reference, runs, predicted, strict=True)
    ]
    return Decisions(said.corpus, said.speaker, said.reference, predicted, np.array(pure, bool))
