"""The paper's tables on open corpora: its peers (Table 2), k (Table 3), ablations (Table 4)."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from model_export.catalogue import ABLATIONS, OURS, PEERS, PLAIN, ROWS, SHIPPED, K, Row, spoken
from model_export.cells import Cell
from model_export.ledger import Ledger
from model_export.margins import METRICS, Margin, Metric, margins
from model_export.markdown import (
    MISSING,
    NONE,
    count,
    listed,
    percent,
    points,
    spread_percent,
    table,
)
from model_export.spread import coverage, metric, spread

_COLUMNS: Final = {"wa": "WA", "ua": "UA", "micro_f1": "micro-F1", "pure_acc": "Pure-Acc"}
#: What pretrained experiments start from.
_START: Final = "model_export/pretrained/glrf-pretraining.pt"
_NOT_COMPARABLE: Final = (
    "The paper's own figures are of IEMOCAP and ST-EMO: other recordings, other splits, **not"
    " comparable** with those above; they stand here for orientation."
)


def peers(ledger: Ledger) -> str:
    """Table 2: each peer by corpus, what it takes, and our margin over it."""
    rows = [OURS, PLAIN, *PEERS]
    blocks = [who_wins(ledger)]
    for corpus in ledger.corpora:
        blocks += [f"### {spoken(corpus)}", scores(ledger, rows, corpus)]
        blocks += [f"The margin of {OURS.name} over each on {corpus}:"]
        blocks += [_margin_table(ledger, OURS, [PLAIN, *PEERS], corpus)]
        blocks += [f"The margin of {PLAIN.name} over each on {corpus}:"]
        blocks += [_margin_table(ledger, PLAIN, PEERS, corpus)]
    blocks += [
        "### What each is",
        table(
            ["", "parameters", "MACs a segment", "input"],
            [[row.name, *_size(ledger, row)] for row in rows],
        ),
        "### What the paper reports",
        _paper(rows),
        _NOT_COMPARABLE,
        origin(ledger, [row.experiment for row in rows]),
    ]
    return "\n\n".join(blocks)


def k(ledger: Ledger) -> str:
    """Table 3: the share of an utterance's segments that are decision-makers."""
    return _with_paper(ledger, list(K.values()), "k (%)")


def ablations(ledger: Ledger) -> str:
    """Table 4: GLRF without each of its parts."""
    return _with_paper(ledger, list(ABLATIONS), "")


def _with_paper(ledger: Ledger, rows: list[Row], head: str) -> str:
    blocks = [f"Of {PLAIN.name} (`{PLAIN.experiment}`), the cheaper of the two to train."]
    others = [row for row in rows if row.experiment != PLAIN.experiment]
    for corpus in ledger.corpora:
        blocks += [f"### {spoken(corpus)}", scores(ledger, rows, corpus, head)]
        blocks += [f"Its margin over each on {corpus}, on the folds that both have:"]
        blocks += [_margin_table(ledger, PLAIN, others, corpus)]
    return "\n\n".join(
        [
            *blocks,
            "### What the paper reports",
            _paper(rows, head),
            _NOT_COMPARABLE,
            origin(ledger, [row.experiment for row in rows]),
        ]
    )


def scores(ledger: Ledger, rows: Sequence[Row], corpus: str, head: str = "") -> str:
    """The paper's metrics on one corpus, a row an experiment, and how many cells it has."""
    lines: list[list[str]] = []
    for row in rows:
        cells = [c for c in ledger.of(row.experiment) if corpus in c.metrics["corpora"]]
        figures = [spread_percent(spread(cells, metric(corpus, name))) for name in _COLUMNS]
        lines.append([row.name, *(figures if cells else [MISSING] * 4), coverage(cells)])
    return table([head, *_COLUMNS.values(), "cells"], lines)


def other(ledger: Ledger) -> str:
    """Experiments that stand in no table before, the one that ships first: no cell is left out."""
    rows = [Row(name, f"`{name}`") for name in sorted(ledger.experiments.keys() - ROWS.keys())]
    if ledger.of(SHIPPED.experiment):
        rows.insert(0, SHIPPED)
    if not rows:
        return "None."
    blocks: list[str] = []
    for corpus in ledger.corpora:
        blocks += [f"### {spoken(corpus)}", scores(ledger, rows, corpus)]
    return "\n\n".join([*blocks, origin(ledger, [row.experiment for row in rows])])


def who_wins(ledger: Ledger) -> str:
    """In words, from the margins: first where a peer wins, last what could not be compared."""
    found: dict[tuple[str, str, Metric], Margin] = {
        (row.name, corpus, name): margin
        for row in PEERS
        for corpus in ledger.corpora
        for name, margin in margins(ledger, OURS.experiment, row.experiment, corpus).items()
    }
    uncompared = [
        f"{row.name} ({', '.join(corpora)})"
        for row in PEERS
        if (corpora := [c for c in ledger.corpora if (row.name, c, "ua") not in found])
    ]
    if not found:
        return "GLRF and its peers have no cells in common yet: nothing can be said of who wins."
    behind = {key: margin for key, margin in found.items() if margin.verdict == "behind"}
    above = {
        key: margin
        for key, margin in found.items()
        if margin.verdict == "undecided" and margin.difference < 0
    }
    n_ahead = sum(margin.verdict == "ahead" for margin in found.values())
    sentences = [
        f"**A peer wins** (the whole interval of the margin of {OURS.name} lies below zero):"
        f" {_margins_text(behind)}."
        if behind
        else "No peer that was compared wins with 95 % confidence in any metric on any corpus.",
        f"{OURS.name} is ahead with that confidence in {n_ahead} of {len(found)} comparisons (a"
        " peer, a corpus, a metric).",
    ]
    if above:
        sentences.append(
            f"**A peer stands above GLRF**, though the interval holds zero: {_margins_text(above)}."
        )
    if uncompared:
        sentences.append(f"Not compared, for want of cells in common: {listed(uncompared)}.")
    return " ".join(sentences)


