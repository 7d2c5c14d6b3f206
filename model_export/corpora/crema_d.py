"""CREMA-D: acted English of 91 actors, six emotions, twelve sentences.

    AudioWAV/1001_DFA_ANG_XX.wav     actor, sentence, emotion, level
    VideoDemographics.csv            "ActorID","Age","Sex","Race","Ethnicity"

The label is the emotion that was acted, not what the crowd heard. The release has one level cut
short (1040_ITH_SAD_X.wav) and one file without speech (1076_MTI_SAD_XX.wav). H. Cao et al.,
"CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE Transactions on Affective
Computing 5(4), 2014, and the repository CheyneyComputerScience/CREMA-D.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from model_export.corpora.released import Found, Problem, Release, audio_files, read_lines
from ser_core.errors import BadParameter

EMOTIONS = {
    "ANG": ("anger", "angry"),
    "HAP": ("happy", "happy"),
    "NEU": ("neutral", "neutral"),
    "SAD": ("sad", "sad"),
    "FEA": ("fear", "fear"),
    "DIS": ("disgust", None),
}
_NAME = re.compile(r"(?P<speaker>1\d{3})_[A-Z]{3}_(?P<emotion>[A-Z]{3})_(?:LO|MD|HI|XX|X)")


def find(root: Path) -> Iterator[Found | Problem]:
    genders: dict[str, str] = {}
    demographics = root / "VideoDemographics.csv"
    if demographics.is_file():  # some mirrors hold the audio alone
        for told in _genders(demographics):
            if isinstance(told, Problem):
                yield told
            else:
                genders.update(told)
    for path in audio_files(root, "AudioWAV/*"):
        yield _recording(path, genders)


def _genders(table: Path) -> Iterator[dict[str, str] | Problem]:
    try:
        reader = csv.DictReader(read_lines(table))
    except BadParameter as error:
        yield Problem(str(table), str(error))
        return
    for row in reader:
        actor, sex = row.get("ActorID") or "", (row.get("Sex") or "").lower()
        if not actor or sex not in ("female", "male"):
            yield Problem(f"{table}:{reader.line_num}", f"actor {actor!r} of sex {sex!r}")
        else:
            yield {actor: sex}


def _recording(path: Path, genders: dict[str, str]) -> Found | Problem:
    where = str(path)
    name = _NAME.fullmatch(path.stem)
    if name is None:
        return Problem(where, "not of the form 1001_DFA_ANG_XX.wav")
    if name["emotion"] not in EMOTIONS:
        return Problem(where, f"unknown emotion {name['emotion']!r}")
    emotion, label = EMOTIONS[name["emotion"]]
    return Found(path, name["speaker"], genders.get(name["speaker"], ""), emotion, label, where)


RELEASE = Release("AudioWAV/1001_DFA_ANG_XX.wav and VideoDemographics.csv", find)
