"""How steady the running label is: each smoothing beside the segments' own labels.

From logits of test folds, in two views. **Utterances**: each recording by itself, as endpointing
or a file gives it. **Streams**: the recordings of one speaker joined in a fixed random order into
one utterance that never ends, so that the emotion changes every few seconds: what a smoothing costs
in following. What is joined are segments; those that would lie across two recordings are not there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.catalogue import shown, spoken
from model_export.cells import Cell, SegmentLogits, load_logits
from model_export.ledger import Ledger
from model_export.markdown import MISSING, NONE, percent, points, table
from model_export.spread import coverage
from model_export.tables import origin
from ser_core.labels import is_pure
from ser_core.segments import SegmentSpec
from ser_core.smoothing import DEFAULT_SMOOTHING, SMOOTHINGS, RunningLabel, SmoothingConfig

RATE_HZ: Final = 16_000
SEGMENT_S: Final = SegmentSpec().segment_samples / RATE_HZ
HOP_S: Final = SegmentSpec().hop_samples / RATE_HZ
SEED: Final = 1


@dataclass(frozen=True)
class Spoken:
    """One recording's segment scores, float32 `(n_segments, n_labels)`, columns by `labels`."""

    speaker: str
    reference: str
    labels: tuple[str, ...]
    scores: NDArray[np.float32]


@dataclass(frozen=True)
class Steadiness:
    """Of labels over time.

    `pure_acc`, `ua` (of the last label), `right` (share of segments) and `found` (share of
    recordings whose label was said at all) are 0..1. `flips_a_minute` counts changes of label by
    time between labels. `found_after_s` is how long after its first sample a recording's label was
    said first, on average over those where it was.
    """

    pure_acc: float
    ua: float
    right: float
    flips_a_minute: float
    found: float
    found_after_s: float
    n: int


def spoken_of(said: SegmentLogits, corpus: str, among: Sequence[str]) -> list[Spoken]:
    """One corpus's recordings, scored on its labels `among`; those without segments left out."""
    columns = [i for i, label in enumerate(said.labels) if str(label) in among]
    labels = tuple(str(said.labels[i]) for i in columns)
    logits = said.logits.astype(np.float64)[:, columns]
    scores = (1 / (1 + np.exp(-np.clip(logits, -80, 80)))).astype(np.float32)
    found: list[Spoken] = []
    for index in np.flatnonzero(said.corpus == corpus):
        own = scores[said.recording == index]
        if len(own):
            who, what = str(said.speaker[index]), str(said.reference[index])
            found.append(Spoken(who, what, labels, own))
    return found


def own_labels(scores: NDArray[np.float32], labels: tuple[str, ...]) -> list[str]:
    """What each segment says by itself."""
    return [labels[i] for i in scores.argmax(axis=1)]


def running_labels(
    scores: NDArray[np.float32], labels: tuple[str, ...], config: SmoothingConfig
) -> list[str]:
    """What a stream says after each segment of one utterance."""
    running = RunningLabel(labels, RATE_HZ)
    told: list[str] = []
    for i, one in enumerate(scores):
        end = round((SEGMENT_S + i * HOP_S) * RATE_HZ)
        running.accept(one, config, partial=False, end=end)
        told.append(running.decision.label or "")
    return told


def of_utterances(recordings: Sequence[Spoken], config: SmoothingConfig | None) -> Steadiness:
    """Each recording by itself; config `None` for the segments' own labels.

    Raises `ValueError` without recordings.
    """
    told = [_labels(one.scores, one.labels, config) for one in recordings]
    return _steadiness([one.reference for one in recordings], told, told, SEGMENT_S)


def of_streams(recordings: Sequence[Spoken], config: SmoothingConfig | None) -> Steadiness:
    """Each speaker's recordings as one utterance; config as in `of_utterances`.

    Time is counted from where a recording begins, and its first segment brings 0.4 s of it. Raises
    `ValueError` without recordings.
    """
    references: list[str] = []
    told: list[list[str]] = []
    streams: list[list[str]] = []
    for _, group in groupby(sorted(recordings, key=lambda one: one.speaker), lambda x: x.speaker):
        own = list(group)
        own = [own[i] for i in np.random.default_rng(SEED).permutation(len(own))]
        stream = _labels(np.concatenate([one.scores for one in own]), own[0].labels, config)
        bounds = np.cumsum([0, *(len(one.scores) for one in own)])
        references += [one.reference for one in own]
        told += [stream[a:b] for a, b in pairwise(bounds)]
        streams.append(stream)
    return _steadiness(references, told, streams, HOP_S)


def _labels(
    scores: NDArray[np.float32], labels: tuple[str, ...], config: SmoothingConfig | None
) -> list[str]:
    return own_labels(scores, labels) if config is None else running_labels(scores, labels, config)


