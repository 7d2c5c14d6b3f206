import math

import pytest

from glrf.lag import LagMeter, percentile


def test_lag_counts_from_the_chunk_with_the_last_sample() -> None:
    now_s = 0.0
    meter = LagMeter(clock=lambda: now_s)
    for chunk in range(1, 11):
        now_s = 0.1 * chunk
        meter.sent(100 * chunk)
    now_s = 1.25
    assert meter.received(800, has_label=False) == pytest.approx(450)
    assert meter.received(801, has_label=True) == pytest.approx(350)
    assert meter.lags_ms == pytest.approx([450, 350])
    assert meter.first_label_ms == pytest.approx(1150)
    now_s = 2.0
    meter.received(1000, has_label=True)
    assert meter.first_label_ms == pytest.approx(1150)


def test_an_event_about_audio_that_was_not_sent_has_no_lag() -> None:
    meter = LagMeter()
    assert meter.received(100, has_label=True) is None
    meter.sent(100)
    assert meter.received(101, has_label=True) is None
    assert meter.lags_ms == []


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile(share: float, value: int) -> None:
    assert percentile(range(100, 0, -1), share) == value


def test_percentile_of_nothing() -> None:
    assert math.isnan(percentile([], 0.5))
