"""Made-up result cells on disk, of experiments as good or bad as a test wants them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model_export.cells import Cell, SegmentLogits, load_logits, read_cells, write_cell
from model_export.decisions import decide
from model_export.metrics import Assessed, metrics
from ser_core.labels import LABELS

CORPORA = {"nemo": LABELS, "mine": ("angry", "neutral", "sad")}
N_FOLDS = 3
N_SEGMENTS = 3


def write_experiment(
    root: Path,
    name: str,
    skill: float,
    *,
    folds: tuple[int, ...] = (0, 1, 2),
    seeds: tuple[int, ...] = (1,),
    with_logits: bool = True,
    with_conditions: bool = False,
    **changes: Any,
) -> None:
    """Writes cells of utterances that are right with a probability of about `skill`.

    Each fold has 4 speakers a corpus, who say each label 5 times, in 3 segments.
    """
    for seed in seeds:
        for fold in folds:
            said = _said(skill, seed, fold)
            cell = Cell(
                experiment=name,
                seed=seed,
                fold=fold,
                n_folds=N_FOLDS,
                config_sha256=f"{len(name):064x}",
                split_sha256="5" * 64,
                code="c0de" * 10,
                date=f"2026-01-0{fold + 1}T00:00:00Z",
                duration_s=360.0,
                model={"parameters": 102_400, "macs": 3_100_000, "input": "MFCC"},
                metrics={"corpora": _metrics(said, with_segments=with_logits), "all": {}},
                conditions=_conditions(said) if with_conditions else {},
            )
            cell = Cell(**{**vars(cell), **changes})
            write_cell(root, cell, said if with_logits else None)


def share_speakers(root: Path, name: str) -> None:
    """Gives the speakers of fold 1 those of fold 0, as a random split would."""
    one, other = [cell for cell in read_cells(root, name) if cell.fold in (0, 1)]
    first, second = load_logits(root, one), load_logits(root, other)
    assert first is not None
    assert second is not None
    write_cell(root, other, replace(second, speaker=first.speaker))


def _said(skill: float, seed: int, fold: int) -> SegmentLogits:
    rng = np.random.default_rng((seed, fold, round(1000 * skill)))
    rows = [
        (corpus, f"{corpus}-{fold}{speaker}", label)
        for corpus, labels in CORPORA.items()
        for speaker in "abcd"
        for label in labels
        for _ in range(5)
    ]
    n = len(rows)
    own = np.array([[la == label for la in LABELS] for _, _, label in rows])
    is_right = rng.random(n) < skill
    # A wrong utterance leans to the next label of its corpus, in each of its segments.
    wrong = [
        CORPORA[corpus][(CORPORA[corpus].index(label) + 1) % len(CORPORA[corpus])]
        for corpus, _, label in rows
    ]
    other = np.array([[la == label for la in LABELS] for label in wrong])
    lean = np.where(is_right[:, None], own, other) * 3.0 - 1.5
    logits = np.repeat(lean, N_SEGMENTS, axis=0)
    logits += rng.normal(0, 0.3, logits.shape)
    corpus, speaker, reference = (np.array(column) for column in zip(*rows, strict=True))
    return SegmentLogits(
        logits=logits.astype(np.float16),
        recording=np.repeat(np.arange(n), N_SEGMENTS).astype(np.int32),
        paths=np.array([f"{i}.flac" for i in range(n)]),
        reference=reference,
        corpus=corpus,
        speaker=speaker,
        labels=np.array(LABELS),
    )


def _metrics(said: SegmentLogits, *, with_segments: bool) -> dict[str, Any]:
    decided = decide(said, CORPORA)
    found: dict[str, Any] = {}
    for corpus, labels in CORPORA.items():
        own = decided.corpus == corpus
        pairs = zip(decided.reference[own], decided.predicted[own], strict=True)
        assessed = [Assessed(str(a), str(b), (str(b),)) for a, b in pairs]
        found[corpus] = metrics(assessed, labels) | {
            "pure_acc": float(decided.is_pure[own].mean()) if with_segments else None
        }
    return found


def _conditions(said: SegmentLogits) -> dict[str, Any]:
    clean = _metrics(said, with_segments=True)
    lost = {"mulaw-8k": 0.02, "opus-12k": 0.04, "car-10db": 0.05, "car-0db": 0.15, "babble-10db": 0}
    return {
        name: {
            corpus: {
                "ua": one["ua"] - less,
                "wa": one["wa"] - less,
                "pure_acc": one["pure_acc"],
                "n": one["n"],
            }
            for corpus, one in clean.items()
        }
        for name, less in lost.items()
    }
