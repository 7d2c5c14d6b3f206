"""Speaker-independent splits, fixed in a committed file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from pydantic import TypeAdapter, ValidationError

from model_export.corpora import Recording
from ser_core.errors import BadParameter

Subset = Literal["train", "dev", "test"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)


@dataclass(frozen=True)
class Split:
    """Speakers of each subset; `sha256` of the file goes into every result."""

    speakers: dict[Subset, frozenset[tuple[str, str]]]
    sha256: str

    def select(self, recordings: list[Recording], subset: Subset) -> list[Recording]:
        """The recordings whose speaker is in `subset`, in order."""
        return [r for r in recordings if r.speaker_key in self.speakers[subset]]


def check_subset(name: str) -> Subset:
    """The subset of that name; raises `BadParameter`."""
    for subset in SUBSETS:
        if name == subset:
            return subset
    raise BadParameter(f"unknown subset {name!r}", remedy=f"use one of {', '.join(SUBSETS)}")


def read_split(path: Path) -> Split:
    """Reads `{"train": {corpus: [speaker, ...]}, "dev": ..., "test": ...}`.

    Raises `BadParameter` when the file is not of that shape, lacks a subset, or has a speaker in
    two of them.
    """
    if not path.is_file():
        raise BadParameter(f"split file {path} does not exist", remedy="see model_export/splits")
    text = path.read_bytes()
    try:
        document = TypeAdapter(dict[str, dict[str, list[str]]]).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadParameter(
            f"{path}: {where} {first['msg']}".replace("  ", " "),
            remedy='write {"train": {"corpus": ["speaker"]}, "dev": {}, "test": {}}',
        ) from error
    if any(subset not in document for subset in SUBSETS):
        raise BadParameter(f"{path} lacks a subset", remedy=f"give all of {', '.join(SUBSETS)}")
    speakers: dict[Subset, frozenset[tuple[str, str]]] = {
        subset: frozenset(
            (corpus, speaker) for corpus, names in document[subset].items() for speaker in names
        )
        for subset in SUBSETS
    }
    for subset in SUBSETS:
        for other in SUBSETS:
            shared = speakers[subset] & speakers[other]
            if subset != other and shared:
                raise BadParameter(
                    f"{path}: {sorted(shared)} stand in {subset} and in {other}",
                    remedy="a speaker belongs to one subset",
                )
    return Split(speakers, hashlib.sha256(text).hexdigest())
