import json
from dataclasses import replace

import numpy as np
import pytest

from ser_core.baseline import Baseline, NeutralVoice, Span
from ser_core.errors import BadParameter
from ser_core.features import Float32
from ser_core.session import StreamSession
from ser_core.stream_config import StreamConfig
from tests.ser_core.player import FLUSH, play, play_samples, segments, utterances, whole_spec
from tests.synthetic import RATE_HZ as S
from tests.synthetic import voice

NEUTRAL = NeutralVoice((1.0, 0.0, -1.0), share=0.5)
NEXT = np.zeros(3, np.float32)


def _logits(*values: float) -> Float32:
    return np.array(values, np.float32)


def _hear(baseline: Baseline, value: float, start: int, end: int, *, partial: bool = False) -> None:
    baseline.accept(_logits(value, value, value), Span(start, end, partial), is_clear=True)


def _taken_off(baseline: Baseline) -> list[float]:
    return (NEXT - baseline.accept(NEXT, Span(900, 901, False), is_clear=False)).tolist()


def test_a_segment_weighs_as_much_as_it_was_the_first_to_hear() -> None:
    baseline = Baseline(NEUTRAL, 130)
    _hear(baseline, 2, 0, 100)
    _hear(baseline, 4, 20, 120)
    _hear(baseline, 6, 40, 140)
    _hear(baseline, 99, 60, 160)  # enough was heard before
    assert _taken_off(baseline) == [0, 0, 0]  # not within the utterance
    baseline.end_utterance(170)
    mean = (100 * 2 + 20 * 4 + 20 * 6) / 140
    np.testing.assert_allclose(
        _taken_off(baseline), 0.5 * (mean - np.array(NEUTRAL.logits)), rtol=1e-6
    )
    assert baseline.end == 170


def test_it_waits_until_enough_was_heard() -> None:
    baseline = Baseline(NEUTRAL, 130)
    _hear(baseline, 2, 0, 100)
    baseline.end_utterance(100)
    assert baseline.end is None
    assert _taken_off(baseline) == [0, 0, 0]
    _hear(baseline, 5, 200, 300)
    baseline.end_utterance(300)
    assert _taken_off(baseline) == pytest.approx([1.25, 1.75, 2.25])
    _hear(baseline, 50, 400, 500)
    baseline.end_utterance(500)
    assert baseline.end == 300
    assert _taken_off(baseline) == pytest.approx([1.25, 1.75, 2.25])


def test_a_partial_segment_counts_where_no_whole_one_follows() -> None:
    baseline = Baseline(NEUTRAL, 150)
    _hear(baseline, 90, 0, 40, partial=True)
    _hear(baseline, 90, 0, 80, partial=True)
    _hear(baseline, 3, 0, 100)
    baseline.end_utterance(110)
    _hear(baseline, 90, 200, 240, partial=True)
    _hear(baseline, 9, 200, 250, partial=True)
    baseline.end_utterance(255)
    assert _taken_off(baseline) == pytest.approx([2.0, 2.5, 3.0])  # half of 5 less neutral


def test_what_is_not_clear_tells_nothing() -> None:
    baseline = Baseline(NEUTRAL, 100)
    for partial in (True, False):
        baseline.accept(_logits(9, 9, 9), Span(0, 100, partial), is_clear=False)
    baseline.end_utterance(100)
    assert baseline.end is None


def test_it_goes_on_from_any_state() -> None:
    def steps(baseline: Baseline, first: int = 0) -> list[object]:
        told: list[object] = []
        for step in range(first, 12):
            start = 100 * step
            if step % 3 == 2:
                baseline.end_utterance(start)
            else:
                logits = _logits(step / 7, step, 0.1)
                span = Span(start, start + 70, step % 2 == 0)
                told += baseline.accept(logits, span, is_clear=step != 4).tolist()
            told.append(baseline.end)
            states.append((step + 1, len(told), json.dumps(baseline.state())))
        return told

    states: list[tuple[int, int, str]] = []
    whole = steps(Baseline(NEUTRAL, 250))
    assert any(end for end in whole[3::4])
    for step, n_told, state in states[:]:
        resumed = Baseline(NEUTRAL, 250)
        resumed.restore(json.loads(state))
        assert steps(resumed, step) == whole[n_told:]


def _expected(
    raw: dict[str, float], first: list[dict[str, float]], weights: list[float]
) -> list[float]:
    neutral = whole_spec().neutral_voice
    assert neutral is not None
    logit = np.vectorize(lambda p: np.log(p / (1 - p)))
    heard = np.average([logit(list(s.values())) for s in first], axis=0, weights=weights)
    moved = logit(list(raw.values())) - neutral.share * (heard - np.array(neutral.logits))
    return (1 / (1 + np.exp(-moved))).tolist()


@pytest.mark.parametrize("partial", [True, False])
def test_utterances_after_the_first_are_relative_to_it(partial: bool) -> None:
    parts = voice(int(2.5 * S)), FLUSH, voice(int(2.9 * S), pitch_hz=220, seed=3)
    plain = StreamConfig(partial=partial)
    before = segments(play_samples(whole_spec(), plain, *parts))
    after = segments(play_samples(whole_spec(), replace(plain, baseline_s=2.2), *parts))
    assert len(before) == len(after)
    first = [s for s in before if s.utterance_id == "0-0"]
    whole = [s.scores for s in first if not s.partial]
    assert len(whole) == 2
    assert after[: len(first)] == first
    assert len(before) > len(first)
    for raw, relative in list(zip(before, after, strict=True))[len(first) :]:
        assert list(relative.scores.values()) == pytest.approx(
            _expected(raw.scores, whole, [2.0, 0.4]), abs=1e-5
        )


def test_each_channel_has_its_own_and_the_summary_tells_where_it_ended() -> None:
    config = StreamConfig(n_channels=2, baseline_s=1.5)
    quiet = np.zeros(2 * S, np.float32)
    session = StreamSession(whole_spec(), config)
    assert [summary.baseline_end for summary in session.summaries()] == [None, None]
    stereo = np.stack((voice(2 * S), quiet), axis=1)
    data = np.rint(stereo * 32767).astype("<i2").tobytes()
    play(session, [data, FLUSH])
    assert [summary.baseline_end for summary in session.summaries()] == [2 * S, None]


def test_utterances_themselves_are_relative() -> None:
    parts = voice(3 * S), FLUSH, voice(3 * S)
    plain = utterances(play_samples(whole_spec(), StreamConfig(), *parts))
    relative = utterances(play_samples(whole_spec(), StreamConfig(baseline_s=2), *parts))
    assert plain[0].scores == plain[1].scores == relative[0].scores
    assert relative[1].scores != plain[1].scores


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline_s": 0.5}, r"a baseline of 0.5 s is out of range"),
        ({"baseline_s": 61}, r"a baseline of 61 s is out of range"),
        ({"baseline_s": -1}, r"a baseline of -1 s is out of range"),
        ({"baseline_s": 5, "endpointing": "off"}, "baseline with endpointing=off"),
    ],
)
def test_what_cannot_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        StreamConfig(**options)  # type: ignore[arg-type]


def test_a_model_without_a_neutral_voice() -> None:
    spec = replace(whole_spec(), neutral_voice=None)
    with pytest.raises(BadParameter, match=r"tiny@1.0.0 knows no neutral voice"):
        StreamSession(spec, StreamConfig(baseline_s=5))
