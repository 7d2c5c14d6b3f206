"""What lines add up to, on lines made by hand."""

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_core.labels import LABELS, affect_of
from ser_core.stream_config import StreamConfig
from service import wire
from service.call import Call, Interval
from service.requests import Role
from service.tally import CHANGE_MS, CallTally, Margins, Span, common, gaps, length_ms, speech

HOP_MS, SEGMENT_MS = 400, 2_000
BOTH = (Role("customer"), Role("agent"))
MARGINS = Margins(200, 200)


def scores_of(label: str | None) -> dict[str, float]:
    return {name: 0.8 if name == label else 0.05 for name in LABELS}


def segment(
    end_ms: int,
    label: str | None,
    *,
    begin_ms: int = 0,
    channel: int = 0,
    abstain: str | None = None,
    utterance_id: str | None = "0-0",
) -> wire.SegmentLine:
    """The segment that ends at `end_ms`, of an utterance that began at `begin_ms`."""
    return wire.SegmentLine(
        channel=channel,
        role=None,
        index=0,
        start_ms=max(begin_ms, end_ms - SEGMENT_MS),
        end_ms=end_ms,
        partial=end_ms - begin_ms < SEGMENT_MS,
        scores=scores_of(label),
        label=None if abstain else label,
        abstain=abstain,  # type: ignore[arg-type]
        smoothed=wire.Decision(label=label, scores=scores_of(label)),
        utterance_id=utterance_id,
    )


def utterance(start_ms: int, end_ms: int, channel: int = 0) -> wire.UtteranceLine:
    return wire.UtteranceLine(
        channel=channel,
        role=None,
        utterance_id=f"{channel}-{start_ms}",
        start_ms=start_ms,
        end_ms=end_ms,
        is_final=True,
        label="angry",
        scores=scores_of("angry"),
        n_segments=1,
        pure=True,
    )


def heard(labels: Sequence[str | None], *, start_ms: int = 0, **fields) -> CallTally:
    """An utterance whose running label was one of these at each hop from 0.8 s on."""
    tally = CallTally(LABELS)
    for index, label in enumerate(labels):
        end_ms = start_ms + (index + 2) * HOP_MS
        tally.accept(segment(end_ms, label, begin_ms=start_ms, **fields))
    return tally


def turns(tally: CallTally) -> list[tuple[int, str, str, int, int]]:
    return [
        (point.start_ms, point.from_label, point.to_label, point.lasted_ms, point.heard_ms)
        for point in tally.turning_points(0)
    ]


def test_a_label_that_stays_is_a_turning_point_and_tells_how_long() -> None:
    tally = heard(["neutral"] * 20 + ["angry"] * 15 + ["sad"] * 12)
    angry_ms, sad_ms = 21 * HOP_MS, 36 * HOP_MS
    assert turns(tally) == [
        (angry_ms, "neutral", "angry", 15 * HOP_MS, 15 * HOP_MS),
        (sad_ms, "angry", "sad", 12 * HOP_MS, 12 * HOP_MS),
    ]


@pytest.mark.parametrize(("n_hops", "n_turns"), [(1, 0), (15, 0), (16, 2)])
def test_a_blip_is_no_turning_point(n_hops: int, n_turns: int) -> None:
    """Who turns and turns back must be heard for more than 6 s; a hop is 0.4 s."""
    there_and_back = heard(["neutral"] * 20 + ["angry"] * n_hops + ["neutral"] * 20)
    assert len(turns(there_and_back)) == n_turns


def test_a_blip_does_not_undo_a_turning_point() -> None:
    stammered = ["angry", "angry", "sad", "angry", "neutral", "angry", "fear", "angry"] * 4
    assert turns(heard(["neutral"] * 20 + stammered)) == [
        (21 * HOP_MS, "neutral", "angry", 32 * HOP_MS, 20 * HOP_MS)
    ]


def test_what_a_channel_begins_with_is_none_however_it_stuttered() -> None:
    assert turns(heard(["happy"] * 3 + ["neutral"] * 30)) == []
    assert turns(heard([])) == []


