"""Where utterances begin and end, whatever the chunking, and that a state goes on elsewhere."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.endpointing import Closed, Endpointer, Heard, Opened, detector
from ser_core.features import Float32
from ser_core.speech import EnergyDetector
from ser_core.stream_config import StreamConfig
from tests.ser_core.player import FLUSH, play_samples, segments, utterances, whole_spec
from tests.synthetic import RATE_HZ, voice

S = RATE_HZ
HOP = 6_400
VAD = StreamConfig(endpointing="vad")


def _noise(duration_s: float, dbfs: float, seed: int = 0) -> Float32:
    samples = np.random.default_rng(seed).standard_normal(round(duration_s * S))
    return (10 ** (dbfs / 20) * samples).astype(np.float32)


def _pause(duration_s: float) -> Float32:
    return np.zeros(round(duration_s * S), np.float32)


def _endpointer(silence_s: float = 0.7) -> Endpointer:
    features = whole_spec().features
    return Endpointer(features, HOP, EnergyDetector(features), silence_s)


def _spans(audio: Float32, endpointer: Endpointer | None = None) -> list[tuple[int, int]]:
    """Starts and ends of utterances, in samples."""
    endpointer = endpointer or _endpointer()
    told = [*endpointer.accept(audio), *endpointer.flush(len(audio))]
    starts = [item.start for item in told if isinstance(item, Opened)]
    ends = [item.end for item in told if isinstance(item, Closed)]
    return list(zip(starts, ends, strict=True))


def test_an_utterance_lies_around_speech() -> None:
    audio = np.concatenate((_pause(1.03), voice(2 * S), _pause(2), voice(S), _pause(1.5)))
    spans = _spans(audio)
    for (start, end), (begun_s, ended_s) in zip(spans, ((1.03, 3.03), (5.03, 6.03)), strict=True):
        assert 0.1 <= begun_s - start / S <= 0.3
        assert 0.1 <= end / S - ended_s <= 0.4


def test_a_pause_shorter_than_the_silence_cuts_nothing() -> None:
    audio = np.concatenate((voice(S), _pause(0.5), voice(S), _pause(2)))
    assert len(_spans(audio)) == 1
    assert len(_spans(audio, _endpointer(silence_s=0.2))) == 2


@pytest.mark.parametrize("silence_s", [0.1, 0.2, 0.3])
@pytest.mark.parametrize("begun_s", [0.0, 0.13, 0.29])
def test_short_silence_ends_an_utterance_wherever_it_lies(silence_s: float, begun_s: float) -> None:
    """Also between two ends of steps."""
    word = np.concatenate((voice(round(0.5 * S)), _pause(silence_s + 0.06)))
    audio = np.concatenate((_pause(begun_s), *[word] * 20, _pause(1)))
    assert len(_spans(audio, _endpointer(silence_s))) == 20


@pytest.mark.parametrize("pause_s", [0.8, 0.86, 0.93, 1.0, 1.07])
@pytest.mark.parametrize("partial", [True, False])
def test_a_word_before_a_pause_keeps_its_segment_whatever_the_chunks(
    pause_s: float, partial: bool
) -> None:
    """Its end may be told together with the next utterance's beginning."""
    config = replace(VAD, partial=partial)
    for begun_s in np.arange(0, 0.4, 0.05):
        word = voice(round(0.3 * S))
        audio = np.concatenate((_pause(begun_s), word, _pause(pause_s), word, _pause(1.5)))
        told = play_samples(whole_spec(), config, audio)
        assert [utterance.n_segments for utterance in utterances(told)] == [1, 1]
        for n in (HOP, HOP // 4):
            chunks = [audio[i : i + n] for i in range(0, len(audio), n)]
            assert play_samples(whole_spec(), config, *chunks) == told


@pytest.mark.parametrize("silence_s", [0.1, 0.4, 0.7, 2.0])
def test_the_end_is_told_within_a_step_of_the_silence(silence_s: float) -> None:
    endpointer = _endpointer(silence_s)
    told = list(endpointer.accept(np.concatenate((voice(2 * S), _pause(4)))))
    (closed,) = [item for item in told if isinstance(item, Closed)]
    assert silence_s - 0.1 <= (closed.at - 2 * S) / S <= silence_s + 0.4
    assert closed.end < closed.at


@pytest.mark.parametrize("dbfs", [-80, -60, -40, -25])
def test_steady_noise_is_no_speech(dbfs: float) -> None:
    assert _spans(_noise(10, dbfs)) == []


def test_noise_that_begins_is_taken_for_speech_only_for_a_while() -> None:
    spans = _spans(np.concatenate((_noise(3, -70), _noise(12, -40))))
    assert sum(end - start for start, end in spans) < 4 * S


def test_speech_in_noise_is_found() -> None:
    audio = np.concatenate((_pause(2), voice(2 * S), _pause(2)))
    ((start, end),) = _spans(audio + _noise(6, -40))
    assert 1.5 * S < start < 2.1 * S
    assert 3.9 * S < end < 4.6 * S


@pytest.mark.parametrize("duration_s", [0.005, 0.02])
def test_a_click_is_no_utterance(duration_s: float) -> None:
    audio = _pause(3)
    audio[S : S + round(duration_s * S)] = 0.5
    assert _spans(audio) == []


def test_endless_speech_is_cut() -> None:
    spans = _spans(voice(65 * S))
    assert [end - start for start, end in spans[:2]] == [30 * S, 30 * S]
    assert spans[0][1] == spans[1][0]


def test_utterances_do_not_overlap() -> None:
    parts = [part for seed in range(5) for part in (voice(S, seed=seed), _pause(0.9))]
    spans = _spans(np.concatenate(parts))
    assert len(spans) == 5
    assert all(first[1] <= second[0] for first, second in pairwise(spans))


_STREAM = np.concatenate(
    (_pause(0.63), voice(19_000), _pause(1.3), voice(36_000, seed=1), _pause(1), voice(9_000))
)
_STREAM = _STREAM + _noise(len(_STREAM) / S, -62)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(sizes=st.lists(st.integers(0, 12_000), max_size=30))
def test_any_chunking_gives_the_same_utterances(sizes: list[int]) -> None:
    whole = _endpointer()
    expected = _comparable([*whole.accept(_STREAM), *whole.flush(len(_STREAM))])
    assert sum(item[0] is Opened for item in expected) == 3
    endpointer = _endpointer()
    told: list[Opened | Heard | Closed] = []
    for part in np.split(_STREAM, np.minimum(np.cumsum(np.array([0, *sizes])), len(_STREAM))):
        told += endpointer.accept(part)
    told += endpointer.flush(len(_STREAM))
    assert _comparable(told) == expected


def _comparable(items: list[Opened | Heard | Closed]) -> list[tuple[object, ...]]:
    """Comparable, arrays by their bytes."""
    return [
        (
            type(item),
            *(
                value.tobytes() if isinstance(value, np.ndarray) else value
                for value in (getattr(item, name) for name in item.__slots__)
            ),
        )
        for item in items
    ]


@pytest.mark.parametrize("at", range(HOP, len(_STREAM) - HOP, 2_500))
def test_a_state_goes_on_elsewhere(at: int) -> None:
    first = _endpointer()
    list(first.accept(_STREAM[:at]))
    state = json.loads(json.dumps(first.state()))
    expected = [*first.accept(_STREAM[at:]), *first.flush(len(_STREAM))]

    second = _endpointer()
    second.restore(state, _STREAM[state["audio_start"] : state["cursor"]])
    assert state["cursor"] - state["audio_start"] < 2 * S
    told = [*second.accept(_STREAM[state["cursor"] :]), *second.flush(len(_STREAM))]
    assert _comparable(told) == _comparable(expected)


def test_a_state_is_small() -> None:
    endpointer = _endpointer()
    list(endpointer.accept(_STREAM))
    assert len(json.dumps(endpointer.state())) < 500


# --- in a session


class _Unforgetting(Endpointer):
    def _forget(self) -> None:
        """Keeps all audio."""


def _assert_nothing_is_missed(audio: Float32, silence_s: float = 0.7) -> None:
    features = whole_spec().features
    keeps = _Unforgetting(features, HOP, EnergyDetector(features), silence_s)
    told, expected = (
        [*one.accept(audio[:S]), *one.accept(audio[S:]), *one.flush(len(audio))]
        for one in (_endpointer(silence_s), keeps)
    )
    assert len(told) == len(expected)
    for one, other in zip(told, expected, strict=True):
        assert type(one) is type(other)
        for name in one.__slots__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(1, 24)), min_size=1, max_size=12),
    st.sampled_from([0.1, 0.4, 0.7]),
)
def test_what_is_forgotten_is_not_missed(parts: list[tuple[bool, int]], silence_s: float) -> None:
    said = [voice(n * S // 10 + 37) if is_spoken else _pause(n / 10) for is_spoken, n in parts]
    _assert_nothing_is_missed(np.concatenate(said), silence_s)


@pytest.mark.parametrize("gap_s", [0.1, 0.15])
def test_an_onset_may_begin_before_its_step(gap_s: float) -> None:
    for lead in range(S, S + HOP, 160):  # wherever in a step it begins
        parts = (np.zeros(lead), voice(S // 20), _pause(gap_s), voice(S))
        _assert_nothing_is_missed(np.concatenate(parts).astype(np.float32))


def test_segments_are_those_of_the_utterance_alone() -> None:
    audio = np.concatenate((_pause(1), voice(3 * S + 1_234), _pause(2), voice(S), _pause(1)))
    events = play_samples(whole_spec(), VAD, audio)
    assert len(utterances(events)) == 2
    for utterance in utterances(events):
        inside = [s for s in segments(events) if s.utterance_id == utterance.utterance_id]
        scored = [s for s in inside if s.abstain != "no_speech"]
        alone = play_samples(whole_spec(), StreamConfig(), audio[utterance.start : utterance.end])
        assert len(scored) == len(segments(alone)) > 0
        for one, other in zip(scored, segments(alone), strict=True):
            assert one.start - utterance.start == other.start
            assert one.end - utterance.start == other.end
            assert one.partial == other.partial
            np.testing.assert_allclose(
                list(one.scores.values()), list(other.scores.values()), atol=1e-5
            )
        (of_cut,) = utterances(alone)
        assert (utterance.label, utterance.n_segments) == (of_cut.label, of_cut.n_segments)


@pytest.mark.parametrize("pause_s", [0.35, 0.45, 0.55, 0.65])
@pytest.mark.parametrize("silence_s", [0.7, 2.0])
def test_a_short_word_after_a_pause_is_scored(pause_s: float, silence_s: float) -> None:
    """Wherever in a step it lies, with the segment that a recording cut there ends with."""
    config = replace(VAD, endpoint_silence_s=silence_s)
    for said_s in np.arange(0.9, 2.1, 0.05):
        word = voice(round(0.13 * S), seed=2)
        said = np.concatenate((_pause(0.5), voice(round(said_s * S)), _pause(pause_s), word))
        audio = np.concatenate((said, _pause(silence_s + 1)))
        events = play_samples(whole_spec(), config, audio)
        (utterance,) = utterances(events)
        assert utterance.end <= len(said) + HOP
        scored = [s for s in segments(events) if s.utterance_id and s.abstain != "no_speech"]
        last = scored[-1]
        assert last.end <= utterance.end
        assert last.end > len(said) - round(0.13 * S)
        assert last.partial == (utterance.end - utterance.start < 2 * S)
        cut = audio[utterance.start : utterance.end]
        of_cut = segments(play_samples(whole_spec(), StreamConfig(), cut))[-1]
        assert utterance.start + of_cut.end == last.end
        np.testing.assert_allclose(
            list(last.scores.values()), list(of_cut.scores.values()), atol=1e-5
        )


@pytest.mark.parametrize("lead_s", [0.0, 0.7, 1.13, 1.39, 2.31])
@pytest.mark.parametrize("dbfs", [-90, -50])
def test_the_first_label_comes_within_900_ms(lead_s: float, dbfs: float) -> None:
    audio = np.concatenate((_pause(lead_s), voice(3 * S)))
    events = play_samples(whole_spec(), VAD, audio + _noise(len(audio) / S, dbfs))
    first = next(segment for segment in segments(events) if segment.label)
    assert first.end / S - lead_s <= 0.9


def test_silence_is_told_and_not_scored() -> None:
    events = play_samples(whole_spec(), VAD, _noise(4, -60))
    assert [segment.end for segment in segments(events)] == list(range(HOP, 4 * S + 1, HOP))
    for segment in segments(events):
        assert (segment.abstain, segment.label, segment.utterance_id) == ("no_speech", None, None)
        assert segment.start == max(0, segment.end - 2 * S)
        assert segment.partial == (segment.end < 2 * S)
        assert segment.smoothed.label is None
    assert utterances(events) == []
    without = play_samples(whole_spec(), StreamConfig(endpointing="vad", partial=False), _pause(4))
    assert [segment.end for segment in segments(without)] == list(range(2 * S, 4 * S + 1, HOP))


def test_a_flush_ends_the_utterance_and_speech_goes_on_in_the_next() -> None:
    events = play_samples(whole_spec(), VAD, voice(3 * S), FLUSH, voice(3 * S))
    first, second = utterances(events)
    assert (first.end, second.start) == (3 * S, 3 * S)
    assert first.is_final
    assert first.n_segments == second.n_segments == 3
    assert play_samples(whole_spec(), VAD, _pause(1), FLUSH, FLUSH, _pause(0.1)) == [
        *play_samples(whole_spec(), VAD, _pause(1))
    ]


def test_a_word_shorter_than_the_least_segment() -> None:
    audio = np.concatenate((_pause(1), voice(round(0.25 * S)), _pause(2)))
    events = play_samples(whole_spec(), VAD, audio)
    (utterance,) = utterances(events)
    (segment,) = [s for s in segments(events) if s.utterance_id and s.abstain != "no_speech"]
    assert segment.abstain == "too_short"
    assert (segment.start, segment.end) == (utterance.start, utterance.end)
    ends = [event.end for event in segments(events)]
    assert ends == sorted(ends)


def test_channels_are_cut_apart_and_told_in_time() -> None:
    left = np.concatenate((voice(2 * S), _pause(4)))
    right = np.concatenate((_pause(3), voice(2 * S, seed=3), _pause(1)))
    config = StreamConfig(endpointing="vad", n_channels=2)
    events = play_samples(whole_spec(), config, np.stack((left, right), axis=1))
    for channel, samples in enumerate((left, right)):
        alone = play_samples(whole_spec(), VAD, samples)
        here = [s for s in segments(events) if s.channel == channel]
        assert [(s.start, s.end, s.scores) for s in here] == [
            (s.start, s.end, s.scores) for s in segments(alone)
        ]
    ends = [segment.end for segment in segments(events)]
    assert all(later - earlier > -HOP for earlier, later in pairwise(ends))


def test_silero_hears_the_same() -> None:
    features = whole_spec().features
    hears = detector("silero", features)
    assert _spans(_noise(3, -60), Endpointer(features, HOP, hears, 0.7)) == []
    assert hears.state() == {}


@pytest.mark.parametrize("n_rest", [1, 2, 399, 400, 401])
@pytest.mark.parametrize("is_spoken", [True, False])
def test_a_stream_may_end_anywhere_in_a_step(n_rest: int, is_spoken: bool) -> None:
    """Also where what is left holds not one frame."""
    n_samples = 5 * HOP + n_rest
    samples = voice(n_samples) if is_spoken else np.zeros(n_samples, np.float32)
    for cut in (n_samples, 5 * HOP):
        events = play_samples(whole_spec(), VAD, samples[:cut], FLUSH, samples[cut:])
        assert len(utterances(events)) >= is_spoken
