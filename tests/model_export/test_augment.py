import dataclasses

import numpy as np
import pytest
import soxr

from model_export.augment import AugmentConfig, Augmenter, speech_bounds
from model_export.mel import feature_spec, warped_filters
from ser_core.decode import MULAW
from ser_core.features import mfcc, power_spectrum
from tests.synthetic import voice

FEATURES = feature_spec(24, 13, 50, 7600)
#: As many coefficients as mels, so that MFCC can be turned back.
SQUARE = feature_spec(64, 64, 50, 7600)
CENTRES_HZ = 40 * SQUARE.mel_filters.argmax(axis=1)
OFF = AugmentConfig(
    vtlp=0,
    tilt_db=0,
    noise=0,
    reverberation=0,
    narrowband=0,
    car=0,
    telephone=0,
    edges=1,
    crop=0,
    n_masks=0,
)


def test_everything_off_is_the_plain_feature():
    samples = voice(24_000)
    augmented, _ = Augmenter(FEATURES, OFF, np.random.default_rng(0))(
        power_spectrum(samples, FEATURES)
    )
    assert augmented == pytest.approx(mfcc(samples, FEATURES), abs=1e-3)


def test_same_seed_same_draw_and_another_seed_another():
    power = power_spectrum(voice(24_000), FEATURES)

    def draw(seed):
        return Augmenter(FEATURES, AugmentConfig(), np.random.default_rng(seed))(power.copy())[0]

    assert np.array_equal(draw(1), draw(1))
    assert draw(1).shape != draw(2).shape or not np.allclose(draw(1), draw(2))


def mel_decibels(samples, seed=0, **changes):
    """Of samples under these changes alone: float32 `(T, n_mels)`."""
    augmenter = Augmenter(SQUARE, dataclasses.replace(OFF, **changes), np.random.default_rng(seed))
    return augmenter(power_spectrum(samples, SQUARE))[0] @ SQUARE.dct.T


def test_a_telephone_sounds_like_g711_at_8_khz():
    t = np.arange(48_000) / 16_000
    phase = 2 * np.pi * (170 * t + 3 * np.sin(2 * np.pi * 1.3 * t))
    samples = 0.1 * np.sin(np.outer(phase, np.arange(1, 6))).sum(axis=1).astype(np.float32)
    at_8_khz = soxr.resample(samples, 16_000, 8_000)
    levels = np.sort(MULAW)
    sent = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, at_8_khz)]
    real = mel_decibels(soxr.resample(sent, 8_000, 16_000)).mean(axis=0)
    told = np.mean([mel_decibels(samples, seed, telephone=1).mean(axis=0) for seed in range(8)], 0)
    assert told[CENTRES_HZ > 4_200] == pytest.approx(-100, abs=0.01)
    assert real[CENTRES_HZ > 4_200] == pytest.approx(-100, abs=0.01)
    inside = (CENTRES_HZ > 400) & (CENTRES_HZ < 3_200)
    assert told[inside] == pytest.approx(real[inside], abs=3)
    clean = mel_decibels(samples).mean(axis=0)
    assert np.all(told[inside][-5:] > clean[inside][-5:] + 20)  # the hum ends at 850 Hz


def test_a_car_is_as_loud_as_told_and_loudest_below_1_khz():
    speech = voice(48_000)
    for seed in range(10):
        there, n_bins = 10 ** (mel_decibels(speech) / 10), np.gradient(CENTRES_HZ / 40)
        loud = mel_decibels(speech, seed, car=1, car_snr_db=(-30, -30))  # little but the car
        car = 10 ** (loud / 10) - there
        snr_db = 10 * np.log10((there @ n_bins).mean() / (car @ n_bins).mean())
        assert snr_db == pytest.approx(-30, abs=1.5)
        low = CENTRES_HZ < 1_000
        assert (car @ (n_bins * low)).mean() > 4 * (car @ (n_bins * ~low)).mean()


def test_changes_that_are_off_leave_the_other_draws_as_they_were():
    power = power_spectrum(voice(24_000), FEATURES)

    def draw(**changes):
        config = AugmentConfig(**{"car": 0, "telephone": 0, **changes})
        return Augmenter(FEATURES, config, np.random.default_rng(5))(power.copy())[0]

    assert np.array_equal(draw(), draw(car_snr_db=(3, 4)))
    assert not np.array_equal(draw(), draw(car=1))
    assert not np.array_equal(draw(), draw(telephone=1))


def test_features_stay_finite_on_silence_and_on_speech():
    rng = np.random.default_rng(0)
    augmenter = Augmenter(FEATURES, AugmentConfig(car=0.5, telephone=0.5), rng)
    for samples in (np.zeros(16_000, np.float32), voice(40_000), voice(500)):
        for _ in range(30):
            features, _ = augmenter(power_spectrum(samples, FEATURES))
            assert np.isfinite(features).all()
            assert len(features) >= 1


def test_speech_bounds_cut_what_is_30_db_down():
    samples = np.concatenate([1e-3 * voice(16_000), voice(16_000), 1e-3 * voice(8_000)])
    first, last = speech_bounds(power_spectrum(samples, FEATURES))
    assert (first, last) == (pytest.approx(100, abs=3), pytest.approx(200, abs=3))


def test_warping_moves_a_peak_and_keeps_the_nyquist_frequency():
    assert warped_filters(FEATURES, 1.0) == pytest.approx(FEATURES.mel_filters, abs=1e-6)
    peak = FEATURES.mel_filters[10].argmax()
    assert warped_filters(FEATURES, 1.15)[10].argmax() == pytest.approx(peak / 1.15, abs=1)
    assert warped_filters(FEATURES, 0.85)[10].argmax() == pytest.approx(peak / 0.85, abs=1)
