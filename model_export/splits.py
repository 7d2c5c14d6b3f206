"""Who is learned from and who is tested on, fixed in a committed file.

A `Split` names the speakers of train, dev and test once; `Folds` divide a manifest for
cross-validation, each part being the test of one fold. `model_export.protocols` makes them.
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from model_export.corpora import Recording
from ser_core.errors import BadParameter

Subset = Literal["train", "dev", "test"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)
By = Literal["speaker", "recording"]
#: Corpus and the name of a speaker, or of a recording (`Recording.name`).
Unit = tuple[str, str]
Document = TypeVar("Document")


@dataclass(frozen=True)
class Split:
    """Speakers of each subset; `sha256` of the file goes into every result."""

    speakers: dict[Subset, frozenset[tuple[str, str]]]
    sha256: str

    def select(self, recordings: list[Recording], subset: Subset) -> list[Recording]:
        """The recordings whose speaker is in `subset`, in order."""
        return [r for r in recordings if r.speaker_key in self.speakers[subset]]

    def check_heard(self, recordings: list[Recording], *subsets: Subset) -> None:
        """Raises `BadParameter` when a speaker of these subsets has no recording."""
        known = {recording.speaker_key for recording in recordings}
        for subset in subsets:
            missing = sorted(self.speakers[subset] - known)
            if missing:
                names = ", ".join(f"{corpus} {speaker}" for corpus, speaker in missing[:8])
                raise BadParameter(
                    f"{len(missing)} speakers of {subset} are not in the manifest: {names}",
                    remedy="take them out of the split, or give the manifest that has them",
                )


def check_subset(name: str) -> Subset:
    """The subset of that name; raises `BadParameter`."""
    for subset in SUBSETS:
        if name == subset:
            return subset
    raise BadParameter(f"unknown subset {name!r}", remedy=f"use one of {', '.join(SUBSETS)}")


class SplitFile(BaseModel):
    """What stands in a file of a split: the speakers of each subset, by corpus."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: dict[str, list[str]]
    dev: dict[str, list[str]]
    test: dict[str, list[str]]


def read_split(path: Path) -> Split:
    """Reads `{"train": {corpus: [speaker, ...]}, "dev": ..., "test": ...}`.

    Raises `BadParameter` when the file is not of that shape, lacks a subset, or has a speaker in
    two of them.
    """
    remedy = (
        'write {"train": {"corpus": ["speaker"]}, "dev": {}, "test": {}},'
        " as glrf corpus split --protocol train-dev-test does"
    )
    document, sha256 = _read(path, TypeAdapter(SplitFile), remedy)
    speakers: dict[Subset, frozenset[tuple[str, str]]] = {
        subset: frozenset(units(getattr(document, subset))) for subset in SUBSETS
    }
    for subset in SUBSETS:
        for other in SUBSETS:
            shared = speakers[subset] & speakers[other]
            if subset != other and shared:
                raise BadParameter(
                    f"{path}: {sorted(shared)} stand in {subset} and in {other}",
                    remedy="a speaker belongs to one subset",
                )
    return Split(speakers, sha256)


