"""The report's figures, as SVG: the same cells give the same bytes.

Each stands on its own light ground, so that it reads on a light page and on a dark one, and tells
its series apart by marker, dash or hatching besides colour (palette of Okabe and Ito, 2008, less
the hues that are too light for lines on white).
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from model_export.breakdowns import CLEAN, clean, conditions_of, confusion, labels_of, under
from model_export.calibration import pooled, unseen_reliability
from model_export.catalogue import OURS, PEERS, K, shown
from model_export.cells import Cell
from model_export.ledger import Ledger
from model_export.margins import best_peer
from model_export.markdown import listed
from model_export.spread import Spread, metric, spread

COLOURS: Final = ("#0072b2", "#d55e00", "#00795a", "#a2457f", "#4d4d4d", "#6b5b00")
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
HATCHES: Final = ("", "///", "...", "xxx", "\\\\\\", "+++")
GROUND: Final = "#ffffff"
INK: Final = "#1f2328"
_RC: Final[dict[Any, Any]] = {
    "svg.hashsalt": "glrf",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "figure.facecolor": GROUND,
    "savefig.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    **{f"axes.{part}color": INK for part in ("edge", "label", "title")},
}
#: A noise condition is named by what disturbs and how loud: `car-10db`.
_NOISE: Final = re.compile(r"(?P<kind>.+?)[-_](?P<snr_db>-?\d+(?:\.\d+)?)[-_]?db", re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """A figure that could be drawn: its file's name, and what it shows in a sentence."""

    file: str
    caption: str


def draw(ledger: Ledger, folder: Path) -> dict[str, Picture]:
    """Draws what the cells allow into `folder`, by the figure's name.

    A file of an earlier report whose cells are gone is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, Picture] = {}
    for name, painter in _PAINTERS.items():
        path = folder / f"{name}.svg"
        path.unlink(missing_ok=True)
        with style():
            painted = painter(ledger)
            if painted is None:
                continue
            figure, caption = painted
            write(figure, path, caption)
        pictures[name] = Picture(path.name, caption)
    return pictures


def style() -> AbstractContextManager[None]:
    """What every figure is drawn under."""
    return mpl.rc_context(_RC)


def write(figure: Figure, path: Path, title: str) -> None:
    """Saves the SVG without a date or a version; `title` is what a screen reader says."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None, "Title": title})


def ink_on(ground: tuple[float, float, float]) -> str:
    """Black or white, whichever stands out more from sRGB `ground` (WCAG 2.1, 1.4.3)."""
    luminance = relative_luminance(ground)
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


