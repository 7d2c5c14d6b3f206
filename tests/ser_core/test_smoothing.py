import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.errors import BadParameter
from ser_core.features import Float32
from ser_core.labels import LABELS
from ser_core.smoothing import (
    DEFAULT_HOLDS,
    SMOOTHINGS,
    RunningLabel,
    Smoothing,
    SmoothingConfig,
    Viterbi,
)

RATE_HZ = 16_000
HOP = 6_400
ANGRY, HAPPY, NEUTRAL, SAD, FEAR = range(5)


def _says(label: int, strength: float = 0.8) -> Float32:
    scores = np.full(5, 0.1, np.float32)
    scores[label] = strength
    return scores


def _run(segments: list[Float32], config: SmoothingConfig, n_partial: int = 0) -> list[str | None]:
    running = RunningLabel(LABELS, RATE_HZ)
    told: list[str | None] = []
    for i, scores in enumerate(segments):
        running.accept(scores, config, partial=i < n_partial, end=(i + 2) * HOP)
        told.append(running.decision.label)
    return told


def _free(kind: Smoothing) -> SmoothingConfig:
    return SmoothingConfig(kind, hysteresis=0.0, min_dwell_s=0.0)


def test_nothing_heard_decides_nothing() -> None:
    decision = RunningLabel(LABELS, RATE_HZ).decision
    assert decision.label is None
    assert decision.scores == dict.fromkeys(LABELS, 0.0)


def test_mean_is_the_utterances_own() -> None:
    rng = np.random.default_rng(0)
    running = RunningLabel(LABELS, RATE_HZ)
    for i in range(20):
        running.accept(
            rng.random(5, np.float32), SmoothingConfig("mean"), partial=i < 3, end=i * HOP
        )
        assert running.decision == running.mean.decision


def test_ema_begins_as_the_mean_and_forgets() -> None:
    segments = [_says(SAD)] * 20 + [_says(ANGRY)] * 12
    assert _run(segments, _free("mean"))[-1] == "sad"
    assert _run(segments, _free("ema"))[-1] == "angry"
    running = RunningLabel(LABELS, RATE_HZ)
    running.accept(_says(SAD), _free("ema"), partial=False, end=0)
    assert running.decision == running.mean.decision


@pytest.mark.parametrize("kind", SMOOTHINGS)
def test_one_odd_segment_does_not_change_the_label(kind: Smoothing) -> None:
    segments = [_says(SAD)] * 5 + [_says(HAPPY, 0.7)] + [_says(SAD)] * 5
    assert set(_run(segments, _free(kind))[3:]) == {"sad"}


@pytest.mark.parametrize("kind", ["ema", "viterbi"])
def test_a_lasting_change_is_followed(kind: Smoothing) -> None:
    told = _run([_says(SAD)] * 30 + [_says(HAPPY)] * 15, _free(kind))
    assert told[-1] == "happy"
    assert told.count("happy") >= 3


@pytest.mark.parametrize("kind", SMOOTHINGS)
def test_partial_segments_stand_in_until_the_next(kind: Smoothing) -> None:
    partial = [_says(HAPPY), _says(FEAR)]
    after = [_says(SAD), _says(SAD, 0.6), _says(ANGRY, 0.7)]
    assert _run(partial + after, _free(kind), n_partial=2)[2:] == _run(after, _free(kind))


def test_viterbi_pays_more_for_a_farther_change() -> None:
    def n_until(label: int) -> int:
        told = _run([_says(ANGRY)] * 10 + [_says(label, 0.3)] * 30, _free("viterbi"))
        return told.index(LABELS[label]) - 10

    assert n_until(FEAR) < n_until(SAD)


def test_viterbi_scores_are_probabilities() -> None:
    viterbi = Viterbi(LABELS)
    for scores in (_says(ANGRY, 1.0), np.zeros(5, np.float32), _says(SAD)):
        viterbi.accept(scores, partial=False)
        assert viterbi.scores.sum() == pytest.approx(1)
        assert viterbi.scores.min() > 0


