"""URDU: talk shows, 38 speakers, four emotions, 400 recordings.

    Angry/SM1_F10_A010.wav    man 1, his file 10, recording 10 of anger

S. Latif et al., "Cross Lingual Speech Emotion Recognition: Urdu vs. Western Languages", FIT 2018,
and the repository siddiquelatif/URDU-Dataset. A speaker (SM3) may stand in several folders.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from model_export.corpora.released import Found, Problem, Release, audio_files

EMOTIONS = {"Angry": "angry", "Happy": "happy", "Neutral": "neutral", "Sad": "sad"}
_NAME = re.compile(r"(?P<speaker>S(?P<gender>[FM])\d+)_F\d+_(?P<emotion>[A-Z])\d+")


def find(root: Path) -> Iterator[Found | Problem]:
    for path in audio_files(root, "*/*"):
        yield _recording(path)


def _recording(path: Path) -> Found | Problem:
    where, emotion = str(path), path.parent.name
    if emotion not in EMOTIONS:
        return Problem(where, f"unknown emotion {emotion!r}")
    name = _NAME.fullmatch(path.stem)
    if name is None:
        return Problem(where, "not of the form SM1_F10_A010.wav")
    if name["emotion"] != emotion[0]:
        return Problem(where, f"emotion letter {name['emotion']!r} in the folder {emotion}")
    gender = "female" if name["gender"] == "F" else "male"
    return Found(path, name["speaker"], gender, emotion, EMOTIONS[emotion], where)


RELEASE = Release("Angry|Happy|Neutral|Sad/SM1_F10_A010.wav", find)
