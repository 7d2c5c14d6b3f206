"""nEMO: acted Polish of nine actors, six emotions.

    data.tsv                      file_id emotion raw_text normalized_text speaker_id gender age
    samples/WR0_surprised_64.wav  speaker_emotion_sentence

I. Christop, "nEMO: Dataset of Emotional Speech in Polish", LREC-COLING 2024, and the repository
amu-cai/nEMO, whose speaker_id column is padded with blanks. Without `data.tsv` the names tell
everything, wherever the audio lies below the root.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from model_export.corpora.released import Found, Problem, Release, audio_files, read_lines
from ser_core.errors import BadParameter

LABELS = {
    "anger": "angry",
    "fear": "fear",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
}
LEFT_OUT = ("surprised",)
COLUMNS = ("file_id", "emotion", "speaker_id", "gender")
_WOMEN = ("EB0", "IC0", "KD0", "MK0")
_MEN = ("KS0", "MP0", "SM0", "TP0", "WR0")
GENDERS = {name: "female" if name in _WOMEN else "male" for name in (*_WOMEN, *_MEN)}

_NAME = re.compile(r"(?P<speaker>[A-Z]{2}\d)_(?P<emotion>[a-z]+)_\d+")


def find(root: Path) -> Iterator[Found | Problem]:
    table = root / "data.tsv"
    if not table.is_file():
        for path in audio_files(root, "**/*"):
            yield _recording(path, str(path))
        return
    try:
        lines = read_lines(table)
    except BadParameter as error:
        yield Problem(str(table), str(error))
        return
    # Polish quotation marks stand in the texts, and nothing is quoted.
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        yield Problem(f"{table}:1", f"lacks the columns {', '.join(missing)}")
        return
    for row in reader:
        yield _listed(root, row, f"{table}:{reader.line_num}")


def _listed(root: Path, row: dict[str, str | None], where: str) -> Found | Problem:
    file_id, emotion, speaker, gender = ((row[column] or "").strip() for column in COLUMNS)
    found = _recording(root / "samples" / file_id, where)
    if isinstance(found, Problem):
        return found
    if (found.speaker, found.emotion) != (speaker, emotion):
        return Problem(where, f"{file_id} is listed as {emotion!r} of {speaker!r}")
    if gender not in ("female", "male") or GENDERS.get(speaker, gender) != gender:
        return Problem(where, f"gender {gender!r} of {speaker}")
    return Found(found.path, speaker, gender, emotion, found.label, where)


def _recording(path: Path, where: str) -> Found | Problem:
    name = _NAME.fullmatch(path.stem)
    if name is None:
        return Problem(where, f"{path.name!r} is not of the form speaker_emotion_sentence.wav")
    emotion, speaker = name["emotion"], name["speaker"]
    if emotion not in LABELS and emotion not in LEFT_OUT:
        return Problem(where, f"unknown emotion {emotion!r}")
    return Found(path, speaker, GENDERS.get(speaker, ""), emotion, LABELS.get(emotion), where)


RELEASE = Release("data.tsv and samples/SPEAKER_EMOTION_N.wav", find)
