"""The ledger of the lab: all cells of a folder, checked to belong together."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, TypeAdapter, ValidationError

from model_export.catalogue import OURS, SHIPPED
from model_export.cells import Cell, SegmentLogits, cell_path, load_logits, read_cells
from model_export.decisions import Decisions, decide
from model_export.spread import corpora_of
from ser_core.errors import BadParameter

#: Logits are kept as float16, so a decision at the brink may turn; more than this is another model.
_MAX_TURNED: Final = 0.01


class _Metrics(BaseModel):
    wa: float
    ua: float
    micro_f1: float
    pure_acc: float | None = None
    n: int
    labels: list[str]
    confusion: list[list[int]]


class _Condition(BaseModel):
    ua: float
    n: int


class _Model(BaseModel):
    parameters: int | None
    macs: int | None
    input: str


_METRICS: Final = TypeAdapter(dict[str, _Metrics])
_CONDITIONS: Final = TypeAdapter(dict[str, dict[str, _Condition]])
_MODEL: Final = TypeAdapter(_Model)


@dataclass(frozen=True)
class Ledger:
    """Cells by experiment, each experiment's of one config, split and manifest."""

    folder: Path
    experiments: dict[str, list[Cell]]
    _decided: dict[tuple[str, int, int], Decisions | None] = field(
        default_factory=dict, repr=False, compare=False
    )

    def of(self, experiment: str) -> list[Cell]:
        """The experiment's cells by seed and fold; none is an empty list."""
        return self.experiments.get(experiment, [])

    @property
    def corpora(self) -> list[str]:
        return corpora_of([cell for cells in self.experiments.values() for cell in cells])

    @property
    def shipped(self) -> str:
        """The experiment that ships, or before it has cells that of the tables."""
        return (SHIPPED if self.of(SHIPPED.experiment) else OURS).experiment

    def shares_speakers(self, experiment: str) -> bool:
        """Whether two folds test the same voice: each has then learned it from the other's part.

        False where no fold has logits, which name the speakers.
        """
        fold_of: dict[tuple[str, str], int] = {}
        for cell in self.of(experiment):
            said = self.logits(cell)
            if said is not None:
                for corpus, speaker in zip(said.corpus, said.speaker, strict=True):
                    if fold_of.setdefault((str(corpus), str(speaker)), cell.fold) != cell.fold:
                        return True
        return False

    def decisions(self, cell: Cell) -> Decisions | None:
        """What the cell's logits decide; `None` where there are none.

        Raises `BadParameter` when they do not give the cell's own metrics.
        """
        key = (cell.experiment, cell.seed, cell.fold)
        if key not in self._decided:
            self._decided[key] = self._decide(cell)
        return self._decided[key]

    def logits(self, cell: Cell) -> SegmentLogits | None:
        """What the cell's network said of each segment; `None` where it has no logits."""
        return load_logits(self.folder, cell)

    def _decide(self, cell: Cell) -> Decisions | None:
        said = self.logits(cell)
        if said is None:
            return None
        remedy = "delete the cell and run its experiment again"
        path = cell_path(self.folder, cell.experiment, cell.seed, cell.fold).with_suffix(".npz")
        corpora = cell.metrics["corpora"]
        if {str(name) for name in said.corpus} != set(corpora):
            raise BadParameter(f"{path} is of other corpora than its cell", remedy=remedy)
        decided = decide(said, {name: corpora[name]["labels"] for name in corpora})
        for name, told in corpora.items():
            right = (decided.predicted == decided.reference)[decided.corpus == name]
            turned = abs(float(right.sum()) - told["wa"] * told["n"])
            if len(right) != told["n"] or turned > max(2, _MAX_TURNED * told["n"]):
                raise BadParameter(
                    f"{path} gives WA {right.mean():.3f} of {len(right)} on {name}, its cell"
                    f" {told['wa']:.3f} of {told['n']}",
                    remedy=remedy,
                )
        return decided


def read_ledger(folder: Path) -> Ledger:
    """Reads every cell below `folder`.

    Raises `BadParameter` for a cell that cannot be used, and for an experiment whose cells come
    from two configs, splits or manifests: their mean would be of nothing.
    """
    if not folder.is_dir():
        raise BadParameter(
            f"results folder {folder} does not exist", remedy="run glrf crossval first"
        )
    experiments: dict[str, list[Cell]] = {}
    for cell in read_cells(folder):
        _check(folder, cell)
        experiments.setdefault(cell.experiment, []).append(cell)
    for name, cells in experiments.items():
        for what in ("config_sha256", "split_sha256", "n_folds", "data_sha256"):
            found = sorted({str(getattr(cell, what))[:8] for cell in cells} - {""})  # unknown
            if len(found) > 1:
                raise BadParameter(
                    f"the cells of {name} differ in {what}: {', '.join(found)}",
                    remedy="delete the older ones, or give the new config another name",
                )
    return Ledger(folder, experiments)


def digest(cells: Iterable[Path]) -> str:
    """sha256 over the names and contents of cells' JSON files, in any order of theirs."""
    total = hashlib.sha256()
    for path in sorted(cells, key=lambda path: path.parts[-2:]):
        own = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.parent.name}/{path.name} {own}\n".encode())
    return total.hexdigest()


def _check(folder: Path, cell: Cell) -> None:
    try:
        _METRICS.validate_python(cell.metrics.get("corpora"))
        _CONDITIONS.validate_python(cell.conditions)
        _MODEL.validate_python(cell.model)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadParameter(
            f"{cell_path(folder, cell.experiment, cell.seed, cell.fold)}: {where}: {first['msg']}",
            remedy="delete the file and run its experiment again",
        ) from error