class FoldsFile(BaseModel):
    """What stands in a file of folds: how it was made, and the test part of each fold.

    `by` says what the parts list, by corpus: speakers, or recordings by their `name`. `train` is
    what no fold tests. Fold i tests `folds[i]` and is trained on everything else in the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: str
    seed: int | None = None
    by: By
    train: dict[str, list[str]] = Field(default_factory=dict)
    folds: list[dict[str, list[str]]] = Field(min_length=1)


@dataclass(frozen=True)
class Folds:
    """The parts of a cross-validation; `sha256` of their file goes into every result."""

    protocol: str
    by: By
    test: tuple[frozenset[Unit], ...]
    always_train: frozenset[Unit]
    sha256: str

    @property
    def n_folds(self) -> int:
        return len(self.test)

    @property
    def is_speaker_disjoint(self) -> bool:
        """Whether no fold tests a voice that it has learned from."""
        return self.by == "speaker"

    def select(
        self, recordings: list[Recording], fold: int
    ) -> tuple[list[Recording], list[Recording]]:
        """Train and test recordings of a fold (0-based), in order.

        Recordings that the file does not know have no part in it (`others`): trained on in every
        fold, they would not be seen by whoever compares results. Raises `BadParameter` for a fold
        that is not there, or a part that stays empty.
        """
        if not 0 <= fold < self.n_folds:
            raise BadParameter(
                f"there is no fold {fold}", remedy=f"the file has 0 to {self.n_folds - 1}"
            )
        known = self._known()
        train: list[Recording] = []
        test: list[Recording] = []
        for recording in recordings:
            unit = unit_of(recording, self.by)
            if unit in known:
                (test if unit in self.test[fold] else train).append(recording)
        if not train or not test:
            raise BadParameter(
                f"fold {fold} has no recordings to {'test on' if train else 'learn from'}",
                remedy="give the manifest that the folds were made from",
            )
        return train, test

    def others(self, recordings: list[Recording]) -> list[Unit]:
        """The speakers, or recordings, that the file does not know."""
        return sorted({unit_of(recording, self.by) for recording in recordings} - self._known())

    def missing(self, recordings: list[Recording]) -> list[Unit]:
        """The speakers, or recordings, that the file has and these do not."""
        return sorted(self._known() - {unit_of(recording, self.by) for recording in recordings})

    def _known(self) -> frozenset[Unit]:
        return self.always_train.union(*self.test)


def read_folds(path: Path) -> Folds:
    """Reads what `write_division` wrote.

    Raises `BadParameter` when the file is of another shape, or has a speaker or recording twice.
    """
    remedy = (
        'write {"protocol": "mine", "by": "speaker", "folds": [{"corpus": ["speaker"]}]},'
        " as glrf corpus split does"
    )
    document, sha256 = _read(path, TypeAdapter(FoldsFile), remedy)
    parts = [units(document.train), *(units(part) for part in document.folds)]
    times = Counter(unit for part in parts for unit in part)
    repeated = sorted(unit for unit, n in times.items() if n > 1)
    if repeated:
        raise BadParameter(
            f"{path}: {repeated[:10]} stand there more than once",
            remedy=f"a {document.by} belongs to one fold",
        )
    always_train, *test = (frozenset(part) for part in parts)
    if not all(test):
        raise BadParameter(f"{path} has an empty fold", remedy="leave it out")
    return Folds(document.protocol, document.by, tuple(test), always_train, sha256)


def write_division(document: SplitFile | FoldsFile, path: Path) -> None:
    """Writes the file; the same division is the same bytes, and so has the same `sha256`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document.model_dump_json(indent=1) + "\n", encoding="utf-8")


def units(part: dict[str, list[str]]) -> list[Unit]:
    """What a part of a file of folds lists, in its order."""
    return [(corpus, name) for corpus, names in part.items() for name in names]


def unit_of(recording: Recording, by: By) -> Unit:
    """What stands for a recording there. Raises `BadParameter` where it has no `name`."""
    if by == "speaker":
        return recording.speaker_key
    if not recording.name:
        raise BadParameter(
            f"{recording.path} has no name in a manifest", remedy="read it with read_manifest"
        )
    return recording.corpus, recording.name


def _read(path: Path, shape: "TypeAdapter[Document]", remedy: str) -> tuple[Document, str]:
    """A JSON document and its file's sha256."""
    if not path.is_file():
        raise BadParameter(f"split file {path} does not exist", remedy="see model_export/splits")
    text = path.read_bytes()
    try:
        return shape.validate_json(text), hashlib.sha256(text).hexdigest()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadParameter(
            f"{path}: {where} {first['msg']}".replace("  ", " "), remedy=remedy
        ) from error
