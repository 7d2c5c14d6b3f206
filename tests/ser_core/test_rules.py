import json

import numpy as np
import pytest

from ser_core.errors import BadParameter
from ser_core.events import Alert
from ser_core.rules import MAX_RULES, Rule, RuleWatch, check_labels, parse_rules

RATE_HZ = 16_000
HOP = 6_400
RULE = "angry>=0.7:2s"
HIGH, BRINK, LOW = 0.8, 0.68, 0.1


def _watch(text: str = RULE) -> RuleWatch:
    return RuleWatch(parse_rules(text), 1, RATE_HZ)


def _play(watch: RuleWatch, scores: list[float], start: int = 0) -> list[Alert]:
    """One segment every 0.4 s."""
    return [
        alert
        for i, score in enumerate(scores)
        for alert in watch.accept({"angry": score, "sad": 1 - score}, start + i * HOP)
    ]


def test_rules_are_read() -> None:
    assert parse_rules("angry>=0.7:10s,sad>=1:0.5s") == (
        Rule("angry>=0.7:10s", "angry", 0.7, 10.0),
        Rule("sad>=1:0.5s", "sad", 1.0, 0.5),
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "'' is not a rule"),
        ("angry", "'angry' is not a rule"),
        ("angry>0.7:10s", "'angry>0.7:10s' is not a rule"),
        ("angry>=0.7:10", "'angry>=0.7:10' is not a rule"),
        ("angry>=0.7:10s,", "'' is not a rule"),
        ("angry >= 0.7:10s", "is not a rule"),
        ("angry>=-1:10s", "is not a rule"),
        ("sad>=0.5:1s,angry>=1.7:10s", "'angry>=1.7:10s': 1.7 is no score"),
        ("angry>=0:10s", "0 is no score"),
        (f"angry>=0.{'7' * 60}:10s", "is not a rule"),
        ("angry>=0.7.1:10s", "0.7.1 is no score"),
        ("angry>=0.7:0s", "0s is no time to wait"),
        ("angry>=0.7:1.2.3s", "1.2.3s is no time to wait"),
        ("angry>=0.7:99999s", "99999s is no time to wait"),
        ("angry>=0.7:10s,angry>=0.70:10.0s", "the same rule twice"),
        (",".join(f"angry>=0.7:{i}s" for i in range(1, MAX_RULES + 2)), "rules has 17 rules"),
    ],
)
def test_what_is_wrong_is_named(text: str, named: str) -> None:
    with pytest.raises(BadParameter) as caught:
        parse_rules(text)
    assert named in str(caught.value)
    assert caught.value.remedy


def test_a_long_wrong_rule_is_not_sent_back_whole() -> None:
    with pytest.raises(BadParameter) as caught:
        parse_rules("x" * 5000)
    assert len(caught.value.detail) < 300


def test_labels_are_the_models() -> None:
    check_labels(parse_rules(RULE), ("angry", "sad"))
    with pytest.raises(BadParameter, match="no label 'bored'") as caught:
        check_labels(parse_rules("bored>=0.5:1s"), ("angry", "sad"))
    assert "angry, sad" in caught.value.remedy


def test_one_alert_once_it_lasted() -> None:
    assert _play(_watch(), [HIGH] * 5) == []  # 1.6 s from the first to the fifth
    (alert,) = _play(_watch(), [LOW, *[HIGH] * 40])
    assert alert == Alert(1, RULE, "angry", HOP, 6 * HOP, HIGH)
    assert alert.end - alert.start == 2 * RATE_HZ


def test_a_fall_below_begins_the_time_anew() -> None:
    assert _play(_watch(), [*[HIGH] * 5, BRINK] * 5) == []


def test_the_threshold_itself_counts() -> None:
    assert _play(_watch(), [0.7] * 6)


def test_armed_again_only_after_a_clear_fall_that_lasted() -> None:
    n_release = 13  # 5 s, and 0.4 s for the first
    for low, n_low, n_alerts in [
        (LOW, n_release + 1, 2),
        (LOW, n_release - 1, 1),  # too short
        (BRINK, 100, 1),  # not clearly below
    ]:
        found = _play(_watch(), [*[HIGH] * 6, *[low] * n_low, *[HIGH] * 30])
        assert len(found) == n_alerts


def test_a_return_to_the_brink_begins_the_fall_anew() -> None:
    scores = [*[HIGH] * 6, *[*[LOW] * 10, BRINK] * 4, *[HIGH] * 6]
    assert len(_play(_watch(), scores)) == 1


def test_a_pause_is_time_that_passes_but_a_long_one_ends_all() -> None:
    watch = _watch()
    assert _play(watch, [HIGH]) == []
    (alert,) = _play(watch, [HIGH], start=5 * RATE_HZ)
    assert (alert.start, alert.end) == (0, 5 * RATE_HZ)
    later = 5 * RATE_HZ + 5 * RATE_HZ + 1
    (again,) = _play(watch, [HIGH] * 20, start=later)
    assert again.start == later


def test_partial_segments_end_a_pause_and_nothing_else() -> None:
    """The first two seconds of an utterance, before it has a whole segment."""
    watch = _watch()
    _play(watch, [HIGH])
    for at_s in (4, 8):
        assert watch.accept({"angry": LOW, "sad": 1 - LOW}, at_s * RATE_HZ, True) == []
    (alert,) = _play(watch, [HIGH], start=12 * RATE_HZ)
    assert (alert.start, alert.end) == (0, 12 * RATE_HZ)


def test_rules_are_watched_apart() -> None:
    watch = _watch("angry>=0.7:2s,sad>=0.7:2s,angry>=0.5:4s")
    found = _play(watch, [*[HIGH] * 12, *[LOW] * 6])
    assert [alert.rule for alert in found] == ["angry>=0.7:2s", "angry>=0.5:4s", "sad>=0.7:2s"]


def test_a_restored_watch_goes_on_the_same() -> None:
    rng = np.random.default_rng(3)
    scores = np.repeat(rng.choice([HIGH, BRINK, LOW], 60), rng.integers(1, 16, 60)).tolist()
    text = "angry>=0.7:2s,sad>=0.6:3s"
    expected = _play(_watch(text), scores)
    assert len(expected) > 4
    one, found = _watch(text), []
    for i, score in enumerate(scores):
        other = _watch(text)
        other.restore(json.loads(json.dumps(one.state())))
        found += _play(other, [score], start=i * HOP)
        one = other
    assert found == expected
