import pytest

from ser_core.errors import LimitReached, TooLarge
from service.pace import AudioMeter, Pace
from tests.service.test_quotas import ANYBODY, quotas


def test_a_stream_may_burst_but_not_run_ahead_for_long() -> None:
    now_s = 0.0
    pace = Pace(2.0, 10.0, clock=lambda: now_s)
    pace.take(10.0)
    now_s += 1.0
    pace.take(2.0)
    with pytest.raises(LimitReached) as refused:
        pace.take(4.0)
    assert refused.value.code == "too_fast"
    assert refused.value.retry_after_s == 2.0


def test_a_burst_is_not_saved_up() -> None:
    now_s = 0.0
    pace = Pace(2.0, 10.0, clock=lambda: now_s)
    now_s += 3600.0
    pace.take(10.0)
    with pytest.raises(LimitReached):
        pace.take(0.1)


def test_a_stream_is_live_while_it_keeps_to_real_time() -> None:
    now_s = 0.0
    pace = Pace(20.0, 300.0, clock=lambda: now_s)
    for _ in range(100):
        pace.take(1.0)
        assert pace.is_live
        now_s += 0.98  # a clock that is two percent fast
    for _ in range(60):  # twice as fast
        pace.take(0.1)
        now_s += 0.05
    assert not pace.is_live


def test_what_an_outage_held_back_is_not_live_but_forgotten() -> None:
    now_s = 0.0
    pace = Pace(20.0, 300.0, clock=lambda: now_s)
    pace.take(5.0)
    assert not pace.is_live
    for _ in range(400):
        now_s += 0.1
        pace.take(0.1)
    assert pace.is_live


async def test_audio_that_is_sent_again_is_not_charged_again() -> None:
    ours = quotas(key_audio_s_per_hour=3)
    meter = AudioMeter(ours, ANYBODY)
    await meter.hear(5.0, is_replay=True)
    await meter.hear(3.0)
    with pytest.raises(LimitReached):
        await meter.hear(0.1)


async def test_audio_is_charged_in_advance_by_the_second() -> None:
    ours = quotas(key_audio_s_per_hour=3)
    meter = AudioMeter(ours, ANYBODY)
    for _ in range(29):
        await meter.hear(0.1)
    other = AudioMeter(ours, ANYBODY)
    with pytest.raises(LimitReached) as refused:
        await other.hear(0.1)
    assert refused.value.code == "quota_exhausted"
    assert refused.value.retry_after_s > 60


async def test_what_is_announced_beyond_what_is_left_is_refused_at_once_and_not_charged() -> None:
    ours = quotas(key_audio_s_per_hour=10)
    await ours.charge_audio(ANYBODY, 4)
    meter = AudioMeter(ours, ANYBODY)
    with pytest.raises(LimitReached) as refused:
        await meter.expect(6.1)
    assert refused.value.code == "quota_exhausted"
    with pytest.raises(TooLarge, match="12 s, and this key may send 10 s an hour"):
        await meter.expect(11.5)
    await meter.expect(6.0)
    await ours.charge_audio(ANYBODY, 6)
