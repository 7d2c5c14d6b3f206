"""How far one experiment is ahead of another, with a confidence interval."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from model_export.catalogue import PAPER_PEERS
from model_export.cells import Cell
from model_export.ledger import Ledger
from model_export.spread import by_fold_mean, corpora_of, metric, spread

#: Of the paper's metrics; micro-F1 equals WA where each utterance gets one label.
Metric = Literal["wa", "ua", "pure_acc"]
METRICS: Final[tuple[Metric, ...]] = ("wa", "ua", "pure_acc")
CONFIDENCE: Final = 0.95
N_RESAMPLES: Final = 10_000
SEED: Final = 1


@dataclass(frozen=True)
class Margin:
    """Ours minus theirs, -1..1, and the interval that holds it with 95 % confidence.

    `unit` is what was resampled, in pairs, and `n` how many of them there were. With one there is
    no interval: both bounds are NaN.
    """

    difference: float
    low: float
    high: float
    unit: Literal["speakers", "folds"]
    n: int

    @property
    def verdict(self) -> Literal["ahead", "behind", "undecided"]:
        """Of ours: the interval lies above zero, below it, or holds it."""
        if self.low > 0:
            return "ahead"
        return "behind" if self.high < 0 else "undecided"


@dataclass(frozen=True)
class _Tally:
    """Means over seeds, a row a speaker: right and all utterances by label, pure ones."""

    right: NDArray[np.float64]
    total: NDArray[np.float64]
    pure: NDArray[np.float64]

    def figures(self, times: NDArray[np.float64], name: Metric) -> NDArray[np.float64]:
        """The metric with each speaker taken `times` `(n, n_speakers)`; `(n,)`."""
        total = times @ self.total
        if name == "pure_acc":
            return (times @ self.pure) / total.sum(axis=1)
        right = times @ self.right
        if name == "wa":
            return right.sum(axis=1) / total.sum(axis=1)
        with np.errstate(invalid="ignore"):
            return np.nanmean(right / total, axis=1)  # over the labels that occur


def margins(ledger: Ledger, ours: str, theirs: str, corpus: str) -> dict[Metric, Margin]:
    """The margin in each metric that both have, on the folds that both have.

    With logits on both sides the paired bootstrap draws speakers (an utterance's are no
    independent witnesses) and pools their utterances; without, it draws folds and averages their
    metrics. Percentile interval (Efron and Tibshirani, 1993), 10,000 draws, fixed seed. Seeds are
    averaged first: the interval is of the speakers, not of the training's luck. Nothing comes back
    for experiments of different splits or without a common fold.
    """
    our_cells = _of_corpus(ledger.of(ours), corpus)
    their_cells = _of_corpus(ledger.of(theirs), corpus)
    shared = {cell.fold for cell in our_cells} & {cell.fold for cell in their_cells}
    our_cells, their_cells = (
        [cell for cell in cells if cell.fold in shared] for cells in (our_cells, their_cells)
    )
    if len({cell.split_sha256 for cell in our_cells + their_cells}) != 1:
        return {}
    mine = _tallies(ledger, our_cells, corpus)
    other = _tallies(ledger, their_cells, corpus)
    if mine is None or other is None:
        return _over_folds(our_cells, their_cells, corpus)
    speakers = sorted(mine.keys() & other.keys())
    return _over_speakers(_stacked(mine, speakers), _stacked(other, speakers))


def speaker_ua(ledger: Ledger, experiment: str, corpus: str) -> dict[str, float]:
    """UA of each speaker, over the labels that the speaker has, averaged over seeds.

    Empty without logits.
    """
    tallies = _tallies(ledger, _of_corpus(ledger.of(experiment), corpus), corpus)
    return {
        speaker: float(_stacked(tallies or {}, [speaker]).figures(np.ones((1, 1)), "ua")[0])
        for speaker in sorted(tallies or {})
    }


def best_peer(ledger: Ledger) -> str | None:
    """The paper's peer of the highest UA, averaged over corpora; `None` before there is one."""
    means: dict[str, float] = {}
    for row in PAPER_PEERS:
        cells = ledger.of(row.experiment)
        found = [spread(cells, metric(corpus, "ua")) for corpus in corpora_of(cells)]
        if found:
            means[row.experiment] = float(np.mean([one.mean for one in found if one]))
    return max(means, key=lambda name: means[name], default=None)


def _of_corpus(cells: list[Cell], corpus: str) -> list[Cell]:
    return [cell for cell in cells if corpus in cell.metrics["corpora"]]


def _over_speakers(mine: _Tally, other: _Tally) -> dict[Metric, Margin]:
    n = len(mine.total)
    times = _resampled(n)
    once = np.ones((1, n))
    return {
        name: _margin(
            float((mine.figures(once, name) - other.figures(once, name))[0]),
            mine.figures(times, name) - other.figures(times, name),
            "speakers",
            n,
        )
        for name in METRICS
    }


def _over_folds(mine: list[Cell], other: list[Cell], corpus: str) -> dict[Metric, Margin]:
    found: dict[Metric, Margin] = {}
    for name in METRICS:
        ours, theirs = (by_fold_mean(cells, metric(corpus, name)) for cells in (mine, other))
        folds = sorted(ours.keys() & theirs.keys())
        if folds:
            differences = np.array([ours[fold] - theirs[fold] for fold in folds])
            drawn = _resampled(len(folds)) @ differences / len(folds)
            found[name] = _margin(float(differences.mean()), drawn, "folds", len(folds))
    return found


def _margin(
    difference: float, drawn: NDArray[np.float64], unit: Literal["speakers", "folds"], n: int
) -> Margin:
    if n < 2:
        return Margin(difference, np.nan, np.nan, unit, n)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail))
    return Margin(difference, float(low), float(high), unit, n)


def _resampled(n: int) -> NDArray[np.float64]:
    """How often each of `n` is drawn, `(N_RESAMPLES, n)`; the same draws at each call."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(n, np.full(n, 1 / n), N_RESAMPLES).astype(np.float64)


def _tallies(ledger: Ledger, cells: list[Cell], corpus: str) -> dict[str, _Tally] | None:
    """By speaker, each a tally of one row; `None` when a cell has no logits."""
    rows: dict[str, dict[int, list[_Tally]]] = {}
    labels = sorted({x for cell in cells for x in cell.metrics["corpora"][corpus]["labels"]})
    for cell in cells:
        decided = ledger.decisions(cell)
        if decided is None:
            return None
        is_right = decided.predicted == decided.reference
        of_label = decided.reference[:, None] == np.array(labels)  # (n_recordings, n_labels)
        for speaker in np.unique(decided.speaker[decided.corpus == corpus]):
            own = (decided.corpus == corpus) & (decided.speaker == speaker)
            rows.setdefault(str(speaker), {}).setdefault(cell.fold, []).append(
                _Tally(
                    of_label[own & is_right].sum(axis=0, dtype=float),
                    of_label[own].sum(axis=0, dtype=float),
                    np.array(decided.is_pure[own].sum(dtype=float)),
                )
            )
    return {
        speaker: _joined([_joined(seeds, np.mean) for seeds in folds.values()], np.sum)
        for speaker, folds in rows.items()
    }


def _joined(tallies: list[_Tally], how: Callable[..., Any]) -> _Tally:
    return _Tally(
        *(how([getattr(tally, f.name) for tally in tallies], axis=0) for f in fields(_Tally))
    )


def _stacked(tallies: dict[str, _Tally], speakers: list[str]) -> _Tally:
    return _joined([tallies[speaker] for speaker in speakers], np.stack)
