import pytest

from glrf_client.pace import Pace


def test_a_burst_goes_at_once_and_the_rest_at_nine_tenths_of_the_speed() -> None:
    pace = Pace(0.0)
    pace.limit({"max_speed": 10, "burst_ms": 2000})
    assert pace.wait_s(1.8, 0.0) == 0.0
    pace.sent(1.8)
    assert pace.wait_s(0.9, 0.0) == pytest.approx(0.1)
    assert pace.wait_s(0.9, 0.05) == pytest.approx(0.05)
    assert pace.wait_s(0.9, 0.101) == 0.0


def test_what_went_before_the_limits_were_told_counts() -> None:
    pace = Pace(0.0)
    assert pace.wait_s(5.0, 0.0) == 0.0
    pace.sent(5.0)
    assert pace.wait_s(0.1, 0.0) > 0.0
    pace.limit({"max_speed": 10, "burst_ms": 10_000})
    assert pace.wait_s(4.0, 0.0) == 0.0
    pace.sent(4.0)
    assert pace.wait_s(0.9, 0.0) == pytest.approx(0.1)


def test_the_time_until_the_limits_are_told_fills_nothing() -> None:
    """The server's own bucket is full when it greets, and has yet to see what was sent by then."""
    pace = Pace(0.0)
    pace.sent(5.0)
    assert pace.wait_s(0.1, 3.0) > 0.0
    pace.limit({"max_speed": 10, "burst_ms": 10_000})
    assert pace.wait_s(4.0, 3.0) == 0.0
    pace.sent(4.0)
    assert pace.wait_s(0.9, 3.0) == pytest.approx(0.1)


def test_more_than_a_burst_goes_when_the_bucket_is_full() -> None:
    pace = Pace(0.0)
    pace.limit({"max_speed": 10, "burst_ms": 1000})
    assert pace.wait_s(60.0, 0.0) == 0.0
    pace.sent(60.0)
    assert pace.wait_s(60.0, 1.0) == pytest.approx(51 / 9)


@pytest.mark.parametrize("limits", [{}, {"max_speed": None, "burst_ms": 1000}])
def test_a_server_that_tells_no_limits_is_given_all(limits: dict[str, object]) -> None:
    pace = Pace(0.0)
    pace.limit(limits)
    pace.sent(1e6)
    assert pace.wait_s(1e6, 0.0) == 0.0
