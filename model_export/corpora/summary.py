"""What a manifest holds, in numbers."""

import hashlib
from collections import Counter
from collections.abc import Iterable

from model_export.corpora.manifest import Recording


def describe(recordings: list[Recording]) -> dict[str, dict[str, object]]:
    """Speakers, hours and recordings by label, a corpus."""
    return {
        corpus: {
            "speakers": len({r.speaker for r in recordings if r.corpus == corpus}),
            "hours": round(sum(r.duration_s for r in recordings if r.corpus == corpus) / 3600, 3),
            "labels": dict(Counter(r.label for r in recordings if r.corpus == corpus)),
        }
        for corpus in sorted({r.corpus for r in recordings})
    }


def labels_by_corpus(
    recordings: list[Recording], labels: tuple[str, ...]
) -> dict[str, tuple[str, ...]]:
    """The labels to decide among in each corpus: those that occur there, in the order of `labels`.

    All of them where a single one occurs, as in speech without emotion: among one, every model
    would be right.
    """
    present = {(recording.corpus, recording.label) for recording in recordings}
    occurring = {
        corpus: tuple(label for label in labels if (corpus, label) in present)
        for corpus in sorted({corpus for corpus, _ in present})
    }
    return {corpus: own if len(own) > 1 else labels for corpus, own in occurring.items()}


def sha256_of(recordings: Iterable[Recording], *more: bytes) -> str:
    """Of recordings in their order, by name, corpus, speaker and label; then of `more`."""
    total = hashlib.sha256()
    for one in recordings:
        total.update(f"{one.name}\t{one.corpus}\t{one.speaker}\t{one.label}\n".encode())
    for part in more:
        total.update(part)
    return total.hexdigest()
