"""Where an experiment is good and where not: by condition, by emotion, by speaker."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.calibration import (
    N_BINS,
    Reliability,
    logits_by_fold,
    pooled,
    unseen_reliability,
)
from model_export.catalogue import shown, spoken
from model_export.cells import Cell, SegmentLogits
from model_export.decisions import decide
from model_export.ledger import Ledger
from model_export.margins import best_peer, speaker_ua
from model_export.markdown import (
    MISSING,
    NONE,
    percent,
    points,
    spread_percent,
    table,
)
from model_export.metrics import Assessed, metrics
from model_export.neutral import neutral_voice, with_baseline
from model_export.spread import Figure, Spread, coverage, metric, spread
from model_export.tables import origin, origin_of

#: The condition that others are measured against, where a cell tells it; else its clean metrics.
CLEAN = "clean"


def conditions_of(cells: Sequence[Cell]) -> list[str]:
    """Names of the conditions that the cells were assessed under, the clean one left out."""
    names = dict.fromkeys(name for cell in cells for name in cell.conditions)
    return [name for name in names if name != CLEAN]


def under(condition: str, corpus: str, name: str = "ua") -> Figure:
    """A metric under a condition; `None` where it was not tried."""

    def figure(cell: Cell) -> float | None:
        value = cell.conditions.get(condition, {}).get(corpus, {}).get(name)
        return None if value is None else float(value)

    return figure


def clean(corpus: str, name: str = "ua") -> Figure:
    """A metric of the clean recordings: those that the conditions were tried on, if it is told."""
    told, all_ = under(CLEAN, corpus, name), metric(corpus, name)
    return lambda cell: all_(cell) if (value := told(cell)) is None else value


def loss(condition: str, corpus: str, name: str = "ua") -> Figure:
    """Clean less disturbed, of the same cell."""
    before, after = clean(corpus, name), under(condition, corpus, name)

    def figure(cell: Cell) -> float | None:
        a, b = before(cell), after(cell)
        return None if a is None or b is None else a - b

    return figure


def conditions(ledger: Ledger) -> str:
    """UA by condition with what it costs, for every experiment that was tried under any."""
    tried = [name for name in ledger.experiments if conditions_of(ledger.of(name))]
    if not tried:
        return f"{MISSING}: no cell has been assessed under conditions."
    blocks: list[str] = []
    for experiment in tried:
        cells = [cell for cell in ledger.of(experiment) if cell.conditions]
        for corpus in ledger.corpora:
            lines = [[CLEAN, spread_percent(spread(cells, clean(corpus))), NONE, coverage(cells)]]
            for name in conditions_of(cells):
                there = [cell for cell in cells if under(name, corpus)(cell) is not None]
                ua, lost = (spread(there, f(name, corpus)) for f in (under, loss))
                lines.append([name, spread_percent(ua), _loss(lost), coverage(there)])
            blocks += [
                f"### {shown(experiment)} on {spoken(corpus)}",
                table(["condition", "UA", "loss of UA (points)", "cells"], lines),
            ]
    used = [cell for name in tried for cell in ledger.of(name) if conditions_of([cell])]
    return "\n\n".join([*blocks, origin_of(used, with_conditions=True)])


def calibration(ledger: Ledger) -> str:
    """Expected calibration error of one-vs-rest scores, before and after."""
    cells = ledger.of(ledger.shipped)
    lines: list[list[str]] = []
    for corpus in ledger.corpora:
        tried = [
            unseen_reliability(ledger, cells, corpus, calibrated=calibrated)
            for calibrated in (False, True)
        ]
        if all(tried):
            together = [f"{pooled(parts).ece:.3f}" for parts in tried]
            lines.append([spoken(corpus), *together, *(_ece_by_fold(parts) for parts in tried)])
    if not lines:
        return f"{MISSING}: {shown(ledger.shipped)} has logits of fewer than two folds."
    return "\n\n".join(
        [
            f"{shown(ledger.shipped)}: expected calibration error (Guo et al., 2017) over {N_BINS}"
            " equal bins of all one-vs-rest scores of all segments, labels and utterances weighing"
            " the same. A fold's scores are calibrated (Platt scaling a label) on the other folds:"
            " its speakers are unknown to the network and to the calibration. The first seed. Folds"
            " together, too high for one speaker and too low for another make up for each other; a"
            " fold by itself has few speakers, and none to make up.",
            table(
                [
                    "corpus",
                    "as trained, folds together",
                    "calibrated",
                    "as trained, mean of folds",
                    "calibrated",
                ],
                lines,
            ),
            origin(ledger, [ledger.shipped]),
        ]
    )


def _ece_by_fold(parts: Sequence[Reliability]) -> str:
    found = [part.ece for part in parts]
    return f"{np.mean(found):.3f} ± {np.std(found, ddof=1):.3f}"


#: Neutral recordings of a speaker that a baseline is made of in the report.
N_NEUTRAL: Final = (1, 2, 4)


def baseline(ledger: Ledger) -> str:
    """What it brings to know a speaker's neutral voice, by how many recordings of it are known."""
    cells = ledger.of(ledger.shipped)
    said = {seed: logits_by_fold(ledger, cells, seed) for seed in {cell.seed for cell in cells}}
    if max((len(folds) for folds in said.values()), default=0) < 2:
        return f"{MISSING}: {shown(ledger.shipped)} has logits of fewer than two folds."
    blocks: list[str] = []
    for corpus in ledger.corpora:
        lines = [
            [str(n), *_with_and_without(cells, said, corpus, n), coverage(cells)] for n in N_NEUTRAL
        ]
        columns = [f"{name}{how}" for name in ("UA", "WA", "Pure-Acc") for how in ("", ", with")]
        blocks += [f"### {spoken(corpus)}", table(["neutral recordings", *columns, "cells"], lines)]
    return "\n\n".join(
        [
            f"{shown(ledger.shipped)}, scored as it is and relative to each test speaker's own"
            " neutral voice (*with*; `baseline_ms` of the service), which is known from so many of"
            " their neutral recordings, the first by name. Those are in neither figure, so the"
            " rest has fewer neutral ones than the corpus. How a neutral voice sounds to the"
            " network otherwise, and which share of the difference is taken off, come from the"
            " other folds' speakers.",
            *blocks,
            origin(ledger, [ledger.shipped]),
        ]
    )


