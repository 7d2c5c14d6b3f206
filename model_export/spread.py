"""Mean and spread of one figure over folds and seeds, and how much of it is there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model_export.cells import Cell

#: One figure of a cell; `None` where it has none (no such corpus, no segments).
Figure = Callable[[Cell], float | None]


@dataclass(frozen=True)
class Spread:
    """`mean` over folds of the mean over seeds; sample standard deviations, where there are two.

    `folds` is the deviation between folds (other speakers), `seeds` that between seeds of their
    mean over the folds that all seeds have (the same speakers, another start).
    """

    mean: float
    folds: float | None
    seeds: float | None


def spread(cells: Sequence[Cell], figure: Figure) -> Spread | None:
    """Of one experiment's cells; `None` when none of them has the figure."""
    values = {(c.seed, c.fold): v for c in cells if (v := figure(c)) is not None}
    if not values:
        return None
    by_fold = list(by_fold_mean(cells, figure).values())
    seeds = sorted({seed for seed, _ in values})
    shared = set.intersection(*({f for s, f in values if s == seed} for seed in seeds))
    by_seed = [
        float(np.mean([values[seed, fold] for fold in sorted(shared)])) for seed in seeds if shared
    ]
    return Spread(float(np.mean(by_fold)), _deviation(by_fold), _deviation(by_seed))


def by_fold_mean(cells: Sequence[Cell], figure: Figure) -> dict[int, float]:
    """The figure's mean over seeds, by fold, for the folds that have it."""
    folds: dict[int, list[float]] = {}
    for cell in sorted(cells, key=lambda cell: (cell.fold, cell.seed)):
        value = figure(cell)
        if value is not None:
            folds.setdefault(cell.fold, []).append(value)
    return {fold: float(np.mean(values)) for fold, values in folds.items()}


def coverage(cells: Sequence[Cell]) -> str:
    """`5 of 5 folds`, `3 of 5 folds`, `13 of 15 cells (3 seeds)`, or `missing`."""
    if not cells:
        return "missing"
    n_folds, n_seeds = cells[0].n_folds, len({cell.seed for cell in cells})
    if n_seeds == 1:
        return f"{len(cells)} of {n_folds} folds"
    return f"{len(cells)} of {n_folds * n_seeds} cells ({n_seeds} seeds)"


def metric(corpus: str, name: str) -> Figure:
    """One of `model_export.metrics.metrics` on one corpus's part of the test fold.

    Pure-Acc is `None` for what decides an utterance at once and has no segments.
    """

    def figure(cell: Cell) -> float | None:
        value = cell.metrics["corpora"].get(corpus, {}).get(name)
        return None if value is None else float(value)

    return figure


def corpora_of(cells: Sequence[Cell]) -> list[str]:
    """Names of the corpora in the cells' test folds."""
    return sorted({name for cell in cells for name in cell.metrics["corpora"]})


def _deviation(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
