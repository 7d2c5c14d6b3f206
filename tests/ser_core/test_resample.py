import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.features import Float32
from ser_core.resample import Resampler
from tests.synthetic import voice

RATES_HZ = (8_000, 11_025, 22_050, 44_100, 48_000, 192_000)
OUT_HZ = 16_000


def _chunked(samples: Float32, rate_hz: int, sizes: list[int]) -> Float32:
    resampler = Resampler(rate_hz, OUT_HZ)
    parts = [resampler.accept(chunk) for chunk in np.split(samples, np.cumsum(sizes))]
    return np.concatenate((*parts, resampler.flush()))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_whole_is_that_of_soxr(rate_hz: int) -> None:
    samples = voice(rate_hz // 2, rate_hz)
    expected = soxr.resample(samples, rate_hz, OUT_HZ, quality="HQ")
    np.testing.assert_array_equal(_chunked(samples, rate_hz, []), expected)


@pytest.mark.parametrize("rate_hz", [*RATES_HZ, 8_001, 16_001, 47_999])
def test_over_its_seams_it_is_that_of_soxr_to_the_last_bits(rate_hz: int) -> None:
    samples = voice(rate_hz * 9 // 2, rate_hz)
    expected = soxr.resample(samples, rate_hz, OUT_HZ, quality="HQ")
    np.testing.assert_allclose(_chunked(samples, rate_hz, []), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate_hz", [*RATES_HZ, 8_001, 16_001, 47_999, OUT_HZ])
def test_a_signal_that_is_entered_anywhere_is_bit_identical(rate_hz: int) -> None:
    samples = voice(rate_hz * 5, rate_hz)
    whole = _chunked(samples, rate_hz, [])
    for position in (0, 1, 6_400, 31_999, 32_000, 32_001, 70_123):
        source = Resampler(rate_hz, OUT_HZ).source_of(position)
        # 2 s of a span, and the warm-up: 0.05 s, or 1 s at rates that share no factor with ours.
        assert position / OUT_HZ - source / rate_hz < 3
        entered = Resampler(rate_hz, OUT_HZ, position)
        parts = [entered.accept(chunk) for chunk in np.array_split(samples[source:], 50)]
        np.testing.assert_array_equal(np.concatenate((*parts, entered.flush())), whole[position:])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    sizes=st.lists(st.one_of(st.integers(0, 3), st.integers(0, 5_000)), max_size=30),
)
def test_any_chunking_is_bit_identical(rate_hz: int, sizes: list[int]) -> None:
    samples = voice(rate_hz * 9 // 4, rate_hz)
    np.testing.assert_array_equal(_chunked(samples, rate_hz, sizes), _chunked(samples, rate_hz, []))


@pytest.mark.parametrize("rate_hz", RATES_HZ[:-1])
def test_single_samples_are_bit_identical(rate_hz: int) -> None:
    samples = voice(rate_hz // 10, rate_hz)
    np.testing.assert_array_equal(
        _chunked(samples, rate_hz, [1] * len(samples)), _chunked(samples, rate_hz, [])
    )


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("n_samples", [0, 1, 100, 4_001])
def test_length(rate_hz: int, n_samples: int) -> None:
    out = _chunked(voice(n_samples, rate_hz), rate_hz, [])
    assert abs(len(out) - n_samples * OUT_HZ / rate_hz) <= 1
    assert out.dtype == np.float32


def test_equal_rates_pass_through() -> None:
    samples = voice(1_000)
    resampler = Resampler(OUT_HZ, OUT_HZ)
    np.testing.assert_array_equal(resampler.accept(samples), samples)
    assert len(resampler.flush()) == 0


def test_a_flush_begins_a_new_signal() -> None:
    samples = voice(4_000, 8_000)
    resampler = Resampler(8_000, OUT_HZ)
    first = np.concatenate((resampler.accept(samples), resampler.flush()))
    second = np.concatenate((resampler.accept(samples), resampler.flush()))
    np.testing.assert_array_equal(second, first)
    assert len(resampler.flush()) == 0


def test_strided_channels_of_interleaved_audio() -> None:
    stereo = np.stack((voice(4_000, 8_000), voice(4_000, 8_000, seed=1)), axis=1)
    np.testing.assert_array_equal(
        _chunked(stereo[:, 1], 8_000, []), _chunked(voice(4_000, 8_000, seed=1), 8_000, [])
    )
