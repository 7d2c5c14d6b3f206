"""How figures are set in the report: percent, spread, margins, tables."""

from collections.abc import Iterable, Sequence
from typing import Final

from model_export.spread import Spread

#: What stands where there is nothing to say; a cell that should be there is called missing.
NONE: Final = "–"
MISSING: Final = "*missing*"


def percent(value: float | None) -> str:
    """0..1 as percent with one decimal."""
    return NONE if value is None else f"{100 * value:.1f}".replace("-", "−")


def points(value: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "−")


def spread_percent(found: Spread | None) -> str:
    """`71.2 ± 2.1`, deviation over folds; `(seeds 0.4)` where there are several."""
    if found is None:
        return NONE
    text = percent(found.mean)
    if found.folds is not None:
        text += f" ± {percent(found.folds)}"
    if found.seeds is not None:
        text += f" (seeds {percent(found.seeds)})"
    return text


def count(value: int | None) -> str:
    """102,400 as `102 k`, 3,100,000 as `3.1 M`."""
    if value is None:
        return NONE
    for size, sign in ((1_000_000, " M"), (1_000, " k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.1f}{sign}" if scaled < 10 else f"{scaled:.0f}{sign}"
    return str(value)


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], n_texts: int = 1) -> str:
    """A Markdown table; the first `n_texts` columns are texts, the others figures."""
    lines = [
        [_cell(column) for column in columns],
        ["---" if i < n_texts else "---:" for i in range(len(columns))],
        *([_cell(value) for value in row] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
