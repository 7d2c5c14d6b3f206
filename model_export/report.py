"""`RESULTS.md`: every table of the lab with its command, seeds and split, and the figures.

Each figure, and each sentence that holds a result, is made from the cells; the same cells give the
same bytes. What the page says of budgets is of the experiments that the repository comes with.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model_export import breakdowns, figures, stability, tables
from model_export.catalogue import OURS, PEERS, ROWS, shown
from model_export.cells import cell_path
from model_export.ledger import Ledger, digest, read_ledger
from model_export.markdown import MISSING, count, table
from model_export.spread import coverage

_HEAD: Final = """\
# Results

<!-- Written by `glrf report` from the cells of model_export/results. Don't edit. -->
<!-- cells: {digest} -->

Every figure here comes from a result cell: one experiment, trained with one seed, assessed on one
fold that it hasn't seen. WA, UA, micro-F1, Pure-Acc and recalls are percent of the test fold's
utterances, decided by the plain mean of the segments' scores (paper, Section 3.2). **Mean ± sample
standard deviation over folds**; in brackets the deviation over seeds, where there are several. An
experiment without all its cells says so (`3 of 5 folds`) and its mean is of those alone: compare
means only where both have all; margins are always of the folds that both have. A margin is the
figure of the GLRF that the table names less the other's, in points, with its 95 % interval: paired
bootstrap over speakers, or over folds where one of the two has no logits (the column says which);
10,000 draws, fixed seed, seeds averaged first. It speaks of other speakers of these corpora, and
not of another training's luck; of a handful of folds or speakers it comes out too narrow; and it
isn't widened for the number of comparisons. A margin in bold: the other wins. Micro-F1 equals WA
where each utterance gets one label.

Networks' margins pool the utterances of all speakers, each as often as it was said, so they may
differ from the differences of the tables' means over folds by a point or two.

**GLRF stands here twice.** The paper's stem is a convolution over time with the MFCC for channels
(Section 2.1): that is its network, and k and the ablations are of it. *Our stem* looks along the
mel bands too, departs from the paper (ADR 2) and is what ships; what it gains is no merit of the
paper's.