def _margins_text(found: dict[tuple[str, str, Metric], Margin]) -> str:
    """`AA-CNN on nemo in UA (−1.2, −2.0 to −0.4) and WA (...); ...`, points of our margin."""
    groups: dict[tuple[str, str], list[str]] = {}
    for (name, corpus, of), margin in found.items():
        bounds = "" if math.isnan(margin.low) else f", {_bounds(margin)}"
        text = f"{_COLUMNS[of]} ({points(margin.difference)}{bounds})"
        groups.setdefault((name, corpus), []).append(text)
    return "; ".join(
        f"{name} on {corpus} in {listed(texts)}" for (name, corpus), texts in groups.items()
    )


def origin(ledger: Ledger, experiments: Sequence[str]) -> str:
    """Command, seeds and split of the cells behind a table, a line a group that shares them."""
    return origin_of([cell for name in dict.fromkeys(experiments) for cell in ledger.of(name)])


def origin_of(cells: Sequence[Cell], *, with_conditions: bool = False) -> str:
    """The same of some cells; with the conditions that they were assessed under, if asked."""
    by_name: dict[str, list[Cell]] = {}
    for cell in cells:
        by_name.setdefault(cell.experiment, []).append(cell)
    groups: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for name, own in by_name.items():
        seeds = ",".join(str(seed) for seed in sorted({cell.seed for cell in own}))
        told = dict.fromkeys(c for cell in own for c in cell.conditions if with_conditions)
        groups.setdefault((own[0].split_sha256, seeds, tuple(told)), []).append(name)
    lines = [
        f"Split `{sha256[:12]}`{_file(sha256)}, seeds {seeds}: {listed(names)}.\n\n"
        f"    {command(names, sha256, seeds, conditions)}"
        for (sha256, seeds, conditions), names in groups.items()
    ]
    return "\n\n".join(lines or ["No cell yet."])


def command(
    experiments: Sequence[str], split_sha256: str, seeds: str, conditions: Sequence[str] = ()
) -> str:
    """What makes the experiments' cells; it skips those that are there."""
    loop = f"for name in {' '.join(experiments)}; do " if len(experiments) > 1 else ""
    config = f"model_export/configs/{'$name' if loop else experiments[0]}.toml"
    folds = split_file(split_sha256) or "FOLDS.json"
    configs = [_config(name) for name in experiments]
    teacher = " --teacher embeddings.npz" if any("[distillation]" in c for c in configs) else ""
    start = f" --init {_START}" if any("pretrained = true" in c for c in configs) else ""
    tried = "".join(f" --condition {name}" for name in conditions)
    return (
        f"{loop}glrf crossval --config {config} --manifest m.csv --data DIR --folds {folds}"
        f" --seeds {seeds}{teacher}{start}{tried}{'; done' if loop else ''}"
    )


def _config(experiment: str) -> str:
    """The text of the experiment's config: whether it asks for a teacher, or for a start."""
    config = Path(__file__).parent / f"configs/{experiment}.toml"
    return config.read_text(encoding="utf-8") if config.is_file() else ""


def split_file(sha256: str) -> str | None:
    """The committed file of that hash, from the repository's root."""
    folder = Path(__file__).parent / "splits"
    for path in sorted(folder.glob("*.json")):
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            return f"model_export/splits/{path.name}"
    return None


def _file(sha256: str) -> str:
    name = split_file(sha256)
    return f" (`{name}`)" if name else ""


def _margin_table(ledger: Ledger, ours: Row, rows: Sequence[Row], corpus: str) -> str:
    lines: list[list[str]] = []
    for row in rows:
        found = margins(ledger, ours.experiment, row.experiment, corpus)
        figures = [_margin(found[name]) if name in found else NONE for name in METRICS]
        one = next(iter(found.values()), None)
        drawn = MISSING if one is None else f"{one.n} {one.unit}"
        lines.append([row.name, *figures, drawn])
    return table(["over", "WA = micro-F1", "UA", "Pure-Acc", "drawn"], lines)


def _margin(margin: Margin) -> str:
    if math.isnan(margin.low):
        return f"{points(margin.difference)} (no interval)"
    text = f"{points(margin.difference)} ({_bounds(margin)})"
    return f"**{text}**" if margin.verdict == "behind" else text


def _bounds(margin: Margin) -> str:
    return f"{points(margin.low)} to {points(margin.high)}"


def _size(ledger: Ledger, row: Row) -> list[str]:
    cells = ledger.of(row.experiment)
    if not cells:
        return [MISSING] * 3
    model = cells[0].model
    return [count(model["parameters"]), count(model["macs"]), model["input"]]


def _paper(rows: Sequence[Row], head: str = "") -> str:
    columns = list(dict.fromkeys(column for row in rows for column in row.paper))
    figures = [
        [row.name, *(percent(row.paper[c] / 100) if c in row.paper else NONE for c in columns)]
        for row in rows
        if row.paper
    ]
    return table([head, *columns], figures)
