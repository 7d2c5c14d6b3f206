"""The paper's metrics (Section 3.1): WA, UA, micro-F1, Pure-Acc, confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_core.labels import is_pure


@dataclass(frozen=True)
class Assessed:
    """One utterance: its reference label, the final prediction, and that of each segment.

    What decides an utterance at once has no segments: `None`.
    """

    reference: str
    predicted: str
    segments: tuple[str, ...] | None


def confusion(assessed: Sequence[Assessed], labels: Sequence[str]) -> NDArray[np.int64]:
    """Counts `(n_labels, n_labels)`, reference in rows, prediction in columns."""
    index = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), np.int64)
    for one in assessed:
        counts[index[one.reference], index[one.predicted]] += 1
    return counts


def metrics(assessed: Sequence[Assessed], labels: Sequence[str]) -> dict[str, Any]:
    """`wa`, `ua`, `micro_f1`, `pure_acc` in 0..1, `n`, `labels`, and `confusion` as nested lists.

    WA: share of utterances right. UA: mean recall over the labels that occur. Micro-F1: from the
    true and false positives and negatives of all labels together (for single-label decisions it
    equals WA). Pure-Acc: share of utterances that meet the pure criterion, `None` without segments.

    Raises `ValueError` without utterances.
    """
    counts = confusion(assessed, labels)
    n = int(counts.sum())
    if n == 0:
        raise ValueError("no utterances to assess")
    right = np.diag(counts)
    references = counts.sum(axis=1)
    recalls = right[references > 0] / references[references > 0]
    false_positives = counts.sum() - right.sum()
    false_negatives = references.sum() - right.sum()
    micro_f1 = 2 * right.sum() / (2 * right.sum() + false_positives + false_negatives)
    pure = [is_pure(one.reference, one.segments) for one in assessed if one.segments is not None]
    return {
        "wa": float(right.sum() / n),
        "ua": float(recalls.mean()),
        "micro_f1": float(micro_f1),
        "pure_acc": float(np.mean(pure)) if pure else None,
        "n": n,
        "labels": list(labels),
        "confusion": counts.tolist(),
    }
