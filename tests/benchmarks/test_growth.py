"""The line through what streams cost."""

import pytest

from benchmarks.growth import Point, fit


def points(total_ms: dict[int, float]) -> list[Point]:
    return [Point("streams", n, total / n) for n, total in total_ms.items()]


def test_a_line_is_found_again() -> None:
    base_ms, each_ms, off = fit(points({n: 80 + 3.5 * n for n in (1, 10, 60, 200)}))
    assert (base_ms, each_ms) == pytest.approx((80, 3.5))
    assert off == []


def test_what_is_a_tenth_off_is_named() -> None:
    line = {n: 80 + 3.5 * n for n in (1, 30, 60, 100, 140, 180, 220)}
    _, _, off = fit(points(line | {140: 1.3 * line[140]}))
    assert 140 in off
    assert not {180, 220} & set(off)