def _steadiness(
    references: Sequence[str],
    told: Sequence[Sequence[str]],
    runs: Iterable[Sequence[str]],
    first_s: float,
) -> Steadiness:
    if not references:
        raise ValueError("no recording to judge labels on")
    recalls: dict[str, list[bool]] = {}
    after_s: list[float] = []
    n_right = 0
    for reference, labels in zip(references, told, strict=True):
        recalls.setdefault(reference, []).append(labels[-1] == reference)
        n_right += list(labels).count(reference)
        if reference in labels:
            after_s.append(first_s + HOP_S * list(labels).index(reference))
    changes = [a != b for labels in runs for a, b in pairwise(labels)]
    return Steadiness(
        pure_acc=float(np.mean([is_pure(a, b) for a, b in zip(references, told, strict=True)])),
        ua=float(np.mean([np.mean(right) for right in recalls.values()])),
        right=n_right / sum(map(len, told)),
        flips_a_minute=60 / HOP_S * float(np.mean(changes)) if changes else 0.0,
        found=len(after_s) / len(references),
        found_after_s=float(np.mean(after_s)) if after_s else float("nan"),
        n=len(references),
    )


def stability(ledger: Ledger) -> str:
    """GLRF's running label under each smoothing, by corpus, with what the default gains."""
    cells = [(cell, said) for cell in ledger.of(ledger.shipped) if (said := _said(ledger, cell))]
    if not cells:
        return f"{MISSING}: no cell of {shown(ledger.shipped)} has logits."
    blocks = [_HOW]
    for corpus in ledger.corpora:
        groups = [
            found
            for cell, said in cells
            if corpus in cell.metrics["corpora"]
            and (found := spoken_of(said, corpus, cell.metrics["corpora"][corpus]["labels"]))
        ]
        if not groups:
            blocks += [f"### {spoken(corpus)}", f"{MISSING}: no logits of this corpus."]
            continue
        long = [[one for one in group if len(one.scores) >= _LONG] for group in groups]
        blocks += [
            f"### {spoken(corpus)}",
            _gain(groups, corpus),
            "Utterances, each recording by itself:",
            _utterance_table(groups, long),
            "Streams, the recordings of a speaker joined:",
            _stream_table(groups),
        ]
    used = [cell for cell, _ in cells]
    return "\n\n".join([*blocks, f"{coverage(used)}.", origin(ledger, [ledger.shipped])])


#: Utterances of at least this many segments (3.2 s) have something to smooth.
_LONG: Final = 4

_HOW: Final = (
    "What a stream shows, against what each segment says by itself; figures are means over cells."
    " Pure-Acc judges all labels told of an utterance, UA the last one, flips are changes of label"
    " a minute. An utterance of one segment cannot gain, so Pure-Acc stands beside for those of"
    f" at least {_LONG} segments ({SEGMENT_S + (_LONG - 1) * HOP_S:.1f} s). The first right label"
    " comes after so many seconds on average, where it came at all (*found*)."
)


def _said(ledger: Ledger, cell: Cell) -> SegmentLogits | None:
    ledger.decisions(cell)  # checks that the logits are this cell's
    return load_logits(ledger.folder, cell)


def _rows() -> Mapping[str, SmoothingConfig | None]:
    smoothings = {
        f"`{kind}`" + (" (default)" if kind == DEFAULT_SMOOTHING else ""): SmoothingConfig(kind)
        for kind in SMOOTHINGS
    }
    return {"segments by themselves": None, **smoothings}


def _mean(values: Iterable[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else None


def _gain(groups: Sequence[Sequence[Spoken]], corpus: str) -> str:
    raw = [of_utterances(group, None) for group in groups]
    now = [of_utterances(group, SmoothingConfig()) for group in groups]
    mean = [of_utterances(group, SmoothingConfig("mean")) for group in groups]
    pure = float(np.mean([b.pure_acc - a.pure_acc for a, b in zip(raw, now, strict=True)]))
    ua = float(np.mean([b.ua - a.ua for a, b in zip(mean, now, strict=True)]))
    return (
        f"On {corpus} the default, `{DEFAULT_SMOOTHING}`, changes Pure-Acc by {points(pure)} points"
        f" against the segments' own labels, and UA of the last label by {points(ua)} points"
        " against the mean's."
    )


def _utterance_table(groups: Sequence[Sequence[Spoken]], long: Sequence[Sequence[Spoken]]) -> str:
    columns = [
        "", "Pure-Acc", f"Pure-Acc, {_LONG}+ segments", "UA at the end", "flips a minute",
        "found", "first right after (s)",
    ]  # fmt: skip
    lines: list[list[str]] = []
    for name, config in _rows().items():
        all_ = [of_utterances(group, config) for group in groups]
        some = [of_utterances(group, config) for group in long if group]
        lines.append(
            [
                name,
                percent(_mean(one.pure_acc for one in all_)),
                percent(_mean(one.pure_acc for one in some)),
                percent(_mean(one.ua for one in all_)),
                _one_decimal(_mean(one.flips_a_minute for one in all_)),
                percent(_mean(one.found for one in all_)),
                _one_decimal(_mean(one.found_after_s for one in all_)),
            ]
        )
    return table(columns, lines)


def _stream_table(groups: Sequence[Sequence[Spoken]]) -> str:
    columns = ["", "time right", "flips a minute", "found", "first right after (s)"]
    lines: list[list[str]] = []
    for name, config in _rows().items():
        all_ = [of_streams(group, config) for group in groups]
        lines.append(
            [
                name,
                percent(_mean(one.right for one in all_)),
                _one_decimal(_mean(one.flips_a_minute for one in all_)),
                percent(_mean(one.found for one in all_)),
                _one_decimal(_mean(one.found_after_s for one in all_)),
            ]
        )
    return table(columns, lines)


def _one_decimal(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"
