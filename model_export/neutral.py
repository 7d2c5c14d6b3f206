"""What a speaker's neutral voice tells of the rest: found on speakers not learned from, and tried.

A stream that is asked for a baseline (`ser_core.baseline`) takes its first seconds for neutral.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model_export.cells import SegmentLogits
from ser_core.baseline import NeutralVoice
from ser_core.labels import NEUTRAL

#: Neutral recordings that stand for the first seconds of a stream when the share is found.
N_TOGETHER: Final = 2


@dataclass(frozen=True)
class _Speaker:
    """Mean logits of one speaker's recordings.

    `neutral` float64 `(n, n_labels)`, one row a recording; `by_label` `(n_labels, n_labels)`, one
    row a reference label, NaN where it was not said.
    """

    corpus: str
    neutral: NDArray[np.float64]
    by_label: NDArray[np.float64]


def neutral_voice(said: Sequence[SegmentLogits]) -> NeutralVoice | None:
    """From logits of speakers that the network had not learned from; corpora weigh the same.

    `None` where fewer than two of them said something neutral and something else.
    """
    labels = [str(label) for label in said[0].labels]
    if NEUTRAL not in labels:
        return None
    is_neutral = np.array([label == NEUTRAL for label in labels])
    speakers = [
        one
        for one in _speakers(said, labels)
        if len(one.neutral) and not np.all(np.isnan(one.by_label[~is_neutral]))
    ]
    if len(speakers) < 2:
        return None
    corpora = sorted({one.corpus for one in speakers})
    homes = [[one for one in speakers if one.corpus == corpus] for corpus in corpora]
    usual = _mean([_mean([one.by_label for one in home]) for home in homes])
    found = spread = 0.0
    for home in homes:
        for one in home:
            together = _in_groups(one.neutral) - usual[is_neutral]
            other = _mean(list((one.by_label - usual)[~is_neutral]))
            found += float(np.mean(together @ other)) / len(home)
            spread += float(np.mean(np.sum(together**2, axis=1))) / len(home)
    share = min(max(found / spread, 0.0), 1.0) if spread else 0.0
    return NeutralVoice(tuple(usual[is_neutral][0].tolist()), share)


def with_baseline(
    said: SegmentLogits, neutral: NeutralVoice, n_recordings: int
) -> tuple[SegmentLogits, SegmentLogits]:
    """A test fold without and with a baseline of each speaker's first neutral recordings.

    In the order of their paths; what the baseline was made of is in neither. Speakers with no more
    neutral recordings than `n_recordings` are left out.
    """
    means = _recordings(said)
    offset = np.zeros_like(means)
    is_tried = np.zeros(len(means), bool)
    for who in _people(said):
        calm = who[said.reference[who] == NEUTRAL]
        first = calm[np.argsort(said.paths[calm], kind="stable")][:n_recordings]
        if len(calm) > n_recordings:
            own = means[first].mean(axis=0) - np.array(neutral.logits)
            offset[who] = neutral.share * own
            is_tried[np.setdiff1d(who, first)] = True
    kept = is_tried[said.recording]
    of = said.recording[kept]
    place = np.cumsum(is_tried) - 1
    plain = SegmentLogits(
        logits=said.logits[kept],
        recording=place[of].astype(np.int32),
        paths=said.paths[is_tried],
        reference=said.reference[is_tried],
        corpus=said.corpus[is_tried],
        speaker=said.speaker[is_tried],
        labels=said.labels,
    )
    moved = plain.logits.astype(np.float64) - offset[of]
    return plain, replace(plain, logits=moved.astype(np.float16))


def _speakers(said: Sequence[SegmentLogits], labels: list[str]) -> Iterator[_Speaker]:
    for one in said:
        means = _recordings(one)
        for who in _people(one):
            by_label = [means[who[one.reference[who] == label]] for label in labels]
            yield _Speaker(
                corpus=str(one.corpus[who[0]]),
                neutral=by_label[labels.index(NEUTRAL)],
                by_label=np.array(
                    [
                        _mean(list(rows)) if len(rows) else np.full(len(labels), np.nan)
                        for rows in by_label
                    ]
                ),
            )


def _people(said: SegmentLogits) -> Iterator[NDArray[np.int64]]:
    """Indices of each speaker's recordings that have a segment."""
    heard = np.bincount(said.recording, minlength=len(said.paths)) > 0
    names = sorted({(str(c), str(s)) for c, s in zip(said.corpus, said.speaker, strict=True)})
    for corpus, speaker in names:
        own = np.flatnonzero((said.corpus == corpus) & (said.speaker == speaker) & heard)
        if len(own):
            yield own


def _recordings(said: SegmentLogits) -> NDArray[np.float64]:
    """Mean logits of each recording, `(n_recordings, n_labels)`; zero without a segment."""
    n_segments = np.bincount(said.recording, minlength=len(said.paths))
    total = np.zeros((len(said.paths), len(said.labels)))
    np.add.at(total, said.recording, said.logits.astype(np.float64))
    return total / np.maximum(n_segments, 1)[:, None]


def _in_groups(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of `N_TOGETHER` rows at a time; of all where there are not so many."""
    n = len(rows) // N_TOGETHER
    if not n:
        return rows.mean(axis=0, keepdims=True)
    return rows[: n * N_TOGETHER].reshape(n, N_TOGETHER, -1).mean(axis=1)


def _mean(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The mean of arrays of one shape, entries that are NaN left out; NaN where all are."""
    stacked = np.array(parts)
    known = np.sum(~np.isnan(stacked), axis=0)
    return np.where(known, np.nansum(stacked, axis=0) / np.maximum(known, 1), np.nan)
