"""What is to be scored: the recordings of a folder or of a manifest, in an order that stays."""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from glrf.names import shown
from ser_core.errors import BadParameter

#: What a folder is searched for; a manifest may name anything.
SUFFIXES: Final = frozenset(
    (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".webm")
)
#: A chunk is what a killed run repeats at most, for each process.
CHUNK_FILES: Final = 32
CHUNK_BYTES: Final = 128 * 2**20


@dataclass(frozen=True, slots=True)
class Item:
    """One recording: `name` as text, `roles` one a channel where the archive says so."""

    name: str
    path: Path
    n_bytes: int
    roles: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Recordings that follow each other in the archive, scored by one process in one go."""

    number: int
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Archive:
    """Its recordings in order; `left_out` counts a folder's other files by their suffix."""

    items: list[Item]
    left_out: Counter[str]


def archive_of(source: Path, data: Path | None = None) -> Archive:
    """The recordings of a folder (sorted by name), or of a CSV with a column `path`.

    The paths of a manifest start from `data`, or from the manifest's own folder. Its column `roles`
    is taken where there is one, other columns are ignored. A file that does not exist stays in the
    list, to be told of in the table. Raises `BadParameter` for a source without recordings.
    """
    left_out: Counter[str] = Counter()
    if source.is_dir():
        paths: list[Path] = []
        for path in filter(Path.is_file, source.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                paths.append(path)
            else:
                left_out[shown(path.suffix.lower()) or "without a suffix"] += 1
        items = [_item(path.relative_to(source).as_posix(), path, None) for path in sorted(paths)]
    elif source.is_file():
        items = list(_of_manifest(source, source.parent if data is None else data))
    else:
        raise BadParameter(
            f"{source} does not exist", remedy="give a folder of recordings, or a CSV manifest"
        )
    if not items:
        raise BadParameter(
            f"{source} has no recordings",
            remedy=f"give a folder with {', '.join(sorted(SUFFIXES))}, or a CSV with a column path",
        )
    return Archive(items, left_out)


def chunks_of(items: list[Item]) -> list[Chunk]:
    """The items, cut into chunks of bounded number and size."""
    chunks: list[Chunk] = []
    held: list[Item] = []
    n_bytes = 0
    for item in items:
        if held and (len(held) == CHUNK_FILES or n_bytes + item.n_bytes > CHUNK_BYTES):
            chunks.append(Chunk(len(chunks), tuple(held)))
            held, n_bytes = [], 0
        held.append(item)
        n_bytes += item.n_bytes
    return [*chunks, Chunk(len(chunks), tuple(held))]


def _of_manifest(manifest: Path, data: Path) -> Iterator[Item]:
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        try:
            table = csv.DictReader(file, strict=True)
            if "path" not in (table.fieldnames or ()):
                raise BadParameter(
                    f"{manifest} has no column path", remedy="give a CSV with a header line"
                )
            for row in table:
                name = row["path"]
                if not name:
                    raise BadParameter(
                        f"{manifest}:{table.line_num}: the path is empty",
                        remedy="name a recording in each line",
                    )
                yield _item(name, data / name, row.get("roles") or None)
        except (csv.Error, UnicodeDecodeError) as error:
            raise BadParameter(
                f"{manifest} is no CSV: {error}",
                remedy="give a folder, or a CSV in UTF-8; one recording is for `glrf analyze`",
            ) from error


def _item(name: str, path: Path, roles: str | None) -> Item:
    try:
        n_bytes = path.stat().st_size
    except OSError:
        n_bytes = 0  # scoring it says what is wrong
    return Item(shown(name), path, n_bytes, roles)
