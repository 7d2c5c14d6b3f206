import librosa
import numpy as np
import pytest

from ser_core.features import FeatureSpec, Float32, mel_db, mfcc, power_spectrum
from ser_core.model_file import self_test_signal
from tests.synthetic import RATE_HZ, mel_filters, voice

N_SAMPLES = RATE_HZ + 77  # not a whole number of hops


def _noise(seed: int = 0) -> Float32:
    return np.random.default_rng(seed).standard_normal(N_SAMPLES).astype(np.float32)


SIGNALS = {
    "voice": voice(N_SAMPLES),
    "self_test": self_test_signal(N_SAMPLES, RATE_HZ),
    "noise": 0.1 * _noise(),
    "faint": 1e-4 * _noise(),
    "sine": (0.5 * np.sin(np.arange(N_SAMPLES) * 0.3)).astype(np.float32),
    "clipped": np.clip(5 * voice(N_SAMPLES), -1, 1),
    "silence": np.zeros(N_SAMPLES, np.float32),
    "dc": np.full(N_SAMPLES, 0.25, np.float32),
    "click": np.eye(1, N_SAMPLES, 8_000, dtype=np.float32)[0],
}


def _librosa_spec(n_mels: int, n_mfcc: int) -> FeatureSpec:
    filters = librosa.filters.mel(sr=RATE_HZ, n_fft=400, n_mels=n_mels, dtype=np.float32)
    return FeatureSpec(mel_filters=filters, n_mfcc=n_mfcc)


@pytest.mark.parametrize(("n_mels", "n_mfcc"), [(40, 13), (64, 40), (23, 23)])
@pytest.mark.parametrize("signal", SIGNALS)
def test_mfcc_is_that_of_librosa(signal: str, n_mels: int, n_mfcc: int) -> None:
    samples = SIGNALS[signal]
    power = librosa.feature.melspectrogram(
        y=samples.astype(np.float64),
        sr=RATE_HZ,
        n_fft=400,
        hop_length=160,
        win_length=400,
        window="hann",
        center=False,
        n_mels=n_mels,
    )
    db = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)
    expected = librosa.feature.mfcc(S=db, n_mfcc=n_mfcc).T
    ours = mfcc(samples, _librosa_spec(n_mels, n_mfcc))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=1e-4, rtol=0)


def _spec(**changes: int) -> FeatureSpec:
    return FeatureSpec(**{"mel_filters": mel_filters(), "n_mfcc": 13, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n_samples", "n_frames"),
    [(0, 0), (1, 0), (399, 0), (400, 1), (559, 1), (560, 2), (32_000, 198)],
)
def test_whole_frames_only(n_samples: int, n_frames: int) -> None:
    spec = _spec()
    assert spec.n_frames(n_samples) == n_frames
    samples = np.zeros(n_samples, np.float32)
    assert power_spectrum(samples, spec).shape == (n_frames, 201)
    assert mfcc(samples, spec).shape == (n_frames, 13)


def test_a_frame_depends_on_its_own_samples_only() -> None:
    spec, samples = _spec(), voice(4_000)
    changed = samples.copy()
    changed[:160] = 1.0  # of the first frame alone
    changed[160 * 10 + 400 :] *= 100  # after frame 10
    np.testing.assert_array_equal(mfcc(changed, spec)[1:11], mfcc(samples, spec)[1:11])
    assert not np.array_equal(mfcc(changed, spec)[0], mfcc(samples, spec)[0])


def test_any_cut_at_a_hop_gives_the_same_frames() -> None:
    spec, samples = _spec(), voice(8_000)
    whole = mfcc(samples, spec)
    for frame in (1, 7, 20):
        np.testing.assert_allclose(
            mfcc(samples[frame * 160 :], spec), whole[frame:], atol=1e-4, rtol=1e-5
        )


def test_silence_is_at_the_floor() -> None:
    assert mel_db(np.zeros(3, np.float32)) == pytest.approx(-100, abs=1e-4)
    features = mfcc(np.zeros(400, np.float32), _spec())
    assert np.isfinite(features).all()


def test_gain_moves_the_first_coefficient_only() -> None:
    spec, samples = _spec(), voice(4_000)
    moved = mfcc(samples / np.float32(4), spec) - mfcc(samples, spec)
    np.testing.assert_allclose(moved[:, 0], 20 * np.log10(1 / 4) * np.sqrt(20), atol=1e-3)
    np.testing.assert_allclose(moved[:, 1:], 0, atol=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_mfcc": 0},
        {"n_mfcc": 21},
        {"frame_samples": 512},
        {"hop_samples": 0},
        {"hop_samples": 401},
    ],
)
def test_a_spec_that_cannot_be_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"n_mfcc|frames|hop_samples"):
        _spec(**changes)


def test_mel_filters_must_be_a_matrix() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        FeatureSpec(mel_filters=np.zeros(201, np.float32), n_mfcc=1)