def test_a_turn_may_be_made_of_short_answers_and_the_silence_between_is_not_heard() -> None:
    tally = heard(["neutral"] * 20)
    for index in range(4):
        begin_ms = 60_000 + 10_000 * index
        for end_ms in (800, 1200):
            line = segment(
                begin_ms + end_ms, "happy", begin_ms=begin_ms, utterance_id=f"0-{1 + index}"
            )
            tally.accept(line)
        tally.accept(segment(begin_ms + 5_000, None, abstain="no_speech", utterance_id=None))
    assert turns(tally) == [(60_000, "neutral", "happy", 31_200, 4 * 1_200)]


@pytest.mark.parametrize("abstain", ["uncertain", "clipped", "too_short"])
def test_segments_that_abstain_speak_for_nothing(abstain: str) -> None:
    tally = heard(["neutral"] * 20)
    for index in range(30):
        tally.accept(segment(8_800 + index * HOP_MS, "angry", abstain=abstain))
    assert turns(tally) == []
    for index in range(10):
        tally.accept(segment(20_800 + index * HOP_MS, "angry"))
    assert turns(tally) == [(20_400, "neutral", "angry", 4_000, 4_000)]


@given(st.lists(st.sampled_from(["angry", "neutral", "sad"]), max_size=120))
def test_turning_points_are_consecutive_and_long_enough(labels: list[str | None]) -> None:
    points = heard(labels).turning_points(0)
    for before, after in pairwise(points):
        assert before.start_ms + before.lasted_ms == after.start_ms
        assert before.to_label == after.from_label
    for point in points:
        assert point.from_label != point.to_label
        assert CHANGE_MS <= point.heard_ms <= point.lasted_ms


# --- who speaks when -------------------------------------------------------------------------


def call_of(
    lines: Sequence[object],
    duration_ms: int,
    roles: Sequence[Role] = BOTH,
    margins: Margins | None = MARGINS,
) -> Call:
    tally = CallTally(LABELS)
    for line in lines:
        tally.accept(line)
    return tally.call(roles, margins, duration_ms)


def test_overlap_is_where_both_speak_without_the_silence_around_utterances() -> None:
    # The agent answers 0.1 s after the customer, whose utterance holds 0.2 s of silence yet.
    lines = [utterance(1_000, 5_200), utterance(4_900, 9_200, 1), utterance(8_000, 9_800)]
    call = call_of(lines, 20_000)
    assert call.overlap is not None
    assert [(i.start_ms, i.end_ms) for i in call.overlap.intervals] == [(8_200, 9_000)]
    assert (call.overlap.total_ms, call.overlap.share) == (800, 0.04)
    assert [(talk.talk_ms, talk.n_utterances) for talk in call.talk] == [(5_200, 2), (3_900, 1)]
    assert sum(talk.talk_share or 0 for talk in call.talk) == pytest.approx(1)
    assert call.silence is not None
    assert call.silence.total_ms == 20_000 - (5_200 + 3_900 - 800)
    assert call.silence.longest == Interval(start_ms=9_600, end_ms=20_000)


def test_who_is_cut_at_30_s_or_at_an_end_of_the_audio_speaks_on() -> None:
    spans = speech([(0, 30_000), (30_000, 41_000), (50_000, 60_000)], MARGINS, 60_001)
    assert spans == [(0, 30_000), (30_000, 40_800), (50_200, 60_000)]


def test_who_had_no_room_for_the_silence_before_speaks_at_once() -> None:
    """One that begins at the first frame after another."""
    spans = speech([(0, 1_000), (1_010, 2_000), (2_020, 3_000)], MARGINS, 10_000)
    assert spans == [(0, 800), (1_010, 1_800), (2_220, 2_800)]


def test_a_channel_that_is_off_leaves_no_number_of_the_silence_around_the_other() -> None:
    call = call_of([utterance(0, 5_000)], 10_000, (Role("customer"), Role("agent", scored=False)))
    assert (call.overlap, call.silence) == (None, None)
    (talk,) = call.talk
    assert (talk.channel, talk.talk_ms, talk.talk_share) == (0, 4_800, None)
    assert {told.channel for part in call.arc for told in part.channels} == {0}


def test_without_speech_detection_nobody_knows_who_speaks() -> None:
    assert Margins.of(StreamConfig(endpointing="manual")) is None
    assert Margins.of(StreamConfig(endpointing="vad", endpoint_silence_s=0.1)) == Margins(200, 100)
    call = call_of([utterance(0, 10_000)], 10_000, margins=None)
    assert (call.overlap, call.silence) == (None, None)
    assert [(talk.talk_ms, talk.talk_share) for talk in call.talk] == [(None, None)] * 2
    assert [told.talk_ms for told in call.arc[0].channels] == [None, None]