def recalls(ledger: Ledger) -> str:
    """Each emotion's recall by corpus, for GLRF and the best peer."""
    blocks: list[str] = []
    chosen = _chosen(ledger)
    for corpus in ledger.corpora:
        lines: list[list[str]] = []
        labels = _labels(ledger, chosen, corpus)
        for experiment in chosen:
            cells = [c for c in ledger.of(experiment) if corpus in c.metrics["corpora"]]
            figures = [spread_percent(spread(cells, recall(corpus, label))) for label in labels]
            lines.append([shown(experiment), *figures, coverage(cells)])
        blocks += [f"### {spoken(corpus)}", table(["recall", *labels, "cells"], lines)]
    return "\n\n".join([*blocks, origin(ledger, chosen)])


def speakers(ledger: Ledger) -> str:
    """How far apart a corpus's speakers are, in UA, for GLRF and the best peer."""
    columns = ["", "speakers", "lowest", "lower quartile", "median", "upper quartile", "highest"]
    chosen = _chosen(ledger)
    lines: list[list[str]] = []
    for corpus in ledger.corpora:
        for experiment in chosen:
            found = speaker_ua(ledger, experiment, corpus)
            name = f"{shown(experiment)} on {corpus}"
            if not found:
                lines.append([name, NONE, *[MISSING] * 5])
                continue
            bounds = np.quantile(list(found.values()), (0, 0.25, 0.5, 0.75, 1))
            low, *middle, high = (percent(float(bound)) for bound in bounds)
            worst, best = (pick(found, key=lambda name: found[name]) for pick in (min, max))
            lines.append([name, str(len(found)), f"{low} ({worst})", *middle, f"{high} ({best})"])
    return "\n\n".join([table(columns, lines), origin(ledger, chosen)])


