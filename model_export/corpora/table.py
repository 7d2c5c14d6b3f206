"""Corpora that come as a table beside their audio: ST-EMO's shape, and any CSV.

    manifest.csv     path,speaker,gender,label
    any/where.wav    paths start from the table's folder

The separator may be a comma, a semicolon or a tab, and columns may have the names below.

ST-EMO is not public; its shape is the paper's (section 3.1 and Table 1): such a table with the
five classes, where any other word is an error. In any other table, words for the five classes
are understood, and other emotions are left out and counted.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from model_export.corpora.released import Found, Problem, Release, read_lines
from ser_core.errors import BadParameter
from ser_core.labels import LABELS

#: A table that is a folder's is called so.
NAME = "manifest.csv"
NAMES = {
    "path": ("path", "file", "filename", "file_name", "file_id", "wav", "audio"),
    "speaker": ("speaker", "speaker_id", "actor", "spk"),
    "gender": ("gender", "sex"),
    "emotion": ("original_label", "emotion", "label", "class"),
}
_WORDS = {
    "angry": ("anger", "ang"),
    "happy": ("happiness", "joy", "hap", "excited", "excitement"),
    "neutral": ("calm", "neu"),
    "sad": ("sadness",),
    "fear": ("fearful", "anxiety", "fea"),
}
WORDS = {word: label for label in LABELS for word in (label, *_WORDS[label])}
_GENDERS = {"": "", "f": "female", "female": "female", "m": "male", "male": "male"}


def find(root: Path) -> Iterator[Found | Problem]:
    """Any table: `root` is the CSV, or the folder of a `manifest.csv`."""
    yield from _find(root, WORDS)


def find_st_emo(root: Path) -> Iterator[Found | Problem]:
    """As `find`, with the five classes by their names only."""
    for found in _find(root, {label: label for label in LABELS}):
        if isinstance(found, Found) and found.label is None:
            yield Problem(found.where, f"unknown emotion {found.emotion!r}")
        else:
            yield found


def _find(root: Path, words: dict[str, str]) -> Iterator[Found | Problem]:
    table = root if root.is_file() else root / NAME
    if not table.is_file():
        yield Problem(str(table), "does not exist")
        return
    try:
        lines = read_lines(table)
    except BadParameter as error:
        yield Problem(str(table), str(error))
        return
    header = lines[0] if lines else ""
    separator = max(",;\t", key=header.count)
    reader = csv.DictReader(lines, delimiter=separator)
    columns = {
        field: next((n for n in reader.fieldnames or () if n.strip().lower() in names), None)
        for field, names in NAMES.items()
    }
    missing = [f for f in ("path", "speaker", "emotion") if columns[f] is None]
    if missing:
        yield Problem(f"{table}:1", f"lacks a column for {', '.join(missing)}")
        return
    for row in reader:
        told = {f: (row[c] or "").strip() if c else "" for f, c in columns.items()}
        yield _row(table.parent, told, words, f"{table}:{reader.line_num}")


def _row(folder: Path, told: dict[str, str], words: dict[str, str], where: str) -> Found | Problem:
    empty = [field for field in ("path", "speaker", "emotion") if not told[field]]
    if empty:
        return Problem(where, f"{', '.join(empty)} is empty")
    gender = _GENDERS.get(told["gender"].lower())
    if gender is None:
        return Problem(where, f"unknown gender {told['gender']!r}")
    return Found(
        folder / told["path"],
        told["speaker"],
        gender,
        told["emotion"],
        words.get(told["emotion"].lower()),
        where,
    )


RELEASE = Release(f"a CSV, or a folder with {NAME}: path, speaker, gender, label", find)
ST_EMO = Release(f"{NAME}: path, speaker, gender, label (one of the five classes)", find_st_emo)
