import numpy as np
import pytest

from model_export.augment import AugmentConfig, Augmenter, speech_bounds
from model_export.mel import feature_spec, warped_filters
from ser_core.features import mfcc, power_spectrum
from tests.synthetic import voice

FEATURES = feature_spec(24, 13, 50, 7600)
OFF = AugmentConfig(
    vtlp=0, tilt_db=0, noise=0, reverberation=0, narrowband=0, edges=1, crop=0, n_masks=0
)


def test_everything_off_is_the_plain_feature():
    samples = voice(24_000)
    augmented = Augmenter(FEATURES, OFF, np.random.default_rng(0))(
        power_spectrum(samples, FEATURES)
    )
    assert augmented == pytest.approx(mfcc(samples, FEATURES), abs=1e-3)


def test_same_seed_same_draw_and_another_seed_another():
    power = power_spectrum(voice(24_000), FEATURES)

    def draw(seed):
        return Augmenter(FEATURES, AugmentConfig(), np.random.default_rng(seed))(power.copy())

    assert np.array_equal(draw(1), draw(1))
    assert draw(1).shape != draw(2).shape or not np.allclose(draw(1), draw(2))


def test_features_stay_finite_on_silence_and_on_speech():
    rng = np.random.default_rng(0)
    augmenter = Augmenter(FEATURES, AugmentConfig(), rng)
    for samples in (np.zeros(16_000, np.float32), voice(40_000), voice(500)):
        for _ in range(30):
            features = augmenter(power_spectrum(samples, FEATURES))
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
