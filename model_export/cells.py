"""Results of the lab, one cell a (experiment, seed, fold): what every table is made of.

    results/<experiment>/seed-<seed>-fold-<fold>.json    the cell
    results/<experiment>/seed-<seed>-fold-<fold>.npz     the test fold's logits, where there are any

The JSON is written last and in one stroke: a cell that can be read is complete, so that a run
that was stopped can go on with the first that is missing.
"""

import io
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from numpy.typing import NDArray

from model_export.arrays import read_arrays
from ser_core.errors import BadParameter


@dataclass(frozen=True)
class Cell:
    """One experiment trained with one seed and assessed on one fold that it hasn't seen.

    `model` states `parameters`, `macs` (a segment) and `input`. `metrics` is `{"corpora": {name:
    metrics}, "all": metrics}`, each as `model_export.metrics.metrics` gives them. `conditions` is
    `{condition: {corpus: {"ua", "wa", "pure_acc", "n"}}}`, empty where none were tried. `date` is
    ISO 8601, `code` the commit, `duration_s` what training and assessing took. `data_sha256` is of
    all recordings of the folds and their labels and, where there are any, the teacher and the
    weights that the training starts from: the same for each fold. `init_sha256` is of the file of
    those weights, `None` where there are none. Both are "" in cells from before they were told.
    """

    experiment: str
    seed: int
    fold: int
    n_folds: int
    config_sha256: str
    split_sha256: str
    code: str
    date: str
    duration_s: float
    model: dict[str, Any]
    metrics: dict[str, Any]
    conditions: dict[str, Any] = field(default_factory=dict)
    data_sha256: str = ""
    init_sha256: str | None = ""


@dataclass(frozen=True)
class SegmentLogits:
    """What a network said of each segment of a test fold, the segments in order.

    `logits` float16 `(n_segments, n_labels)`; `recording` int32 `(n_segments,)`, index into the
    others; `paths`, `reference`, `corpus`, `speaker` str `(n_recordings,)`; `labels` str
    `(n_labels,)`.
    """

    logits: NDArray[np.float16]
    recording: NDArray[np.int32]
    paths: NDArray[np.str_]
    reference: NDArray[np.str_]
    corpus: NDArray[np.str_]
    speaker: NDArray[np.str_]
    labels: NDArray[np.str_]

    def __post_init__(self) -> None:
        n_recordings = len(self.paths)
        n_segments, n_labels = self.logits.shape
        if not (
            len(self.recording) == n_segments
            and len(self.labels) == n_labels
            and all(len(x) == n_recordings for x in (self.reference, self.corpus, self.speaker))
            and np.all((self.recording >= 0) & (self.recording < n_recordings))
        ):
            raise ValueError("logits, recordings and labels do not belong together")


def cell_path(results: Path, experiment: str, seed: int, fold: int) -> Path:
    """Where the cell's JSON lies; it exists once the cell is done."""
    return results / experiment / f"seed-{seed}-fold-{fold}.json"


def write_cell(results: Path, cell: Cell, logits: SegmentLogits | None = None) -> Path:
    """Writes the cell, with its logits if there are any, below `results`; returns the JSON's path.

    An older cell of the same experiment, seed and fold is replaced, with its logits.
    """
    path = cell_path(results, cell.experiment, cell.seed, cell.fold)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if logits is None:
        path.with_suffix(".npz").unlink(missing_ok=True)
    else:
        arrays = {one.name: getattr(logits, one.name) for one in fields(SegmentLogits)}
        arrays["logits"] = logits.logits.astype(np.float16)
        arrays["recording"] = logits.recording.astype(np.int32)
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        _replace(path.with_suffix(".npz"), packed.getvalue())
    _replace(path, (json.dumps(asdict(cell), indent=1) + "\n").encode())
    return path


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def read_cells(results: Path, experiment: str | None = None) -> list[Cell]:
    """All cells below `results`, or those of one experiment, by experiment, seed and fold.

    None is an empty list. Raises `BadParameter`, naming the file, for one that isn't a cell.
    """
    paths = results.glob(f"{experiment or '*'}/seed-*-fold-*.json")
    cells = [_read_cell(path) for path in paths]
    return sorted(cells, key=lambda cell: (cell.experiment, cell.seed, cell.fold))


def _read_cell(path: Path) -> Cell:
    remedy = "delete the file and run its experiment again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cell = Cell(**content)
    except (ValueError, TypeError, OSError) as error:
        raise BadParameter(f"{path} is not a result: {error}", remedy=remedy) from error
    for name, kind in get_type_hints(Cell).items():
        value = getattr(cell, name)
        expected = {float: (int, float), dict[str, Any]: dict}.get(kind, kind)
        if not isinstance(value, expected):
            raise BadParameter(f"{path}: {name} is {value!r}", remedy=remedy)
    if path != cell_path(path.parents[1], cell.experiment, cell.seed, cell.fold):
        raise BadParameter(
            f"{path} holds the result of {cell.experiment}, seed {cell.seed}, fold {cell.fold}",
            remedy=remedy,
        )
    return cell


def load_logits(results: Path, cell: Cell) -> SegmentLogits | None:
    """The cell's logits; none where it has no such file (support vector machines have none).

    Raises `BadParameter`, naming the file, for one that cannot be read.
    """
    path = cell_path(results, cell.experiment, cell.seed, cell.fold).with_suffix(".npz")
    if not path.is_file():
        return None
    try:
        return SegmentLogits(*read_arrays(path, *(one.name for one in fields(SegmentLogits))))
    except (ValueError, OSError) as error:
        raise BadParameter(
            f"{path} does not hold logits: {error}",
            remedy="delete the cell and run its experiment again",
        ) from error
