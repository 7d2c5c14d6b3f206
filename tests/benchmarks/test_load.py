"""What the load generator makes of what it sees."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.load import Stage, agrees, chunk_at, kb_a_stream, of_the_audio

HOLDS = Stage(
    n_streams=10,
    cpu_ms=4.0,
    server_cores=0.04,
    n_segments=250,
    lag_p50_ms=10.0,
    lag_p99_ms=20.0,
    told_lag_p99_ms=18.0,
    missing=0,
    wrong=0,
    blocked=0,
    sender_late_p99_ms=1.0,
    memory_mb=100.0,
)


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        ({}, "holds"),
        ({"lag_p99_ms": 201.0}, "fails"),
        ({"missing": 1}, "fails"),
        ({"wrong": 1}, "fails"),
        ({"lag_p99_ms": 201.0, "sender_late_p99_ms": 25.0}, "generator"),
        ({"wrong": 1, "sender_late_p99_ms": 25.0}, "fails"),
        ({"sender_late_p99_ms": 25.0}, "holds"),
    ],
)
def test_whose_failure_it_is(seen: dict[str, Any], verdict: str) -> None:
    assert replace(HOLDS, **seen).verdict(200.0) == verdict


def test_memory_is_that_of_the_stages_before_an_overload() -> None:
    calm = replace(HOLDS, n_streams=30, memory_mb=103.0)
    over = replace(HOLDS, n_streams=60, memory_mb=300.0, missing=1)
    after = replace(HOLDS, n_streams=45, memory_mb=290.0)
    assert kb_a_stream([HOLDS, calm, over, after], 200.0) == pytest.approx(150.0)
    assert kb_a_stream([HOLDS, over, after], 200.0) is None


def test_a_chunk_holds_the_last_sample_before_its_end() -> None:
    assert [chunk_at(end_ms) for end_ms in (1, 100, 101, 2000)] == [0, 0, 1, 19]


@pytest.mark.parametrize(
    ("change", "is_the_same"),
    [
        ({}, True),
        ({"seq": 9, "lag_ms": 70, "session_id": "other"}, True),
        ({"scores": {"happy": 0.500_001}}, True),
        ({"scores": {"happy": 0.51}}, False),
        ({"smoothed": {"label": "sad", "scores": {"happy": 0.5}}}, False),
        ({"smoothed": {"label": "happy", "scores": {"happy": 0.4}}}, False),
        ({"end_ms": 2400}, False),
    ],
)
def test_answers_agree_but_for_the_last_digit_of_scores(
    change: dict[str, Any], *, is_the_same: bool
) -> None:
    said = {
        "seq": 1,
        "lag_ms": 5,
        "session_id": "one",
        "end_ms": 2000,
        "scores": {"happy": 0.5},
        "smoothed": {"label": "happy", "scores": {"happy": 0.5}},
    }
    expected = of_the_audio(copy.deepcopy(said))
    assert agrees(of_the_audio(said | change), expected) is is_the_same