def test_viterbi_of_labels_without_a_place_in_the_plane() -> None:
    viterbi = Viterbi(("bored", "calm"))
    for scores, best in (([0.4, 0.9], 1), ([0.5, 0.4], 1), ([0.9, 0.1], 0)):
        viterbi.accept(np.array(scores, np.float32), partial=False)
        assert viterbi.scores.argmax() == best


def test_hysteresis_asks_for_a_lead() -> None:
    segments = [_says(SAD), _says(HAPPY, 0.95)]  # happy leads by 0.075 in the mean
    assert _run(segments, SmoothingConfig("mean", 0.07, 0.0)) == ["sad", "happy"]
    assert _run(segments, SmoothingConfig("mean", 0.08, 0.0)) == ["sad", "sad"]


def test_a_label_dwells() -> None:
    segments = [_says(SAD, 0.2)] + [_says(HAPPY)] * 5
    told = _run(segments, SmoothingConfig("mean", 0.0, 1.2))
    assert told == ["sad", "sad", "sad", "happy", "happy", "happy"]
    assert _run(segments, SmoothingConfig("mean", 0.0, 0.0))[1] == "happy"


def test_a_smoothing_changed_on_the_way() -> None:
    running = RunningLabel(LABELS, RATE_HZ)
    for i in range(10):
        running.accept(_says(SAD), _free("mean"), partial=False, end=i * HOP)
    running.accept(_says(HAPPY), _free("ema"), partial=False, end=10 * HOP)
    assert running.decision.label == "happy"  # begins there
    running.accept(_says(HAPPY), _free("mean"), partial=False, end=11 * HOP)
    assert running.decision == running.mean.decision  # knows the whole utterance
    assert running.decision.label == "sad"


def test_options_are_checked() -> None:
    with pytest.raises(BadParameter, match="'median' is not known") as caught:
        SmoothingConfig("median")  # type: ignore[arg-type]
    assert "mean or ema or viterbi" in caught.value.remedy
    for value in (-0.01, 1.01, float("nan")):
        with pytest.raises(BadParameter, match="hysteresis="):
            SmoothingConfig(hysteresis=value)
    for value in (-0.01, 60.1, float("nan")):
        with pytest.raises(BadParameter, match="min_dwell of"):
            SmoothingConfig(min_dwell_s=value)


@pytest.mark.parametrize("kind", SMOOTHINGS)
def test_what_is_not_said_is_the_smoothings_own(kind: Smoothing) -> None:
    assert SmoothingConfig(kind).hold == DEFAULT_HOLDS[kind]
    given = SmoothingConfig(kind, hysteresis=0.0, min_dwell_s=0.0).hold
    assert (given.hysteresis, given.min_dwell_s) == (0.0, 0.0)
    # The paper's mean, as it is.
    assert (DEFAULT_HOLDS["mean"].hysteresis, DEFAULT_HOLDS["mean"].min_dwell_s) == (0.0, 0.0)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(data=st.data())
def test_a_restored_label_goes_on_bit_for_bit(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(SMOOTHINGS), min_size=2, max_size=8))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    one = RunningLabel(LABELS, RATE_HZ)
    for i, kind in enumerate(kinds):
        config = SmoothingConfig(kind, hysteresis=0.05, min_dwell_s=0.8)
        other = RunningLabel(LABELS, RATE_HZ)
        other.restore(json.loads(json.dumps(one.state())))
        assert other.decision == one.decision
        scores = rng.random(5, np.float32)
        for running in (one, other):
            running.accept(scores, config, partial=i < 2, end=i * HOP)
        assert other.decision == one.decision
        assert other.mean.decision == one.mean.decision
        assert other.state() == one.state()
        one = other
    assert len(json.dumps(one.state())) < 1000
