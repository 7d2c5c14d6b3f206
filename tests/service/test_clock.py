import pytest

from service.clock import Clock


def test_samples_become_milliseconds_here() -> None:
    clock = Clock(16_000, start_offset_ms=500)
    assert clock.at_ms(32_000) == 2500
    assert clock.length_ms(12_801) == 800
    assert isinstance(clock.length_ms(1), int)


@pytest.mark.parametrize("rate_hz", [8_000, 8_001, 11_025, 16_000, 44_100, 48_000])
def test_a_time_to_resume_from_is_a_whole_sample(rate_hz: int) -> None:
    clock = Clock(rate_hz, start_offset_ms=70)
    for position in (0, 1, 4_409, 4_410, 123_457, 10**9 + 7):
        at_ms = clock.before_ms(position)
        assert (at_ms - 70) * rate_hz % 1000 == 0
        assert position - rate_hz < clock.position_of(at_ms) <= position
