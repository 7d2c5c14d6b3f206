"""A corpus looked at whole: its recordings, what was left out, and all that is malformed."""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from model_export.corpora.audio import measure
from model_export.corpora.manifest import Recording, read_row, rows
from model_export.corpora.released import Found, Problem
from model_export.corpora.releases import RELEASES
from model_export.corpora.summary import describe
from ser_core.errors import BadParameter, InputError

#: Shorter is a click, longer is no utterance.
MIN_DURATION_S, MAX_DURATION_S = 0.1, 120.0
#: What a manifest's rounding, or a converter's padding, may take or add.
TOLERANCE_S = 0.05


@dataclass
class Survey:
    """`recordings` are without fault; `left_out` counts the emotions that are no class of ours.

    `rates_hz` counts recordings by corpus and rate.
    """

    recordings: list[Recording] = field(default_factory=list)
    left_out: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    rates_hz: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    problems: list[Problem] = field(default_factory=list)

    def summary(self) -> dict[str, dict[str, object]]:
        """By corpus: speakers, women, men, recordings, hours, labels, rates, what was left out."""
        described = describe(self.recordings)
        for corpus, held in described.items():
            own = [r for r in self.recordings if r.corpus == corpus]
            held["recordings"] = len(own)
            for key, gender in (("women", "female"), ("men", "male")):
                held[key] = len({r.speaker for r in own if r.gender == gender})
            held["rates_hz"] = dict(sorted(self.rates_hz[corpus].items()))
            held["left_out"] = dict(self.left_out[corpus])
        return described


Report = Callable[[int, int], None]


def survey_release(
    name: str,
    root: Path,
    data: Path | None = None,
    *,
    corpus: str | None = None,
    rate_hz: int | None = None,
    on_progress: Report = lambda _done, _all: None,
) -> Survey:
    """Reads the tree of a released corpus, one of `RELEASES`.

    Recordings are named from `data`, by default the root (or the folder of a table), and belong
    to `corpus`, by default the release's name. With `rate_hz`, another rate is a problem. Raises
    `BadParameter` for an unknown name or a root that is not there.
    """
    if name not in RELEASES:
        raise BadParameter(f"unknown corpus {name!r}", remedy=f"use one of {', '.join(RELEASES)}")
    if not root.exists():
        raise BadParameter(f"{root} does not exist", remedy="give the folder of the release")
    release = RELEASES[name]
    survey = Survey()
    told: list[tuple[str, Recording]] = []
    data = data or (root.parent if root.is_file() else root)
    findings: list[Found | Problem] = []
    try:
        findings.extend(release.find(root))
    except csv.Error as error:
        findings.append(Problem(str(root), f"a table there is not CSV ({error})"))
    if not findings:
        survey.problems.append(Problem(str(root), f"no recordings; expected {release.layout}"))
    for found in findings:
        match found:
            case Problem():
                survey.problems.append(found)
            case Found(label=None):
                survey.left_out[corpus or name][found.emotion] += 1
            case Found():
                told.append((found.where, _recording(found, corpus or name, data)))
    if findings and not told and not survey.problems:
        survey.problems.append(Problem(str(root), "no recording has an emotion of the classes"))
    _examine(survey, told, data, rate_hz, on_progress)
    return survey


def survey_manifest(
    manifest: Path,
    data: Path,
    labels: tuple[str, ...],
    *,
    rate_hz: int | None = None,
    on_progress: Report = lambda _done, _all: None,
) -> Survey:
    """Reads a manifest as `read_manifest` does, but all of it, and looks at the audio.

    Raises `BadParameter` for a file that is no manifest at all.
    """
    survey = Survey()
    told: list[tuple[str, Recording]] = []
    for where, row in rows(manifest):
        try:
            told.append((where, read_row(row, data, labels, where)))
        except BadParameter as error:
            survey.problems.append(Problem(where, str(error).removeprefix(f"{where}: ")))
    _examine(survey, told, data, rate_hz, on_progress)
    return survey


def _recording(found: Found, corpus: str, data: Path) -> Recording:
    return Recording(
        found.path,
        corpus,
        found.speaker,
        found.label or "",
        0.0,
        gender=found.gender,
        name=os.path.relpath(found.path, data).replace(os.sep, "/"),
        original_label=found.emotion,
    )


def _examine(
    survey: Survey,
    told: list[tuple[str, Recording]],
    data: Path,
    rate_hz: int | None,
    on_progress: Report,
) -> None:
    """Adds the recordings whose audio is as told; `duration_s` 0 means that nothing was told."""
    seen: dict[str, str] = {}
    genders: dict[tuple[str, str], str] = {}
    for done, (where, recording) in enumerate(told, 1):
        causes = list(_contradictions(where, recording, seen, genders))
        try:
            duration_s, found_rate_hz = _measure(recording)
        except InputError as error:
            causes.append(str(error))
        else:
            causes.extend(_oddities(recording, duration_s, found_rate_hz, rate_hz))
            if not causes:
                survey.recordings.append(replace(recording, duration_s=round(duration_s, 3)))
                survey.rates_hz[recording.corpus][found_rate_hz] += 1
        survey.problems.extend(_problems(where, recording, data, causes))
        on_progress(done, len(told))


def _contradictions(
    where: str,
    recording: Recording,
    seen: dict[str, str],
    genders: dict[tuple[str, str], str],
) -> Iterator[str]:
    name = os.path.normpath(recording.name)
    if Path(name).is_absolute() or Path(name).parts[:1] == ("..",):
        yield "lies outside the data folder"
    first = seen.setdefault(name, where)
    if first != where:
        yield f"stands there twice, first at {first}"
    gender = genders.setdefault(recording.speaker_key, recording.gender)
    if gender != recording.gender:
        yield f"{recording.speaker} is {recording.gender or 'of no gender'}, before {gender!r}"


def _measure(recording: Recording) -> tuple[float, int]:
    try:
        return measure(recording.path)
    except FileNotFoundError as error:
        raise BadParameter("does not exist") from error
    except (OSError, ValueError) as error:  # a folder of that name, no permission, a NUL in it
        raise BadParameter(f"cannot be read: {error}") from error


def _oddities(
    recording: Recording, duration_s: float, rate_hz: int, wanted_hz: int | None
) -> Iterator[str]:
    if not MIN_DURATION_S <= duration_s <= MAX_DURATION_S:
        yield f"{duration_s:.3f} s are no utterance ({MIN_DURATION_S} to {MAX_DURATION_S:.0f} s)"
    elif recording.duration_s and abs(recording.duration_s - duration_s) > TOLERANCE_S:
        yield f"duration_s={recording.duration_s:g}, but it lasts {duration_s:.3f} s"
    if wanted_hz is not None and rate_hz != wanted_hz:
        yield f"{rate_hz} Hz, not {wanted_hz} Hz"


def _problems(
    where: str, recording: Recording, data: Path, causes: Iterable[str]
) -> Iterator[Problem]:
    """Names the audio, too, where a line of a table told of it."""
    about = "" if where == str(recording.path) else f"{data / recording.name} "
    return (Problem(where, about + cause) for cause in causes)
