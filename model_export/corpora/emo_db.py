"""EMO-DB: acted German of ten actors, seven emotions.

    wav/03a01Fa.wav    speaker 03, text a01, Freude, version a

F. Burkhardt et al., "A Database of German Emotional Speech", Interspeech 2005, and the index at
emodb.bilderbar.info, from where letters and speakers are.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from model_export.corpora.released import Found, Problem, Release, audio_files

#: First letters of German words: Wut (for Ärger), Freude, neutral, Trauer, Angst, and so on.
EMOTIONS = {
    "W": ("anger", "angry"),
    "F": ("happiness", "happy"),
    "N": ("neutral", "neutral"),
    "T": ("sadness", "sad"),
    "A": ("fear", "fear"),
    "L": ("boredom", None),
    "E": ("disgust", None),
}
_MEN = ("03", "10", "11", "12", "15")
_WOMEN = ("08", "09", "13", "14", "16")
GENDERS = {name: "female" if name in _WOMEN else "male" for name in (*_WOMEN, *_MEN)}
_NAME = re.compile(r"(?P<speaker>\d\d)[ab]\d\d(?P<emotion>[A-Z])[a-z]?")


def find(root: Path) -> Iterator[Found | Problem]:
    for path in audio_files(root, "wav/*"):
        yield _recording(path)


def _recording(path: Path) -> Found | Problem:
    where = str(path)
    name = _NAME.fullmatch(path.stem)
    if name is None:
        return Problem(where, "not of the form 03a01Fa.wav: speaker, text, emotion, version")
    if name["emotion"] not in EMOTIONS:
        return Problem(where, f"unknown emotion letter {name['emotion']!r}")
    if name["speaker"] not in GENDERS:
        return Problem(where, f"unknown speaker {name['speaker']!r}")
    emotion, label = EMOTIONS[name["emotion"]]
    return Found(path, name["speaker"], GENDERS[name["speaker"]], emotion, label, where)


RELEASE = Release("wav/03a01Fa.wav: speaker, text, emotion letter, version", find)
