"""RAVDESS: acted North American English of 24 actors, eight emotions, two intensities.

    Actor_01/03-01-05-01-02-01-01.wav
        modality-channel-emotion-intensity-statement-repetition-actor

Actors of even number are women. Modality 03 is audio only; channel 02 is song, which is left out.
Calm counts as neutral. S. R. Livingstone and F. A. Russo, "The Ryerson Audio-Visual Database of
Emotional Speech and Song (RAVDESS)", PLoS ONE 13(5), 2018, and zenodo.org/records/1188976.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from model_export.corpora.released import Found, Problem, Release, audio_files

EMOTIONS = {
    "01": ("neutral", "neutral"),
    "02": ("calm", "neutral"),
    "03": ("happy", "happy"),
    "04": ("sad", "sad"),
    "05": ("angry", "angry"),
    "06": ("fearful", "fear"),
    "07": ("disgust", None),
    "08": ("surprised", None),
}
_NAME = re.compile(
    r"(?P<modality>0[1-3])-(?P<channel>0[12])-(?P<emotion>\d\d)-0[12]-0[12]-0[12]-(?P<actor>\d\d)"
)


def find(root: Path) -> Iterator[Found | Problem]:
    for path in audio_files(root, "Actor_*/*"):
        yield _recording(path)


def _recording(path: Path) -> Found | Problem:
    where = str(path)
    name = _NAME.fullmatch(path.stem)
    if name is None or name["modality"] != "03":
        return Problem(where, "not named 03-channel-emotion-intensity-statement-repetition-actor")
    if path.parent.name != f"Actor_{name['actor']}":
        return Problem(where, f"a recording of actor {name['actor']}")
    if name["emotion"] not in EMOTIONS:
        return Problem(where, f"unknown emotion {name['emotion']!r}")
    emotion, label = EMOTIONS[name["emotion"]]
    if name["channel"] == "02":
        emotion, label = f"{emotion} (song)", None
    gender = "male" if int(name["actor"]) % 2 else "female"
    return Found(path, f"r{name['actor']}", gender, emotion, label, where)


RELEASE = Release("Actor_01..24/03-01-EMOTION-INTENSITY-STATEMENT-REPETITION-ACTOR.wav", find)
