"""The slope of memory over time."""

import pytest

from benchmarks.steady import Minute, slope_kb_h


def test_a_slope_is_told_in_kilobytes_an_hour() -> None:
    grows = [Minute(minute, 100.0 + minute / 60, 4.0) for minute in range(15, 31)]
    assert slope_kb_h(grows) == pytest.approx(1000.0)
    assert slope_kb_h([Minute(minute, 100.0, 4.0) for minute in range(15)]) == pytest.approx(
        0, abs=1e-6
    )
    assert slope_kb_h(grows[:1]) == 0.0
