"""IEMOCAP: improvised and scripted dialogs of ten actors, in five sessions of two.

    Session1/dialog/EmoEvaluation/Ses01F_impro01.txt
        [6.2901 - 8.2357]<tab>Ses01F_impro01_F000<tab>neu<tab>[2.5000, 2.5000, 2.5000]
    Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav

C. Busso et al., "IEMOCAP: Interactive emotional dyadic motion capture database", Language
Resources and Evaluation 42, 2008, and the README of its release (IEMOCAP_full_release).
"""

import re
from collections.abc import Iterator
from pathlib import Path

from model_export.corpora.released import Found, Problem, Release, read_lines
from ser_core.errors import BadParameter

#: The paper's four classes (section 3.1), excited merged into happy; the rest is left out, its
#: 40 turns of fear too. `xxx`: the listeners did not agree.
LABELS = {"ang": "angry", "hap": "happy", "exc": "happy", "neu": "neutral", "sad": "sad"}
LEFT_OUT = ("fru", "fea", "sur", "dis", "oth", "xxx")

_NUMBER = r"-?\d+(?:\.\d+)?"
_LINE = re.compile(
    rf"\[(?P<start>{_NUMBER}) - (?P<end>{_NUMBER})\]\s+(?P<turn>\S+)\s+(?P<emotion>\w+)\s+"
    rf"\[{_NUMBER}, {_NUMBER}, {_NUMBER}\]\s*"
)
#: Ses01F is the session and who wore the markers then; the speaker is in the turn's last part.
_TURN = re.compile(r"(?P<dialog>Ses0(?P<session>[1-5])[FM]_\w+)_(?P<gender>[FM])\w+")


def find(root: Path) -> Iterator[Found | Problem]:
    for evaluation in sorted(root.glob("Session[1-5]/dialog/EmoEvaluation/Ses*.txt")):
        try:
            lines = read_lines(evaluation)
        except BadParameter as error:
            yield Problem(str(evaluation), str(error))
            continue
        for number, line in enumerate(lines, 1):
            if line.startswith("["):
                yield _turn(root, evaluation, line, f"{evaluation}:{number}")


def _turn(root: Path, evaluation: Path, text: str, where: str) -> Found | Problem:
    line = _LINE.fullmatch(text)
    if line is None:
        return Problem(where, "not of the form [start - end] TURN emotion [V, A, D]")
    turn = _TURN.fullmatch(line["turn"])
    session = evaluation.parents[2].name
    if turn is None or turn["dialog"] != evaluation.stem or session[-1] != turn["session"]:
        return Problem(where, f"{line['turn']} is no turn of {evaluation.stem} in {session}")
    emotion = line["emotion"]
    if emotion not in LABELS and emotion not in LEFT_OUT:
        return Problem(where, f"unknown emotion {emotion!r}")
    if float(line["end"]) <= float(line["start"]):
        return Problem(where, f"the turn ends at {line['end']} s, before it starts")
    return Found(
        root / session / "sentences" / "wav" / evaluation.stem / f"{line['turn']}.wav",
        speaker=f"Ses0{turn['session']}{turn['gender']}",
        gender="female" if turn["gender"] == "F" else "male",
        emotion=emotion,
        label=LABELS.get(emotion),
        where=where,
    )


RELEASE = Release("Session1..5/dialog/EmoEvaluation/Ses*.txt and sentences/wav/DIALOG/*.wav", find)