def recall(corpus: str, label: str) -> Figure:
    """Share of a label's utterances that were told to be of it."""

    def figure(cell: Cell) -> float | None:
        told = cell.metrics["corpora"].get(corpus)
        if told is None or label not in told["labels"]:
            return None
        index = told["labels"].index(label)
        n = sum(told["confusion"][index])
        return told["confusion"][index][index] / n if n else None

    return figure


def confusion(
    cells: Sequence[Cell], corpus: str, labels: Sequence[str]
) -> NDArray[np.float64] | None:
    """Shares `(n_labels, n_labels)` of each reference label, reference in rows, all cells pooled.

    `None` without cells of the corpus.
    """
    total = np.zeros((len(labels), len(labels)))
    for cell in cells:
        told = cell.metrics["corpora"].get(corpus)
        if told is not None:
            place = [list(labels).index(label) for label in told["labels"]]
            total[np.ix_(place, place)] += np.array(told["confusion"])
    return total / np.maximum(total.sum(axis=1, keepdims=True), 1) if total.any() else None


def labels_of(cells: Sequence[Cell], corpus: str) -> list[str]:
    """The corpus's labels in the model's order."""
    told = (c.metrics["corpora"][corpus]["labels"] for c in cells if corpus in c.metrics["corpora"])
    return list(dict.fromkeys(label for labels in told for label in labels))


def _with_and_without(
    cells: Sequence[Cell],
    said: dict[int, dict[int, SegmentLogits]],
    corpus: str,
    n_recordings: int,
) -> list[str]:
    """UA, WA and Pure-Acc on one corpus, each without and with a baseline; `said` by seed, fold."""
    found = {
        (cell.seed, cell.fold): _tried(said[cell.seed], cell, corpus, n_recordings)
        for cell in cells
    }

    def figure(place: int) -> Figure:
        return lambda cell: found[cell.seed, cell.fold][place]

    return [spread_percent(spread(cells, figure(place))) for place in range(6)]


def _tried(
    said: dict[int, SegmentLogits], cell: Cell, corpus: str, n_recordings: int
) -> list[float | None]:
    others = [one for fold, one in said.items() if fold != cell.fold]
    neutral = neutral_voice(others) if others and cell.fold in said else None
    if neutral is None or corpus not in cell.metrics["corpora"]:
        return [None] * 6
    among = {name: told["labels"] for name, told in cell.metrics["corpora"].items()}
    found: list[list[float | None]] = []
    for one in with_baseline(said[cell.fold], neutral, n_recordings):
        if corpus not in one.corpus:  # nobody has so many neutral recordings
            return [None] * 6
        decided = decide(one, among)
        own = decided.corpus == corpus
        pairs = zip(decided.reference[own], decided.predicted[own], strict=True)
        told = metrics([Assessed(str(a), str(b), (str(b),)) for a, b in pairs], among[corpus])
        found.append([told["ua"], told["wa"], float(decided.is_pure[own].mean())])
    return [value for pair in zip(*found, strict=True) for value in pair]


def _labels(ledger: Ledger, experiments: Sequence[str], corpus: str) -> list[str]:
    return labels_of([cell for name in experiments for cell in ledger.of(name)], corpus)


def _chosen(ledger: Ledger) -> list[str]:
    """GLRF and the best peer, as the paper's Figure 3 has it."""
    best = best_peer(ledger)
    return [ledger.shipped] if best is None else [ledger.shipped, best]


def _loss(found: Spread | None) -> str:
    if found is None:
        return MISSING
    return points(found.mean) + ("" if found.folds is None else f" ± {percent(found.folds)}")