def relative_luminance(colour: tuple[float, float, float]) -> float:
    """Of sRGB 0..1 (WCAG 2.1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def _confusion(ledger: Ledger) -> tuple[Figure, str] | None:
    best = best_peer(ledger)
    chosen = [name for name in (OURS.experiment, best) if name and ledger.of(name)]
    shares = {
        (corpus, name): found
        for corpus in ledger.corpora
        for name in chosen
        if (found := confusion(ledger.of(name), corpus, _labels(ledger, corpus))) is not None
    }
    if not shares:
        return None
    n_rows, n_columns = len(ledger.corpora), len(chosen)
    figure, axes = _panels(n_rows, n_columns, 3.6 * n_columns + 0.6, 3.3 * n_rows + 0.3)
    for row, corpus in enumerate(ledger.corpora):
        for column, name in enumerate(chosen):
            axis = axes[row][column]
            if (corpus, name) in shares:
                _heat(axis, 100 * shares[corpus, name], _labels(ledger, corpus))
                axis.set_title(f"{shown(name)} on {corpus}")
            else:
                axis.set_axis_off()
    names = listed([shown(name) for name in chosen])
    return figure, f"Confusion of {names}: percent of each reference label (rows), all cells pooled"


def _heat(axis: Axes, percent: Any, labels: Sequence[str]) -> None:
    image = axis.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    for row, column in np.ndindex(percent.shape):
        value = percent[row, column]
        red, green, blue, _ = image.cmap(float(value) / 100)
        ink = ink_on((red, green, blue))
        axis.text(column, row, f"{value:.0f}", ha="center", va="center", color=ink)
    ticks = range(len(labels))
    axis.set_xticks(ticks, labels, rotation=30, ha="right")
    axis.set_yticks(ticks, labels)
    axis.set_xlabel("predicted")
    axis.set_ylabel("reference")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def _pure_accuracy(ledger: Ledger) -> tuple[Figure, str] | None:
    rows = [row for row in (OURS, *PEERS) if ledger.of(row.experiment)]
    found = {
        (row.experiment, corpus): one
        for row in rows
        for corpus in ledger.corpora
        if (one := spread(ledger.of(row.experiment), metric(corpus, "pure_acc")))
    }
    rows = [row for row in rows if any(name == row.experiment for name, _ in found)]
    if not found:
        return None
    figure, axes = _panels(1, 1, max(5.0, 1.2 + 1.1 * len(rows)), 3.4)
    axis = axes[0][0]
    width = 0.8 / len(ledger.corpora)
    for i, corpus in enumerate(ledger.corpora):
        for j, row in enumerate(rows):
            one = found.get((row.experiment, corpus))
            if one is None:
                continue
            x = j + (i - (len(ledger.corpora) - 1) / 2) * width
            axis.bar(
                x, 100 * one.mean, width * 0.92,
                color=COLOURS[i % len(COLOURS)], hatch=HATCHES[i % len(HATCHES)], edgecolor=GROUND,
                yerr=None if one.folds is None else 100 * one.folds, ecolor=INK, capsize=2,
                label=corpus if j == 0 else None,
            )  # fmt: skip
            axis.text(x, 1, f"{100 * one.mean:.0f}", ha="center", color=GROUND, fontsize=8,
                      bbox={"facecolor": INK, "edgecolor": "none", "pad": 1.2})  # fmt: skip
    axis.set_xticks(range(len(rows)), [row.name for row in rows], rotation=20, ha="right")
    _percent_axis(axis, "Pure-Acc (%)")
    _legend(axis)
    return figure, "Pure-Acc by corpus; bars are means over folds, whiskers one deviation"


def _k_curve(ledger: Ledger) -> tuple[Figure, str] | None:
    found = {k: ledger.of(row.experiment) for k, row in K.items() if ledger.of(row.experiment)}
    if len(found) < 2:
        return None
    figure, axes = _panels(1, 2, 8.4, 3.3)
    for axis, (name, title) in zip(axes[0], (("ua", "UA"), ("pure_acc", "Pure-Acc")), strict=True):
        for i, corpus in enumerate(ledger.corpora):
            points = {
                k: s for k, cells in found.items() if (s := spread(cells, metric(corpus, name)))
            }
            _line(axis, points, i, corpus)
        axis.set_title(title)
        axis.set_xticks(list(K))
        axis.set_xlabel("k (%)")
        _percent_axis(axis, f"{title} (%)", from_zero=False)
    _legend(axes[0][-1])
    absent = [str(k) for k in K if k not in found]
    without = f"; missing: k = {', '.join(absent)}" if absent else ""
    return figure, f"GLRF by k, mean over folds and one deviation{without}"


def _conditions(ledger: Ledger) -> tuple[Figure, str] | None:
    cells = [cell for cell in ledger.of(ledger.shipped) if cell.conditions]
    names = conditions_of(cells)
    if not names:
        return None
    noises = {name: match for name in names if (match := _NOISE.fullmatch(name))}
    lines = [name for name in names if name not in noises]
    figure, axes = _panels(1, 2, 9.6, 3.6)
    by_snr, by_line = axes[0]
    for i, corpus in enumerate(ledger.corpora):
        _against_snr(by_snr, cells, noises, i, corpus)
        rows = [CLEAN, *lines]
        values = [clean(corpus), *(under(name, corpus) for name in lines)]
        for y, of in enumerate(values):
            one = spread(cells, of)
            if one is not None:
                by_line.errorbar(
                    100 * one.mean, y + 0.12 * i, xerr=100 * (one.folds or 0),
                    color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], capsize=2,
                    label=corpus if y == 0 else None, linestyle="none",
                )  # fmt: skip
        by_line.set_yticks(range(len(rows)), rows)
    by_line.set_ylim(len(lines) + 0.6, -0.6)
    by_line.set_xlabel("UA (%)")
    by_line.set_title("Line and codec")
    by_line.grid(axis="x", color="#d8dee4", linewidth=0.8)
    by_line.set_axisbelow(True)
    by_snr.set_xlabel("SNR (dB)")
    by_snr.set_title("Noise")
    _percent_axis(by_snr, "UA (%)", from_zero=False)
    _legend(by_snr if noises else by_line)
    name = shown(ledger.shipped)
    return figure, f"{name}: UA by noise level and by codec, mean over folds and one deviation"


def _reliability(ledger: Ledger) -> tuple[Figure, str] | None:
    cells = ledger.of(ledger.shipped)
    found = {
        (corpus, calibrated): pooled(parts)
        for corpus in ledger.corpora
        for calibrated in (False, True)
        if (parts := unseen_reliability(ledger, cells, corpus, calibrated=calibrated))
    }
    if not found:
        return None
    figure, axes = _panels(1, 2, 8.4, 3.6)
    for axis, calibrated in zip(axes[0], (False, True), strict=True):
        axis.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle=":")
        for i, corpus in enumerate(ledger.corpora):
            one = found.get((corpus, calibrated))
            if one is not None:
                axis.plot(
                    100 * one.score, 100 * one.right, color=COLOURS[i % len(COLOURS)],
                    marker=MARKERS[i % len(MARKERS)], markersize=4,
                    label=f"{corpus}, ECE {one.ece:.3f}",
                )  # fmt: skip
        axis.set_title("Calibrated" if calibrated else "As trained")
        axis.set_xlabel("score (%)")
        axis.set_xlim(0, 100)
        _percent_axis(axis, "right (%)")
        axis.legend(loc="upper left", fontsize=9)
    return figure, (
        "How often a one-vs-rest score is right, on speakers unknown to both fits, folds together"
    )


def _against_snr(
    axis: Axes, cells: list[Cell], noises: dict[str, re.Match[str]], i: int, corpus: str
) -> None:
    for j, kind in enumerate(dict.fromkeys(match["kind"] for match in noises.values())):
        points = {
            float(match["snr_db"]): one
            for name, match in noises.items()
            if match["kind"] == kind and (one := spread(cells, under(name, corpus)))
        }
        _line(axis, points, i, f"{corpus}, {kind}", dash=("-", "--", ":", "-.")[j % 4])
    one = spread(cells, clean(corpus))
    if one is not None and noises:
        axis.axhline(
            100 * one.mean, color=COLOURS[i % len(COLOURS)], linewidth=0.9,
            linestyle=(0, (6, 2, 1, 2, 1 + i, 2)), label=f"{corpus}, clean",
        )  # fmt: skip


def _line(
    axis: Axes, points: dict[Any, Spread], i: int, label: str, *, dash: str | None = None
) -> None:
    at = sorted(points)
    if at:
        axis.errorbar(
            at, [100 * points[x].mean for x in at], yerr=[100 * (points[x].folds or 0) for x in at],
            color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], capsize=2,
            linestyle=dash or ("-", "--", ":", "-.")[i % 4], label=label,
        )  # fmt: skip


def _panels(
    n_rows: int, n_columns: int, width: float, height: float
) -> tuple[Figure, list[list[Axes]]]:
    """A figure without pyplot, which keeps a global list of them; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(n_rows, n_columns, squeeze=False).tolist()


def _percent_axis(axis: Axes, label: str, *, from_zero: bool = True) -> None:
    axis.set_ylabel(label)
    if from_zero:
        axis.set_ylim(0, 100)
    axis.grid(axis="y", color="#d8dee4", linewidth=0.8)
    axis.set_axisbelow(True)


def _legend(axis: Axes) -> None:
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)


def _labels(ledger: Ledger, corpus: str) -> list[str]:
    return labels_of([cell for cells in ledger.experiments.values() for cell in cells], corpus)


_PAINTERS: Final[dict[str, Callable[[Ledger], tuple[Figure, str] | None]]] = {
    "confusion": _confusion,
    "pure-accuracy": _pure_accuracy,
    "k": _k_curve,
    "conditions": _conditions,
    "reliability": _reliability,
}
