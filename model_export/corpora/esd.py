"""ESD: acted Mandarin (speakers 0001 to 0010) and English (0011 to 0020), five emotions.

    0001/Angry/0001_000351.wav         or below Angry/train, Angry/test, Angry/evaluation
    0001/0001.txt                      0001_000351<tab>text<tab>emotion

The folder tells the emotion. The text file, where there is one, must not say another; its
emotions are Chinese words for the Mandarin speakers. K. Zhou et al., "Emotional voice
conversion: Theory, databases and ESD", Speech Communication 137, 2022, and the repository
HLTSingapore/Emotional-Speech-Data.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from model_export.corpora.released import Found, Problem, Release, audio_files, read_lines
from ser_core.errors import BadParameter

EMOTIONS = {
    "Angry": "angry",
    "Happy": "happy",
    "Neutral": "neutral",
    "Sad": "sad",
    "Surprise": None,
}
_IN_CHINESE = {
    "生气": "Angry",
    "快乐": "Happy",
    "中立": "Neutral",
    "伤心": "Sad",
    "惊喜": "Surprise",
}
_WOMEN = ("0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019")
_NAME = re.compile(r"(?P<speaker>\d{4})_\d{6}")


def find(root: Path) -> Iterator[Found | Problem]:
    for folder in sorted(root.glob("[0-9]" * 4)):
        speaker = folder.name
        listed: dict[str, tuple[str, str]] = {}
        for told in _transcript(folder / f"{speaker}.txt"):
            if isinstance(told, Problem):
                yield told
            else:
                listed.update(told)
        for path in audio_files(folder, "*/**/*"):
            yield _recording(path, path.relative_to(folder).parts[0], speaker, listed)


def _transcript(path: Path) -> Iterator[dict[str, tuple[str, str]] | Problem]:
    """Recording to emotion and where that stands; words that are not known say nothing."""
    if not path.is_file():
        return
    try:
        lines = read_lines(path)
    except BadParameter as error:
        yield Problem(str(path), str(error))
        return
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.split("\t")]
        where = f"{path}:{number}"
        if len(cells) == 3:
            name, _, word = cells
            emotion = _IN_CHINESE.get(word, word)
            if emotion in EMOTIONS:
                yield {name: (emotion, where)}
        elif line.strip():
            yield Problem(where, "not of the form recording, text, emotion, by tabs")


def _recording(
    path: Path, emotion: str, speaker: str, listed: dict[str, tuple[str, str]]
) -> Found | Problem:
    where = str(path)
    if emotion not in EMOTIONS:
        return Problem(where, f"unknown emotion {emotion!r}")
    name = _NAME.fullmatch(path.stem)
    if name is None or name["speaker"] != speaker:
        return Problem(where, f"not of the form {speaker}_000351.wav")
    told, there = listed.get(path.stem, (emotion, where))
    if told != emotion:
        return Problem(there, f"{path.stem} is {told}, but lies in {path.parent}")
    gender = "female" if speaker in _WOMEN else "male"
    return Found(path, speaker, gender, emotion, EMOTIONS[emotion], where)


RELEASE = Release("0001..0020/Angry|Happy|Neutral|Sad|Surprise/0001_000351.wav and 0001.txt", find)
