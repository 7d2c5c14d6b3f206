"""Scores that mean what they say: fitted on speakers that the network has not learned from."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from model_export.cells import Cell, SegmentLogits
from model_export.ledger import Ledger
from model_export.neutral import neutral_voice
from model_export.spread import corpora_of
from ser_core.baseline import NeutralVoice
from ser_core.errors import BadParameter
from ser_core.posteriors import Calibration

N_BINS: Final = 15


@dataclass(frozen=True)
class Segments:
    """Logits float64 `(n, n_labels)` of segments, their reference labels' indices `(n,)`, weights.

    A segment's weight `(n,)` lets every corpus, within it every label, and within that every
    utterance, count the same.
    """

    logits: NDArray[np.float64]
    truth: NDArray[np.int64]
    weight: NDArray[np.float64]


def segments_of(said: Sequence[SegmentLogits], corpus: str | None = None) -> Segments:
    """All segments of some test folds, or of one corpus in them."""
    labels = [str(label) for label in said[0].labels]
    logits: list[NDArray[np.float64]] = []
    truth: list[NDArray[np.int64]] = []
    share: list[NDArray[np.float64]] = []
    homes: list[NDArray[np.str_]] = []
    groups: list[NDArray[np.str_]] = []
    for one in said:
        kept = (one.corpus == corpus if corpus else np.ones(len(one.corpus), bool))[one.recording]
        of = one.recording[kept]
        logits.append(one.logits[kept].astype(np.float64))
        truth.append(np.array([labels.index(str(x)) for x in one.reference])[of])
        share.append(1 / np.bincount(one.recording, minlength=len(one.paths))[of])
        homes.append(one.corpus[of])
        groups.append(np.char.add(one.corpus, np.char.add(" ", one.reference))[of])
    weight, group = np.concatenate(share), np.concatenate(groups)
    for name in np.unique(group):
        weight[group == name] /= weight[group == name].sum()
    home = np.concatenate(homes)
    for name in np.unique(home):
        weight[home == name] /= weight[home == name].sum() * len(np.unique(home))
    return Segments(np.concatenate(logits), np.concatenate(truth), weight)


def fit(segments: Segments, *, per_label: bool = True) -> Calibration:
    """Platt scaling (1999): a scale and a bias a label, or one pair for all of them.

    A pair a label also mends what a network has for or against a label, and wants many speakers:
    of a few, it would tilt the choice between labels by what those happen to show. A logit that
    tells nothing would get a negative scale, which turns decisions round; then all labels keep
    their raw sigmoids, as they do without segments.
    """
    n_labels = segments.logits.shape[1]
    own = np.arange(n_labels) == segments.truth[:, None]
    weight = np.broadcast_to(segments.weight[:, None], own.shape) * len(own)
    columns = [[label] for label in range(n_labels)] if per_label else [list(range(n_labels))]
    pairs: list[tuple[float, float]] = []
    for column in columns if len(own) else []:
        if len(np.unique(own[:, column])) < 2:  # a label that nobody shows: as it is
            pairs += [(1.0, 0.0)] * len(column)
            continue
        machine = LogisticRegression(C=1e6).fit(
            segments.logits[:, column].reshape(-1, 1),
            own[:, column].ravel(),
            sample_weight=weight[:, column].ravel(),
        )
        pairs += [(float(machine.coef_[0, 0]), float(machine.intercept_[0]))] * len(column)
    if not pairs or min(scale for scale, _ in pairs) <= 0:
        return Calibration((1.0,) * n_labels, (0.0,) * n_labels)
    scales, biases = zip(*pairs, strict=True)
    return Calibration(scales, biases)


@dataclass(frozen=True)
class Reliability:
    """Scores in `N_BINS` equal bins: mean score, share that was right, and weight, `(N_BINS,)`.

    Empty bins are NaN and weigh nothing.
    """

    score: NDArray[np.float64]
    right: NDArray[np.float64]
    weight: NDArray[np.float64]

    @property
    def ece(self) -> float:
        """Expected calibration error: mean |score - right|, bins by weight (Guo et al., 2017)."""
        return float(np.nansum(self.weight * np.abs(self.score - self.right)))


def reliability(segments: Segments, calibration: Calibration) -> Reliability:
    """Of all one-vs-rest scores of all segments: how often a score of 0.7 is right."""
    scores = calibration.scores(segments.logits.astype(np.float32)).astype(np.float64)
    right = np.arange(scores.shape[1]) == segments.truth[:, None]
    weight = np.broadcast_to(segments.weight[:, None], scores.shape)
    bins = np.minimum((scores * N_BINS).astype(int), N_BINS - 1).ravel()

    def sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(bins, values.ravel(), N_BINS), np.float64)

    total = sums(weight)
    with np.errstate(invalid="ignore"):
        return Reliability(
            sums(weight * scores) / total, sums(weight * right) / total, total / total.sum()
        )


def unseen_reliability(
    ledger: Ledger, cells: Sequence[Cell], corpus: str, *, calibrated: bool
) -> list[Reliability]:
    """Of each fold on its own, calibrated on the other folds.

    So it is of speakers that neither the network nor the calibration knows. The first seed; empty
    without logits of two folds that have the corpus. Folds without it calibrate, too.
    """
    said = logits_by_fold(ledger, cells)
    having = {fold: own for fold, own in said.items() if corpus in own.corpus}
    if len(having) < 2:
        return []
    parts: list[Reliability] = []
    for fold, own in having.items():
        n_labels = own.logits.shape[1]
        calibration = Calibration((1.0,) * n_labels, (0.0,) * n_labels)
        if calibrated:
            calibration = fit(segments_of([one for f, one in said.items() if f != fold]))
        parts.append(reliability(segments_of([own], corpus), calibration))
    return parts


def pooled(parts: Sequence[Reliability]) -> Reliability:
    """All folds' scores in the same bins, each fold weighing the same.

    Where one fold's speakers score too high and another's too low, it is nearer to the diagonal
    than either.
    """
    weight = np.mean([part.weight for part in parts], axis=0)

    def mean(values: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        weighted = [np.nan_to_num(v) * part.weight for v, part in zip(values, parts, strict=True)]
        with np.errstate(invalid="ignore"):
            return np.mean(weighted, axis=0) / weight

    return Reliability(
        mean([part.score for part in parts]), mean([part.right for part in parts]), weight
    )


def logits_by_fold(
    ledger: Ledger, cells: Sequence[Cell], seed: int | None = None
) -> dict[int, SegmentLogits]:
    """One seed's logits by fold, where there are any; by default the first seed's."""
    if seed is None:
        seed = min((cell.seed for cell in cells), default=0)
    found = {cell.fold: ledger.logits(cell) for cell in cells if cell.seed == seed}
    return {fold: said for fold, said in sorted(found.items()) if said is not None}


#: Share of unseen speakers' segments whose largest score is so small that they abstain.
ABSTAIN_SHARE: Final = 0.05


@dataclass(frozen=True)
class Decisive:
    """What turns logits into decisions, found on speakers that the network had not learned from.

    `uncertain_below` is the largest score below which a segment abstains.
    """

    calibration: Calibration
    uncertain_below: float
    neutral_voice: NeutralVoice | None


def from_cells(
    ledger: Ledger,
    experiment: str,
    config_sha256: str,
    init_sha256: str | None,
    corpora: Collection[str],
) -> Decisive:
    """For a model trained on everyone, from what its cross-validation said of unseen speakers.

    Raises `BadParameter` where a fold is missing, where the cells are of another config, of another
    start (`init_sha256`; not all cells tell theirs) or of other corpora than the model's, and where
    their speakers were not unseen.
    """
    cells = ledger.of(experiment)
    if any(cell.config_sha256 != config_sha256 for cell in cells):
        raise BadParameter(
            f"the cells of {experiment} are of config {cells[0].config_sha256[:8]}, "
            f"the model of {config_sha256[:8]}",
            remedy="run glrf crossval with the config that the model was trained with",
        )
    starts = [cell.init_sha256 for cell in cells if cell.init_sha256 != ""]
    if others := [one for one in starts if one != init_sha256]:
        raise BadParameter(
            f"the cells of {experiment} start from {_named(others[0])}, "
            f"the model from {_named(init_sha256)}",
            remedy="run glrf crossval with the --init that the model was trained with",
        )
    if cells and corpora_of(cells) != sorted(corpora):
        raise BadParameter(
            f"the cells of {experiment} are of {', '.join(corpora_of(cells))}, "
            f"the model of {', '.join(sorted(corpora))}",
            remedy="run glrf crossval on the model's own recordings, with --results of its own",
        )
    if ledger.shares_speakers(experiment):
        raise BadParameter(
            f"the folds of {experiment} share speakers: scores of known voices calibrate nothing",
            remedy="run glrf crossval on folds of speakers: glrf corpus split --protocol grouped",
        )
    said = logits_by_fold(ledger, cells)
    if not cells or len(said) != cells[0].n_folds:
        raise BadParameter(
            f"{experiment} has logits of {len(said)} folds, not of all",
            remedy="run its cross-validation to the end: glrf crossval",
        )
    segments = segments_of(list(said.values()))
    calibration = fit(segments)
    largest = calibration.scores(segments.logits.astype(np.float32)).max(axis=1)
    order = np.argsort(largest)
    share = np.cumsum(segments.weight[order])
    uncertain_below = float(largest[order][np.searchsorted(share, ABSTAIN_SHARE)])
    return Decisive(calibration, uncertain_below, neutral_voice(list(said.values())))


def _named(init_sha256: str | None) -> str:
    return "random weights" if init_sha256 is None else f"the weights {init_sha256[:8]}"
