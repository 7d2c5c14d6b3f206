import pytest

from benchmarks.ramp import Ramp, Verdict, most_streams


@pytest.mark.parametrize("capacity", [0, 1, 3, 9, 10, 11, 39, 40, 41, 100, 1234])
def test_the_capacity_is_found_to_a_tenth(capacity: int) -> None:
    tried: list[int] = []

    def holds(n_streams: int) -> Verdict:
        tried.append(n_streams)
        return "holds" if n_streams <= capacity else "fails"

    ramp = most_streams(holds, 10)
    assert ramp.failed is not None
    assert ramp.held <= capacity < ramp.failed
    assert ramp.failed - ramp.held <= max(1, 0.1 * ramp.failed)
    assert ramp.ended_by == "resolution"
    assert len(tried) == len(set(tried))
    assert min(tried) >= 1


def test_it_doubles_first_and_then_bisects() -> None:
    tried: list[int] = []

    def holds(n_streams: int) -> Verdict:
        tried.append(n_streams)
        return "holds" if n_streams <= 100 else "fails"

    assert most_streams(holds, 10) == Ramp(100, 110, "resolution")
    assert tried == [10, 20, 40, 80, 160, 120, 100, 110]


def test_a_late_generator_ends_it_and_proves_nothing() -> None:
    ramp = most_streams(lambda n: "holds" if n <= 50 else "generator", 10)
    assert ramp == Ramp(40, None, "generator")


def test_when_the_time_is_up_the_gap_stays_as_it_is() -> None:
    answers = iter([False, False, True])
    ramp = most_streams(
        lambda n: "holds" if n <= 30 else "fails", 10, is_time_up=lambda: next(answers)
    )
    assert ramp == Ramp(20, 40, "time")


def test_there_is_one_try_at_least() -> None:
    assert most_streams(lambda n: "holds", 10, is_time_up=lambda: True) == Ramp(10, None, "time")


def test_no_stream_is_no_start() -> None:
    with pytest.raises(ValueError, match="start=0"):
        most_streams(lambda n: "holds", 0)
