import json

import numpy as np
import pytest

from ser_core.features import Float32
from ser_core.posteriors import Calibration, ChannelTotals, UtteranceMean, named

LABELS = ("angry", "neutral", "sad")


def _scores(*values: float) -> Float32:
    return np.array(values, np.float32)


def test_calibration_is_a_sigmoid_by_label() -> None:
    calibration = Calibration(scale=(1.0, 2.0, 0.5), bias=(0.0, -1.0, 1.0))
    scores = calibration.scores(_scores(0, 1, 2))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array([0.0, 1.0, 2.0]))), rtol=1e-6)
    assert scores.dtype == np.float32


def test_calibration_of_a_batch_is_that_of_each() -> None:
    calibration = Calibration(scale=(1.5, 1.0, 1.0), bias=(0.1, 0.2, 0.3))
    logits = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    each = np.stack([calibration.scores(row) for row in logits])
    np.testing.assert_array_equal(calibration.scores(logits), each)


def test_huge_logits_do_not_overflow() -> None:
    scores = Calibration((1.0,) * 3, (0.0,) * 3).scores(_scores(1e30, -1e30, 0))
    assert scores[0] == 1
    assert scores[1] < 1e-30
    assert scores[2] == 0.5


def test_named() -> None:
    scores = named(_scores(0.5, 0.25, 1), LABELS)
    assert scores == {"angry": 0.5, "neutral": 0.25, "sad": 1.0}
    assert all(type(score) is float for score in scores.values())
    with pytest.raises(ValueError, match="shorter"):
        named(_scores(0.5), LABELS)


def test_nothing_heard_decides_nothing() -> None:
    mean = UtteranceMean(LABELS)
    assert mean.decision.label is None
    assert mean.decision.scores == dict.fromkeys(LABELS, 0.0)
    assert mean.n_segments == 0
    assert not mean.is_pure


def test_mean_of_segments() -> None:
    mean = UtteranceMean(LABELS)
    mean.accept(_scores(0.5, 0.25, 0), partial=False)
    mean.accept(_scores(0.25, 0.75, 0.5), partial=False)
    assert mean.decision.scores == {"angry": 0.375, "neutral": 0.5, "sad": 0.25}
    assert mean.decision.label == "neutral"
    assert mean.n_segments == 2


def test_the_latest_partial_stands_in_until_the_first_whole_one() -> None:
    mean = UtteranceMean(LABELS)
    mean.accept(_scores(1, 0, 0), partial=True)
    assert mean.decision.label == "angry"
    mean.accept(_scores(0, 0, 1), partial=True)
    assert (mean.decision.label, mean.n_segments) == ("sad", 1)
    mean.accept(_scores(0, 0.5, 0), partial=False)
    assert mean.decision.scores == {"angry": 0.0, "neutral": 0.5, "sad": 0.0}
    mean.accept(_scores(0, 0.25, 0), partial=False)
    assert (mean.decision.scores["neutral"], mean.n_segments) == (0.375, 2)


def test_pure_by_the_predictions() -> None:
    mean = UtteranceMean(LABELS)
    mean.accept(_scores(0.9, 0, 0), partial=False)
    mean.accept(_scores(0, 0.6, 0), partial=False)
    assert mean.decision.label == "angry"
    assert mean.is_pure
    mean.accept(_scores(0, 0, 0.1), partial=False)
    assert not mean.is_pure


def test_partials_do_not_spoil_purity() -> None:
    mean = UtteranceMean(LABELS)
    mean.accept(_scores(0, 0, 1), partial=True)
    mean.accept(_scores(1, 0, 0), partial=False)
    assert mean.is_pure


def test_totals_weigh_by_segments() -> None:
    totals = ChannelTotals(LABELS)
    first, second = UtteranceMean(LABELS), UtteranceMean(LABELS)
    for _ in range(3):
        first.accept(_scores(1, 0, 0), partial=False)
    second.accept(_scores(0, 0, 0.5), partial=False)
    totals.accept(first)
    totals.accept(second)
    summary = totals.summary(1)
    assert (summary.channel, summary.label) == (1, "angry")
    assert summary.scores == {"angry": 0.75, "neutral": 0.0, "sad": 0.125}
    assert summary.time_share == {"angry": 0.75, "neutral": 0.0, "sad": 0.25}


def test_totals_of_nothing() -> None:
    summary = ChannelTotals(LABELS).summary(0)
    assert summary.label is None
    assert set(summary.time_share.values()) == set(summary.scores.values()) == {0.0}


def test_restored_mean_and_totals_go_on_bit_for_bit() -> None:
    rng = np.random.default_rng(2)
    mean, totals = UtteranceMean(LABELS), ChannelTotals(LABELS)
    for i in range(9):
        mean.accept(rng.random(3, np.float32), partial=i < 2)
        totals.accept(mean)
        other, others = UtteranceMean(LABELS), ChannelTotals(LABELS)
        other.restore(json.loads(json.dumps(mean.state())))
        others.restore(json.loads(json.dumps(totals.state())))
        scores = rng.random(3, np.float32)
        for one in (mean, other):
            one.accept(scores, partial=i < 1)
        totals.accept(mean)
        others.accept(other)
        assert (mean.decision, mean.n_segments) == (other.decision, other.n_segments)
        assert mean.is_pure == other.is_pure
        assert totals.summary(0) == others.summary(0)


def test_scores_are_those_of_the_decision() -> None:
    mean = UtteranceMean(LABELS)
    mean.accept(_scores(0.1, 0.2, 0.3), partial=False)
    assert named(mean.scores, LABELS) == mean.decision.scores