def test_of_one_channel_silence_is_known() -> None:
    call = call_of([utterance(0, 4_000)], 10_000, (Role(None),))
    assert call.overlap is None
    assert call.silence is not None
    assert call.silence.total_ms == 6_200
    assert call.talk[0].talk_share is None


Spans = st.lists(st.integers(0, 60), unique=True, max_size=12).map(
    lambda ends: [tuple(pair) for pair in zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False)]
)


@given(Spans, Spans)
def test_spans_are_those_of_a_count_by_the_millisecond(one: list[Span], other: list[Span]) -> None:
    def ticks(spans: list[Span]) -> set[int]:
        return {tick for start, end in spans for tick in range(start, end)}

    both, neither = common(one, other), gaps([*one, *other], 60)
    assert ticks(both) == ticks(one) & ticks(other)
    assert length_ms(both) == len(ticks(both))
    assert ticks(neither) == set(range(60)) - ticks(one) - ticks(other)
    assert length_ms(neither) == len(ticks(neither))


# --- the arc ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("duration_ms", "n_parts"), [(300, 1), (9_999, 1), (18_000, 3), (60_000, 10), (36_000_000, 10)]
)
def test_the_call_in_equal_parts(duration_ms: int, n_parts: int) -> None:
    arc = call_of([], duration_ms).arc
    assert len(arc) == n_parts
    assert (arc[0].start_ms, arc[-1].end_ms) == (0, duration_ms)
    assert all(one.end_ms == other.start_ms for one, other in pairwise(arc))
    empty = arc[0].channels[0]
    assert (empty.n_segments, empty.label, empty.valence, empty.talk_ms) == (0, None, None, 0)


def test_a_part_is_the_mean_of_what_was_scored_in_it() -> None:
    tally = heard(["angry"] * 24 + ["happy"] * 24)
    tally.accept(utterance(0, 20_000))
    arc = tally.call((Role("customer"),), MARGINS, 20_000).arc
    assert [part.channels[0].label for part in arc] == ["angry", "angry", "happy", "happy"]
    first, last = arc[0].channels[0], arc[-1].channels[0]
    assert first.scores == scores_of("angry")
    assert (last.valence or 0) > 0.5 > (first.valence or 0)
    assert sum(part.channels[0].talk_ms or 0 for part in arc) == 20_000
    # Partial segments stand in only until the next one: 0.8, 1.2 and 1.6 s count as nothing.
    assert sum(part.channels[0].n_segments for part in arc) == 48 - 3


def test_the_only_partial_segment_of_a_short_utterance_counts() -> None:
    tally = CallTally(LABELS)
    tally.accept(segment(800, "sad"))
    tally.accept(segment(1_200, "sad"))
    tally.accept(segment(9_000, "happy", begin_ms=8_200, utterance_id="0-1"))
    for _ in range(2):  # asking changes nothing
        (told,) = tally.call((Role(None),), MARGINS, 9_500).arc[0].channels
        assert told.n_segments == 2
        assert told.scores["sad"] == told.scores["happy"] == pytest.approx(0.425)


def test_affect_is_the_centre_of_the_labels_on_the_circle() -> None:
    happy, neutral = affect_of({"happy": 0.5}), affect_of({"neutral": 1.0, "happy": 0.0})
    assert happy == pytest.approx((0.9907, 0.1357), abs=1e-3)
    assert neutral == (0, 0)
    assert affect_of({"happy": 1.0, "neutral": 1.0}) == pytest.approx((0.4954, 0.0679), abs=1e-3)
    assert affect_of({"bored": 1.0}) is affect_of({"happy": 0.0}) is None


def test_ten_hours_take_little_memory() -> None:
    line, tally = segment(2_000, "angry"), CallTally(LABELS)
    n_segments = 36_000_000 // HOP_MS
    tracemalloc.start()
    for index in range(n_segments // 50):
        # The same object moved on: what the tally keeps is what is measured.
        object.__setattr__(line, "end_ms", 2_000 + index * HOP_MS)
        object.__setattr__(line, "start_ms", index * HOP_MS)
        tally.accept(line)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept / (n_segments // 50) < 100  # bytes a segment: 9 MB for ten hours of a channel
