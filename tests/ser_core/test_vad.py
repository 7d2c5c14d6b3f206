import json
import math

import numpy as np
import pytest

from ser_core.decode import Decoder, Encoding
from ser_core.features import Float32, power_spectrum
from ser_core.vad import LOW_SNR_DB, NO_SPEECH_DBFS, LevelMeter, SpectrumMeter
from tests.synthetic import RATE_HZ, model_spec, voice

HOP = 6_400


def _sine(amplitude: float) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * np.arange(HOP) / 64)).astype(np.float32)


@pytest.mark.parametrize("amplitude", [1.0, 0.5, 1e-3])
def test_level_of_a_sine(amplitude: float) -> None:
    level = LevelMeter(5).accept(_sine(amplitude))
    assert level.level_dbfs == pytest.approx(20 * math.log10(amplitude / math.sqrt(2)), abs=0.01)
    assert not level.is_silent


def test_digital_silence() -> None:
    level = LevelMeter(5).accept(np.zeros(HOP, np.float32))
    assert level.level_dbfs == -math.inf
    assert level.is_silent
    assert level.clipped_share == level.dc == 0


def test_silence_begins_below_the_threshold() -> None:
    rms = 10 ** (NO_SPEECH_DBFS / 20)
    assert not LevelMeter(1).accept(_sine(rms * math.sqrt(2) * 1.05)).is_silent
    assert LevelMeter(1).accept(_sine(rms * math.sqrt(2) * 0.95)).is_silent


@pytest.mark.parametrize("dc", [0.1, 0.3, -0.7, 0.999, 1.0])
def test_a_constant_is_silence_with_an_offset(dc: float) -> None:
    level = LevelMeter(5).accept(np.full(HOP, dc, np.float32))
    assert level.dc == pytest.approx(dc, abs=1e-5)
    assert level.level_dbfs < -120


def test_a_faint_voice_on_an_offset_is_heard() -> None:
    faint = voice(HOP) / np.float32(200)
    alone = LevelMeter(1).accept(faint).level_dbfs
    assert LevelMeter(1).accept(faint + np.float32(0.5)).level_dbfs == pytest.approx(alone, abs=0.1)


def test_clipped_share() -> None:
    samples = np.zeros(1_000, np.float32)
    samples[:30] = 1.0
    samples[30:50] = -1.0
    samples[50:60] = 0.97
    assert LevelMeter(1).accept(samples).clipped_share == pytest.approx(0.05)


@pytest.mark.parametrize("encoding", ["mulaw", "alaw"])
def test_g711_is_clipped_at_its_own_full_scale(encoding: Encoding) -> None:
    decoded = Decoder(encoding, 1).accept(bytes(range(256)))
    samples = np.full(1_000, decoded.max(), np.float32)
    assert LevelMeter(1).accept(samples).clipped_share == 1


def test_the_loudest_of_the_last_hops_counts() -> None:
    meter = LevelMeter(3)
    loud = meter.accept(_sine(0.5)).level_dbfs
    silence = np.zeros(HOP, np.float32)
    assert meter.accept(silence).level_dbfs == loud
    assert meter.accept(silence).level_dbfs == loud
    assert meter.accept(silence).is_silent


def test_shares_are_weighted_by_length() -> None:
    meter = LevelMeter(2)
    meter.accept(np.ones(300, np.float32))
    level = meter.accept(np.zeros(100, np.float32))
    assert level.clipped_share == level.dc == pytest.approx(0.75)


def test_one_sample_is_enough() -> None:
    assert LevelMeter(5).accept(np.array([0.5], np.float32)).is_silent


def _heard(samples: Float32) -> SpectrumMeter:
    features = model_spec().features
    meter = SpectrumMeter(features)
    for start in range(0, len(samples), HOP):
        meter.accept(power_spectrum(samples[start : start + HOP], features))
    return meter


def _telephone(samples: Float32) -> Float32:
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / RATE_HZ) > 3_800] = 0
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def test_narrowband_speech_is_told_from_wideband() -> None:
    speech = voice(8 * RATE_HZ)
    assert not _heard(speech).is_narrowband
    assert _heard(_telephone(speech)).is_narrowband
    assert not _heard(_telephone(speech[:RATE_HZ])).is_narrowband  # too little to say so
    assert not _heard(np.zeros(8 * RATE_HZ, np.float32)).is_narrowband


@pytest.mark.parametrize(("snr_db", "is_low"), [(40, False), (30, False), (9, True)])
def test_speech_near_the_noise_is_told(snr_db: float, is_low: bool) -> None:
    speech = voice(20 * RATE_HZ)
    gaps = (np.arange(len(speech)) // RATE_HZ) % 2 == 1
    level = float(speech[~gaps].std())
    speech[gaps] = 0
    noise = np.random.default_rng(0).standard_normal(len(speech))
    noise = _telephone(noise.astype(np.float32))
    noisy = speech + noise / noise.std() * level * 10 ** (-snr_db / 20)
    heard = _heard(noisy.astype(np.float32)).snr_db
    assert heard is not None
    assert (heard < LOW_SNR_DB) == is_low


def test_noise_alone_has_no_snr() -> None:
    noise = np.random.default_rng(0).standard_normal(10 * RATE_HZ).astype(np.float32)
    assert _heard(noise / np.float32(100)).snr_db is None


def test_a_state_goes_on() -> None:
    speech = _telephone(voice(8 * RATE_HZ))
    first, features = _heard(speech[: 10 * HOP]), model_spec().features
    second = SpectrumMeter(features)
    second.restore(json.loads(json.dumps(first.state())))
    for start in range(10 * HOP, len(speech), HOP):
        for meter in (first, second):
            meter.accept(power_spectrum(speech[start : start + HOP], features))
    assert first.state() == second.state()
    assert second.is_narrowband


def test_no_samples_change_nothing():
    meter = LevelMeter(5)
    assert meter.accept(np.empty(0, np.float32)).is_silent
    heard = meter.accept(np.full(100, 0.5, np.float32) * np.tile([1, -1], 50).astype(np.float32))
    assert meter.accept(np.empty(0, np.float32)) == heard
