"""The session's contract on ordinary input; bad input and chunking have files of their own."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.decode import ENCODINGS, Encoding
from ser_core.errors import BadParameter, UnsupportedEncoding
from ser_core.events import Event, Segment, Usage, Utterance
from ser_core.features import mfcc
from ser_core.labels import is_pure
from ser_core.model_file import Thresholds
from ser_core.posteriors import Calibration
from ser_core.session import StreamSession
from ser_core.smoothing import SMOOTHINGS, Smoothing, SmoothingConfig
from ser_core.stream_config import StreamConfig
from tests.ser_core.player import (
    FLUSH,
    answer,
    encode,
    play,
    play_samples,
    segments,
    short_spec,
    utterances,
    whole_spec,
)
from tests.synthetic import RATE_HZ, logits, voice

S = RATE_HZ  # samples a second


def _spans(events: list[Event]) -> list[tuple[int, int, bool]]:
    return [(segment.start, segment.end, segment.partial) for segment in segments(events)]


# --- the grid


def test_segments_of_two_seconds_every_400_ms() -> None:
    events = play_samples(whole_spec(), StreamConfig(), voice(4 * S))
    partial = [(0, end, True) for end in (12_800, 19_200, 25_600)]
    whole = [(end - 2 * S, end, False) for end in range(2 * S, 4 * S + 1, 6_400)]
    assert _spans(events) == partial + whole
    assert [segment.index for segment in segments(events)] == list(range(len(partial + whole)))
    assert {segment.utterance_id for segment in segments(events)} == {"0-0"}


def test_without_partial_segments_the_first_comes_at_two_seconds() -> None:
    events = play_samples(whole_spec(), StreamConfig(partial=False), voice(3 * S))
    assert [end for _, end, partial in _spans(events) if not partial] == [32_000, 38_400, 44_800]
    assert not any(partial for _, _, partial in _spans(events))


@pytest.mark.parametrize("partial", [True, False])
@pytest.mark.parametrize(
    ("n_samples", "last"),
    [
        (0, None),
        (1, None),
        (399, None),  # less than one frame
        (400, (400, "too_short")),
        (6_399, (6_399, "too_short")),
        (6_400, (6_400, "too_short")),  # exactly one hop
        (6_479, (6_400, "too_short")),  # no whole frame after it
        (12_799, (12_799, "too_short")),
        (12_800, (12_800, None)),
        (25_600, (25_600, None)),
        (31_700, (31_700, None)),
    ],
)
def test_a_short_utterance_has_one_last_segment(
    n_samples: int, last: tuple[int, str | None] | None, partial: bool
) -> None:
    events = play_samples(whole_spec(), StreamConfig(partial=partial), voice(n_samples))
    found = segments(events)
    if last is None:
        assert found == []
    else:
        end, abstain = last
        assert (found[-1].end, found[-1].partial, found[-1].abstain) == (end, True, abstain)
        assert (found[-1].label is None) == (abstain is not None)
        assert len([segment for segment in found if segment.end == end]) == 1
        assert partial or len(found) == 1
    told = utterances(events)
    assert [(utterance.start, utterance.end) for utterance in told] == (
        [(0, n_samples)] if n_samples else []
    )
    assert all(utterance.n_segments == (last is not None) for utterance in told)


def test_nearly_two_seconds_fill_a_whole_segment() -> None:
    # 31,920 samples hold all 198 frames of a segment.
    assert whole_spec().features.n_frames(31_920) == whole_spec().n_frames
    spans = _spans(play_samples(whole_spec(), StreamConfig(), voice(31_920)))
    assert spans[-1] == (0, 31_920, False)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_times_at_other_rates(rate_hz: int) -> None:
    config = StreamConfig(sample_rate_hz=rate_hz)
    part = voice(rate_hz * 23 // 10 + 7, rate_hz)
    events = play_samples(whole_spec(), config, part, FLUSH, part)
    first, second = utterances(events)
    n_each = len(part) * RATE_HZ // rate_hz
    assert (first.start, first.end, second.start) == (0, n_each, n_each)
    assert second.end == 2 * len(part) * RATE_HZ // rate_hz
    for utterance in (first, second):
        inside = [
            event for event in segments(events) if event.utterance_id == utterance.utterance_id
        ]
        assert inside
        for segment in inside:
            assert utterance.start <= segment.start < segment.end <= utterance.end
            assert segment.end - segment.start <= 2 * S
    spans = [(a.start - b.start, a.partial) for a, b in _pairs(events)]
    assert spans == [(n_each, a.partial) for a, _ in _pairs(events)]


def _pairs(events: list[Event]) -> list[tuple[Segment, Segment]]:
    """Segments of the second utterance beside those of the first."""
    by_id: dict[str | None, list[Segment]] = {}
    for segment in segments(events):
        by_id.setdefault(segment.utterance_id, []).append(segment)
    first, second = by_id.values()
    return list(zip(second, first, strict=True))


@pytest.mark.parametrize("rate_hz", [11_025, 22_050, 44_100])
@pytest.mark.parametrize("n_samples", [276, 551, 2_067, 13_781])
def test_no_segment_ends_after_its_utterance(rate_hz: int, n_samples: int) -> None:
    # Rounded, the resampler's output can be one sample longer than what was received.
    session = StreamSession(whole_spec(), StreamConfig(sample_rate_hz=rate_hz))
    session.receive_samples(voice(n_samples, rate_hz)[:, None])
    session.close()
    answer(session, session.segments_to_score())
    events = list(session.events())
    (utterance,) = utterances(events)
    assert all(segment.end <= utterance.end for segment in segments(events))
    assert session.usage.speech_samples <= session.usage.audio_samples


# --- scores


def test_scores_are_those_of_the_model_on_the_segment_alone() -> None:
    samples = voice(3 * S)
    spec = replace(
        whole_spec(), calibration=Calibration((1.5, 1.0, 0.5, 2.0, 1.0), (0.1, 0.0, -0.3, 0.2, 0.0))
    )
    for segment in segments(play_samples(spec, StreamConfig(), samples)):
        if segment.partial:
            continue
        features = mfcc(samples[segment.start : segment.end], spec.features)
        expected = spec.calibration.scores(logits(features[None])[0])
        np.testing.assert_allclose(list(segment.scores.values()), expected, atol=1e-6)
        assert segment.label == spec.labels[int(np.argmax(expected))]
        assert list(segment.scores) == list(spec.labels)


@pytest.mark.parametrize("kind", SMOOTHINGS)
def test_utterance_is_the_mean_of_its_whole_segments(kind: Smoothing) -> None:
    config = StreamConfig(smoothing=SmoothingConfig(kind))
    events = play_samples(whole_spec(), config, voice(4 * S), FLUSH, voice(3 * S, seed=3))
    for utterance in utterances(events):
        inside = [
            segment
            for segment in segments(events)
            if segment.utterance_id == utterance.utterance_id and not segment.partial
        ]
        mean = np.mean([list(segment.scores.values()) for segment in inside], axis=0)
        np.testing.assert_allclose(list(utterance.scores.values()), mean, atol=1e-6)
        assert utterance.label == list(utterance.scores)[int(np.argmax(mean))]
        assert utterance.n_segments == len(inside)
        labels = [segment.label for segment in inside if segment.label]
        assert utterance.label is not None
        assert utterance.pure == is_pure(utterance.label, labels)
        assert (inside[-1].smoothed.scores == utterance.scores) == (kind == "mean")


def test_a_partial_segment_repeats_what_was_heard() -> None:
    samples = voice(12_800)
    spec = whole_spec()
    (segment,) = segments(play_samples(spec, StreamConfig(), samples))
    heard = mfcc(samples, spec.features)
    filled = np.concatenate([heard] * 3)[: spec.n_frames]
    np.testing.assert_allclose(
        list(segment.scores.values()),
        spec.calibration.scores(logits(filled[None])[0]),
        atol=1e-6,
    )


def test_an_uncertain_segment_has_scores_but_no_label() -> None:
    spec = replace(whole_spec(), thresholds=Thresholds(uncertain_below=1.0, min_samples=12_800))
    events = play_samples(spec, StreamConfig(), voice(3 * S))
    assert {segment.abstain for segment in segments(events)} == {"uncertain"}
    assert all(segment.label is None for segment in segments(events))
    assert all(max(segment.scores.values()) > 0 for segment in segments(events))
    assert utterances(events)[0].label is not None


def test_summaries_and_usage() -> None:
    session = StreamSession(whole_spec(), StreamConfig(n_channels=2))
    stereo = np.stack((voice(3 * S), np.zeros(3 * S, np.float32)), axis=1)
    events = play(session, [encode(stereo, "pcm_s16le")])
    spoken, silent = session.summaries()
    assert (spoken.channel, silent.channel) == (0, 1)
    assert (spoken.label, spoken.scores) == (
        utterances(events)[0].label,
        utterances(events)[0].scores,
    )
    assert sum(spoken.time_share.values()) == pytest.approx(1)
    assert silent.label is None
    assert sum(silent.time_share.values()) == 0
    assert session.usage == Usage(
        audio_samples=6 * S, speech_samples=44_800, n_segments=len(segments(events))
    )
    assert session.received_samples == 3 * S


# --- utterances


def test_flush_ends_the_utterance() -> None:
    part = voice(5 * 6_400)
    events = play_samples(whole_spec(), StreamConfig(), part, FLUSH, part, FLUSH, FLUSH)
    assert [
        (utterance.utterance_id, utterance.start, utterance.end, utterance.is_final)
        for utterance in utterances(events)
    ] == [("0-0", 0, 32_000, True), ("0-1", 32_000, 64_000, True)]
    half = len(events) // 2
    for first, second in zip(events[:half], events[half:], strict=True):
        # The second utterance is told as the first was: nothing of the one leaks into the other.
        if isinstance(first, Segment | Utterance):
            assert isinstance(second, Segment | Utterance)
            assert second.scores == first.scores
            assert second.start == first.start + 32_000
    assert isinstance(events[half - 1], Utterance)


def test_index_goes_on_over_utterances() -> None:
    events = play_samples(whole_spec(), StreamConfig(), voice(S), FLUSH, voice(S))
    assert [segment.index for segment in segments(events)] == list(range(len(segments(events))))


def test_endpointing_off_keeps_one_utterance() -> None:
    config = StreamConfig(endpointing="off")
    parts = voice(2 * S), voice(2 * S, seed=1)
    events = play_samples(whole_spec(), config, parts[0], FLUSH, parts[1], FLUSH)
    told = utterances(events)
    assert [(utterance.end, utterance.is_final) for utterance in told] == [
        (2 * S, False),
        (4 * S, False),
        (4 * S, True),
    ]
    assert {utterance.utterance_id for utterance in told} == {"0-0"}
    assert told[1].scores == told[2].scores
    unflushed = play_samples(whole_spec(), config, np.concatenate(parts))
    assert segments(events) == segments(unflushed)
    assert told[-1] == utterances(unflushed)[-1]


def test_close_is_final_and_repeats_nothing() -> None:
    session = StreamSession(whole_spec(), StreamConfig())
    events = play(session, [encode(voice(S), "pcm_s16le")])
    assert utterances(events)[-1].is_final
    session.close()
    assert list(session.events()) == []
    with pytest.raises(RuntimeError, match="closed"):
        session.receive_samples(np.zeros((1, 1), np.float32))


def test_nothing_sent_tells_nothing() -> None:
    session = StreamSession(whole_spec(), StreamConfig(n_channels=2))
    assert play(session, [b"", FLUSH, b""]) == []
    assert session.usage == Usage(0, 0, 0)


# --- answers


@settings(derandomize=True, deadline=None, max_examples=25)
@given(data=st.data())
def test_answers_in_any_order_give_the_same_events(data: st.DataObject) -> None:
    config = StreamConfig(n_channels=2)
    stereo = np.stack((voice(6_000), voice(6_000, seed=1)), axis=1)
    expected = play_samples(short_spec(), config, stereo, FLUSH, stereo)

    session = StreamSession(short_spec(), config)
    session.receive_samples(stereo)
    session.flush()
    session.receive_samples(stereo)
    session.close()
    requests = data.draw(st.permutations(session.segments_to_score()))
    events: list[Event] = []
    for n_left, request in zip(range(len(requests), 0, -1), requests, strict=True):
        assert session.n_awaiting == n_left
        if data.draw(st.booleans()):
            events += session.events()
        answer(session, [request])
    assert session.n_awaiting == 0
    assert events + list(session.events()) == expected


def test_events_wait_for_the_first_unanswered_segment() -> None:
    session = StreamSession(whole_spec(), StreamConfig())
    session.receive_samples(voice(3 * S)[:, None])
    session.close()
    first, *others = session.segments_to_score()
    answer(session, others)
    assert list(session.events()) == []
    answer(session, [first])
    assert len(list(session.events())) == len(others) + 2  # with the utterance


def test_each_request_is_handed_out_and_answered_once() -> None:
    session = StreamSession(whole_spec(), StreamConfig())
    session.receive_samples(voice(S)[:, None])
    (request, *_) = session.segments_to_score()
    assert request.features.shape == (198, 13)
    assert request.features.dtype == np.float32
    assert session.segments_to_score() == []
    answer(session, [request])
    with pytest.raises(KeyError):
        answer(session, [request])


# --- channels


def test_channels_are_scored_apart() -> None:
    left, right = voice(3 * S), voice(3 * S, pitch_hz=230, seed=5)
    stereo = np.stack((left, right), axis=1)
    events = play_samples(whole_spec(), StreamConfig(n_channels=2), stereo)
    for channel, samples in enumerate((left, right)):
        alone = segments(play_samples(whole_spec(), StreamConfig(), samples))
        together = [segment for segment in segments(events) if segment.channel == channel]
        assert [segment.scores for segment in together] == [segment.scores for segment in alone]
        assert {segment.utterance_id for segment in together} == {f"{channel}-0"}


def test_channels_advance_together() -> None:
    stereo = np.stack((voice(3 * S), voice(3 * S, seed=5)), axis=1)
    ends = [
        (segment.end, segment.channel)
        for segment in segments(play_samples(whole_spec(), StreamConfig(n_channels=2), stereo))
    ]
    assert ends == sorted(ends)


@pytest.mark.parametrize("off", [0, 1])
@pytest.mark.parametrize("rate_hz", [8_000, 16_000])
def test_a_channel_that_is_off_never_reaches_the_model(off: int, rate_hz: int) -> None:
    rng = np.random.default_rng(0)
    spoken = voice(3 * rate_hz, rate_hz)
    noise = rng.uniform(-3, 3, len(spoken)).astype(np.float32)  # loud, and clipped
    noise[::100] = np.nan
    config = StreamConfig(
        encoding="pcm_f32le",
        sample_rate_hz=rate_hz,
        n_channels=2,
        scored=(off != 0, off != 1),
    )
    seen = []
    for other in (noise, np.zeros_like(spoken), np.full_like(spoken, 0.9)):
        session = StreamSession(whole_spec(), config)
        pair = (other, spoken) if off == 0 else (spoken, other)
        session.receive_audio(encode(np.stack(pair, axis=1), "pcm_f32le"))
        session.close()
        requests = session.segments_to_score()
        answer(session, requests)
        features = [request.features.tobytes() for request in requests]
        seen.append((features, list(session.events()), session.summaries(), session.usage))
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0][0]) == 6  # 1.2 s to 2.8 s, 0.8 s among them, of one channel
    alone = play_samples(whole_spec(), StreamConfig(sample_rate_hz=rate_hz), spoken)
    assert [event.scores for event in segments(seen[0][1])] == [
        event.scores for event in segments(alone)
    ]
    assert {segment.channel for segment in segments(seen[0][1])} == {1 - off}


def test_no_channel_scored_at_all() -> None:
    session = StreamSession(whole_spec(), StreamConfig(scored=(False,)))
    assert play(session, [encode(voice(3 * S), "pcm_s16le"), FLUSH]) == []
    assert session.summaries() == []
    assert session.received_samples == 3 * S


# --- config


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("n_channels", [1, 2])
def test_frame_bytes(encoding: Encoding, n_channels: int) -> None:
    session = StreamSession(whole_spec(), StreamConfig(encoding=encoding, n_channels=n_channels))
    session.receive_audio(bytes(session.frame_bytes * 7))
    assert session.received_samples == 7


@pytest.mark.parametrize("rate_hz", [0, 1, 7_999, 48_001, 192_000])
def test_rate_out_of_range(rate_hz: int) -> None:
    with pytest.raises(BadParameter, match=f"sample_rate={rate_hz} is out of range") as caught:
        StreamConfig(sample_rate_hz=rate_hz)
    assert "8000 to 48000" in caught.value.remedy


def test_files_may_have_higher_rates() -> None:
    config = StreamConfig(sample_rate_hz=192_000, max_rate_hz=192_000)
    assert segments(play_samples(whole_spec(), config, voice(192_000, 192_000)))


@pytest.mark.parametrize("n_channels", [-1, 0, 3, 1024])
def test_channels_out_of_range(n_channels: int) -> None:
    with pytest.raises(BadParameter, match=f"channels={n_channels} is out of range"):
        StreamConfig(n_channels=n_channels)


@pytest.mark.parametrize(("scored", "n_channels"), [((True,), 2), ((True, False), 1), ((), 1)])
def test_one_role_a_channel(scored: tuple[bool, ...], n_channels: int) -> None:
    with pytest.raises(BadParameter, match="roles name"):
        StreamConfig(n_channels=n_channels, scored=scored)


def test_unknown_encoding() -> None:
    with pytest.raises(UnsupportedEncoding, match="'gsm'"):
        StreamSession(whole_spec(), StreamConfig(encoding="gsm"))  # type: ignore[arg-type]
