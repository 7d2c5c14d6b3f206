import json
from dataclasses import replace
from pathlib import Path

from glrf_client import Alert, ErrorFrame, Segment, StreamWarning, Utterance
from glrf_client.timeline import Timeline

CONTRACT = Path(__file__).parents[2] / "clients" / "contract"


def golden(kind: type, name: str):
    return kind.parse(json.loads((CONTRACT / f"server.{name}.json").read_text()))


SEGMENT: Segment = golden(Segment, "segment")
UTTERANCE: Utterance = golden(Utterance, "utterance")
WARNING: StreamWarning = golden(StreamWarning, "warning")
ALERT: Alert = golden(Alert, "alert")
ERROR: ErrorFrame = golden(ErrorFrame, "error")


def test_a_segment_comes_once_a_channel_and_index() -> None:
    timeline = Timeline()
    assert timeline.is_new(SEGMENT)
    assert timeline.is_new(replace(SEGMENT, channel=1))
    assert timeline.is_new(replace(SEGMENT, index=4))
    # Told again after a reconnect: another message of another session.
    assert not timeline.is_new(replace(SEGMENT, seq=0, session_id="other", lag_ms=900))
    assert not timeline.is_new(replace(SEGMENT, index=4))
    assert timeline.is_new(replace(SEGMENT, index=5))


def test_a_final_utterance_comes_once() -> None:
    timeline = Timeline()
    assert timeline.is_new(UTTERANCE)
    assert not timeline.is_new(replace(UTTERANCE, seq=1))
    assert timeline.is_new(replace(UTTERANCE, utterance_id="0-1"))


def test_results_so_far_are_told_apart_by_how_far() -> None:
    timeline = Timeline()
    so_far = replace(UTTERANCE, is_final=False)
    assert timeline.is_new(so_far)
    assert not timeline.is_new(so_far)
    assert timeline.is_new(replace(so_far, end_ms=so_far.end_ms + 400))
    assert timeline.is_new(UTTERANCE)


def test_a_warning_comes_once_a_cause_and_channel() -> None:
    timeline = Timeline()
    assert timeline.is_new(WARNING)
    assert not timeline.is_new(replace(WARNING, message="in other words"))
    assert timeline.is_new(replace(WARNING, channel=1))


def test_being_late_may_come_again() -> None:
    timeline = Timeline()
    assert timeline.is_new(replace(WARNING, code="late"))
    assert timeline.is_new(replace(WARNING, code="late"))


def test_an_alert_comes_once_a_rule_and_time() -> None:
    timeline = Timeline()
    assert timeline.is_new(ALERT)
    assert not timeline.is_new(replace(ALERT, seq=99))
    assert timeline.is_new(replace(ALERT, end_ms=ALERT.end_ms + 400))
    assert timeline.is_new(replace(ALERT, rule="sad>=0.5:5s"))


def test_errors_all_pass() -> None:
    timeline = Timeline()
    assert timeline.is_new(ERROR)
    assert timeline.is_new(ERROR)


def test_what_is_refused_again_is_left_out_as_often_as_it_was_told() -> None:
    timeline = Timeline()
    assert timeline.is_new_refusal("out of range", 100)
    assert timeline.is_new_refusal("out of range", 200)
    for _ in range(2):  # connections
        timeline.rewind()
        assert not timeline.is_new_refusal("out of range", 200)
        assert not timeline.is_new_refusal("out of range", 200)
    assert timeline.is_new_refusal("not known", 300)
    assert timeline.is_new_refusal("out of range", 300)


def test_a_refusal_that_a_checkpoint_covers_is_not_waited_for() -> None:
    timeline = Timeline()
    assert timeline.is_new_refusal("out of range", 100)
    timeline.rewind()
    timeline.keep_from(101)
    assert timeline.is_new_refusal("out of range", 200)


def test_memory_is_bounded() -> None:
    timeline = Timeline()
    for index in range(10_000):
        assert timeline.is_new(replace(UTTERANCE, utterance_id=f"0-{index}"))
    assert not timeline.is_new(replace(UTTERANCE, utterance_id="0-9000"))
    assert len(timeline._known) == 4096
