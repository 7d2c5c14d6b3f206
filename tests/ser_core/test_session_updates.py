"""What a client may change on the way, and the rules it may send, in stream order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.errors import BadParameter
from ser_core.events import Alert, Event, Segment
from ser_core.labels import LABELS
from ser_core.rules import parse_rules
from ser_core.session import StreamSession
from ser_core.smoothing import RunningLabel, SmoothingConfig
from ser_core.stream_config import StreamConfig
from tests.ser_core.player import (
    FLUSH,
    answer,
    encode,
    play,
    play_samples,
    segments,
    short_spec,
    whole_spec,
)
from tests.synthetic import RATE_HZ, voice

S = RATE_HZ  # samples a second


@settings(derandomize=True, deadline=None, max_examples=25)
@given(data=st.data())
def test_an_update_holds_from_the_next_segment_whenever_answers_come(data: st.DataObject) -> None:
    parts = voice(6_000), voice(6_000, seed=1)
    before = StreamConfig(smoothing=SmoothingConfig("mean", 0.0, 0.0))
    session = StreamSession(short_spec(), before)
    session.receive_samples(parts[0][:, None])
    session.update({"angry": 0.99, "happy": 0.99}, kind="ema")
    n_before = session.n_cut
    session.receive_samples(parts[1][:, None])
    session.update(hysteresis=0.3)
    session.close()
    events: list[Event] = []
    for request in data.draw(st.permutations(session.segments_to_score())):
        if data.draw(st.booleans()):
            events += session.events()
        answer(session, [request])
    told = segments([*events, *session.events()])
    unchanged = segments(play_samples(short_spec(), before, *parts))
    assert told[:n_before] == unchanged[:n_before]
    ema, mean = RunningLabel(LABELS, S), RunningLabel(LABELS, S)
    for segment, other in zip(told, unchanged, strict=True):
        assert segment.scores == other.scores
        scores = np.array(list(segment.scores.values()), np.float32)
        mean.accept(scores, before.smoothing, partial=segment.partial, end=segment.end)
        if segment.index >= n_before:
            config = SmoothingConfig("ema")
            ema.accept(scores, config, partial=segment.partial, end=segment.end)
        if segment.index < n_before:
            assert segment.smoothed == mean.decision
            assert segment.abstain is None
        else:
            assert segment.smoothed.scores == ema.decision.scores
            top = max(segment.scores, key=lambda label: segment.scores[label])
            assert (segment.abstain == "uncertain") == (
                top in ("angry", "happy") and segment.scores[top] < 0.99
            )


def test_a_bad_update_changes_nothing() -> None:
    session = StreamSession(whole_spec(), StreamConfig())
    for thresholds, smoothing in (
        ({"bored": 0.5}, {"kind": "ema"}),
        ({"angry": 1.0}, {"kind": "median"}),
        ({"angry": 1.0}, {"hysteresis": 2.0}),
    ):
        with pytest.raises(BadParameter):
            session.update(thresholds, **smoothing)
    assert session.n_untold == 0
    events = play(session, [encode(voice(3 * S), "pcm_s16le")])
    assert events == play(
        StreamSession(whole_spec(), StreamConfig()), [encode(voice(3 * S), "pcm_s16le")]
    )


def test_alerts_follow_their_segment_channel_by_channel_over_utterances() -> None:
    rules = parse_rules("angry>=0.000001:2s")
    config = StreamConfig(n_channels=2, rules=rules, smoothing=SmoothingConfig("mean"))
    part = np.stack((voice(3 * S), np.zeros(3 * S, np.float32)), axis=1)
    events = play_samples(whole_spec(), config, part, FLUSH, part, FLUSH, part)
    (alert,) = [event for event in events if isinstance(event, Alert)]
    # Whole segments end at 2, 2.4 and 2.8 s of each utterance; the second begins at 3 s.
    assert (alert.channel, alert.start, alert.end) == (0, 2 * S, 5 * S)
    before = events[events.index(alert) - 1]
    assert isinstance(before, Segment)
    assert (before.channel, before.end) == (0, alert.end)
    assert before.smoothed.scores["angry"] == alert.score


def test_rules_name_labels_of_the_model() -> None:
    with pytest.raises(BadParameter, match="no label 'bored'"):
        StreamSession(whole_spec(), StreamConfig(rules=parse_rules("bored>=0.5:1s")))
