"""What a reader of a released corpus finds in its tree: recordings, and what is wrong with it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ser_core.errors import BadParameter

#: Copies of a corpus are often converted; both names are taken.
AUDIO_SUFFIXES = (".wav", ".flac")


@dataclass(frozen=True)
class Found:
    """One recording as its corpus tells it; whether the audio is there is not yet known.

    `emotion` is the corpus's own word, `label` ours, `None` where the emotion is none of the
    classes. `where` names what told of it: a file, or `file:line`.
    """

    path: Path
    speaker: str
    gender: str
    emotion: str
    label: str | None
    where: str


@dataclass(frozen=True)
class Problem:
    """Something malformed: `where` is a file, or `file:line`."""

    where: str
    cause: str

    def __str__(self) -> str:
        return f"{self.where}: {self.cause}"


@dataclass(frozen=True)
class Release:
    """A corpus as its makers publish it: its layout in one line, and who reads it."""

    layout: str
    find: Callable[[Path], Iterator[Found | Problem]]


def audio_files(folder: Path, pattern: str) -> list[Path]:
    """Audio below `folder` by the names' order; leaves out what file managers leave behind."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")
    )


def read_lines(path: Path) -> list[str]:
    """Lines of a text file in UTF-8 or UTF-16; raises `BadParameter` for what is not text."""
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        raise BadParameter(f"{path} is not text in UTF-8", remedy="convert it") from error