In the tables of peers, k and ablations all networks learn for 16 epochs from the same draws and
augmentation, in frames of 40 ms (DRN-MHSA: 10 ms). GLRF's batches of 16 at 4e-3 are from a search
on these corpora (`LOG.md`); its peers have batches of 32 at what their publications suggest
and no search, so half the steps, and fewer epochs than were published (50 to 300). k = 100 is BCE
over all segments, its labels smoothed as the others' are. What is distilled learned for longer (20
epochs, `glrf-distilled` 32) and from a teacher, what is pretrained from other voices before; both
are compared with no peer. {missing} is what has no cell yet; – is what there cannot be."""


@dataclass(frozen=True)
class _Section:
    """`figure` is the name of the picture that goes with the text, if any."""

    title: str
    text: Callable[[Ledger], str]
    figure: tuple[str, ...] = ()


_SECTIONS: Final = (
    _Section("Peers (the paper's Table 2)", tables.peers, ("confusion", "pure-accuracy")),
    _Section("k (the paper's Table 3)", tables.k, ("k",)),
    _Section("Ablations (the paper's Table 4)", tables.ablations),
    _Section("Conditions", breakdowns.conditions, ("conditions",)),
    _Section("Calibration", breakdowns.calibration, ("reliability",)),
    _Section("Emotions", breakdowns.recalls),
    _Section("Speakers", breakdowns.speakers),
    _Section("Stability", stability.stability),
    _Section("Relative to a speaker's neutral voice", breakdowns.baseline),
    _Section("Other experiments", tables.other),
)


@dataclass(frozen=True)
class Written:
    """What a report was made of, and the figures that stand beside it."""

    path: Path
    n_cells: int
    n_experiments: int
    figures: tuple[str, ...]


def write_report(results: Path, out: Path) -> Written:
    """Writes `out` and `figures/*.svg` beside it from the cells below `results`.

    Raises `BadParameter`, naming the file, for cells that cannot be used or don't belong together.
    """
    ledger = read_ledger(results)
    pictures = figures.draw(ledger, out.parent / "figures")
    text = render(ledger, pictures)
    unfinished = out.with_name(out.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(out)
    n_cells = sum(len(cells) for cells in ledger.experiments.values())
    return Written(out, n_cells, len(ledger.experiments), tuple(p.file for p in pictures.values()))


def render(ledger: Ledger, pictures: dict[str, figures.Picture]) -> str:
    """The whole page."""
    cells = [cell for cells in ledger.experiments.values() for cell in cells]
    paths = [cell_path(ledger.folder, cell.experiment, cell.seed, cell.fold) for cell in cells]
    blocks = [_HEAD.format(digest=digest(paths), missing=MISSING), *_known_voices(ledger)]
    blocks.append(_contents())
    for section in (*_SECTIONS, _Section("What was run", _runs)):
        blocks += [f"## {section.title}"]
        if not cells:
            blocks.append("No cell yet.")
            continue
        blocks.append(section.text(ledger))
        for name in section.figure:
            if name in pictures:
                one = pictures[name]
                blocks.append(f"![{one.caption}](figures/{one.file})\n\n*{one.caption}.*")
            else:
                blocks.append(f"{MISSING}: the figure `{name}`, for want of cells.")
    return "\n\n".join(blocks) + "\n"


def _known_voices(ledger: Ledger) -> list[str]:
    """What to know of experiments that were not tested on new speakers, if there are any."""
    names = [f"`{name}`" for name in sorted(ledger.experiments) if ledger.shares_speakers(name)]
    if not names:
        return []
    return [
        f"**Not speaker-disjoint**: {', '.join(names)}. Their folds share speakers, so voices of"
        " the test were learned from, and their figures read higher than what new speakers get:"
        " compare them with nothing else here."
    ]


def _contents() -> str:
    titles = [section.title for section in _SECTIONS] + ["What was run"]
    return "\n".join(f"- [{title}](#{_anchor(title)})" for title in titles)


def _anchor(title: str) -> str:
    """As GitHub makes it: lower case, words with hyphens, other signs dropped."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _runs(ledger: Ledger) -> str:
    """Each experiment's cells, what they cost, and what they were made from."""
    columns = [
        "experiment", "name", "config", "split", "code", "from", "to", "cells", "seeds",
        "hours a cell", "parameters", "MACs",
    ]  # fmt: skip
    known = list(dict.fromkeys([OURS.experiment, *(row.experiment for row in PEERS), *ROWS]))
    lines: list[list[str]] = []
    for name in [*known, *sorted(ledger.experiments.keys() - set(known))]:
        cells = ledger.of(name)
        if not cells:
            lines.append([f"`{name}`", shown(name), *[MISSING] * 6, *["–"] * 4])
            continue
        dates = sorted(cell.date[:10] for cell in cells)
        codes = sorted({cell.code for cell in cells})
        hours = sum(cell.duration_s for cell in cells) / len(cells) / 3600
        lines.append(
            [
                f"`{name}`",
                shown(name),
                f"`{cells[0].config_sha256[:8]}`",
                f"`{cells[0].split_sha256[:8]}`",
                ", ".join(codes),
                dates[0],
                dates[-1],
                coverage(cells),
                ", ".join(str(seed) for seed in sorted({cell.seed for cell in cells})),
                f"{hours:.2f}",
                count(cells[0].model["parameters"]),
                count(cells[0].model["macs"]),
            ]
        )
    note = (
        "Where a row names several commits, its cells were made with several: they share config"
        " and split, not necessarily every line of code."
    )
    return f"{table(columns, lines, 8)}\n\n{note}"
