import io

import numpy as np
import pytest
import soundfile

from model_export.conditions import (
    BABBLE,
    CONDITIONS,
    N_VOICES,
    PACKET_SAMPLES,
    active_power,
    babble,
    car_noise,
    concealed,
    condition,
)
from model_export.figures import _NOISE
from ser_core.errors import BadParameter
from tests.synthetic import voice

OTHERS = [voice(20_000 + 1_000 * i, pitch_hz=100 + 17 * i, seed=i) for i in range(8)]
EVERY = {**CONDITIONS, BABBLE: condition(BABBLE, OTHERS)}


def disturbed(name, samples, seed=0):
    return EVERY[name](samples, np.random.default_rng(seed))


def power_above(samples, low_hz, high_hz=8_000):
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / 16_000)
    return spectrum[(hz >= low_hz) & (hz < high_hz)].sum()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("n_samples", [0, 1, 200, 32_123])
def test_as_many_samples_come_back_whatever_the_length(name, n_samples):
    samples = voice(n_samples)
    kept = samples.copy()
    heard = disturbed(name, samples)
    assert heard.dtype == np.float32
    assert heard.shape == (n_samples,)
    assert np.isfinite(heard).all()
    assert np.abs(heard).max(initial=0) <= 1
    assert np.array_equal(samples, kept)


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_disturbs_alike(name):
    samples = voice(16_000)
    assert np.array_equal(disturbed(name, samples, 3), disturbed(name, samples, 3))
    if "car" in name or "loss" in name or "babble" in name:
        assert not np.array_equal(disturbed(name, samples, 3), disturbed(name, samples, 4))


@pytest.mark.parametrize("name", EVERY)
def test_nothing_comes_later_or_earlier(name):
    samples = voice(48_000)
    heard = disturbed(name, samples)
    one, other = np.fft.rfft(samples, 1 << 17), np.fft.rfft(heard, 1 << 17)
    correlation = np.fft.irfft(other * np.conj(one))
    lag = (int(correlation.argmax()) + (1 << 16)) % (1 << 17) - (1 << 16)
    assert abs(lag) <= 4  # 0.25 ms


@pytest.mark.parametrize("name", ["mulaw-8k", "alaw-8k", "loss-10"])
def test_a_telephone_has_nothing_above_4_khz(name):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000).astype(np.float32)
    heard = disturbed(name, samples)
    assert power_above(heard, 4_100) < 1e-4 * power_above(samples, 4_100)
    assert power_above(heard, 300, 3_400) == pytest.approx(
        power_above(samples, 300, 3_400), rel=0.15
    )


@pytest.mark.parametrize(("name", "subtype"), [("mulaw-8k", "ULAW"), ("alaw-8k", "ALAW")])
def test_g711_is_that_of_libsndfile(name, subtype, monkeypatch):
    line = np.random.default_rng(1).normal(0, 0.1, 8_000).astype(np.float32)
    monkeypatch.setattr("model_export.conditions._resampled", lambda samples, *rates: samples)
    heard = disturbed(name, line)
    file = io.BytesIO()
    soundfile.write(file, line, 8_000, format="WAV", subtype=subtype)
    file.seek(0)
    expected, _ = soundfile.read(file, dtype="float32")
    # libsndfile truncates before it looks for the level: it may be the next one below.
    levels = np.unique(expected)
    steps = np.searchsorted(levels, heard) - np.searchsorted(levels, expected)
    assert np.abs(steps).max() <= 1
    assert np.mean(steps == 0) > 0.8
    noise_db = 10 * np.log10(np.mean((heard - line) ** 2) / np.mean(line**2))
    assert noise_db == pytest.approx(-38, abs=1)


def test_opus_loses_detail_and_keeps_the_voice():
    samples = voice(48_000)
    heard = disturbed("opus-12k", samples)
    assert not np.allclose(heard, samples, atol=1e-3)
    # It is decoded at 48 kHz, and comes a fraction of a millisecond earlier or later.
    assert max(np.corrcoef(np.roll(heard, lag), samples)[0, 1] for lag in range(-8, 9)) > 0.8


def test_without_pyav_opus_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(BadParameter, match="PyAV") as refused:
        disturbed("opus-12k", voice(8_000))
    assert "glrf[media]" in refused.value.remedy


def test_lost_packets_repeat_the_last_then_fade():
    line = np.repeat(np.arange(1, 9, dtype=np.float32), PACKET_SAMPLES)[:-10]
    is_lost = np.array([True, False, True, True, True, True, False, True])
    heard = np.pad(concealed(line, is_lost), (0, 10), mode="edge").reshape(8, PACKET_SAMPLES)
    assert heard[:, 0].tolist() == [0, 2, 2, 1, 0.5, 0, 7, 7]
    assert np.all(heard == heard[:, :1])


@pytest.mark.parametrize(("name", "share"), [("loss-5", 0.05), ("loss-10", 0.1)])
def test_so_many_packets_are_lost(name, share):
    samples = np.random.default_rng(2).uniform(-0.5, 0.5, 320 * 2_000).astype(np.float32)
    changed = np.abs(disturbed(name, samples) - disturbed("mulaw-8k", samples)).reshape(-1, 320)
    assert np.mean(changed[:, 120:200].max(axis=1) > 0.1) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("snr_db", [20, 10, 5, 0])
def test_snr_is_measured_while_somebody_speaks(snr_db):
    speech = 0.3 * voice(48_000)
    pauses = np.concatenate([np.zeros(48_000, np.float32), speech, np.zeros(96_000, np.float32)])
    noise = disturbed(f"car-{snr_db}db", pauses) - pauses
    measured_db = 10 * np.log10(np.mean(speech**2) / np.mean(noise**2))
    assert measured_db == pytest.approx(snr_db, abs=0.5)


def test_active_power_leaves_pauses_out_and_silence_is_zero():
    speech = voice(32_000)
    padded = np.concatenate([speech, np.zeros(160_000, np.float32)])
    assert active_power(padded) == pytest.approx(active_power(speech), rel=0.15)
    assert active_power(np.zeros(32_000, np.float32)) == 0
    assert np.array_equal(
        disturbed("car-0db", np.zeros(8_000, np.float32)), np.zeros(8_000, np.float32)
    )


def test_a_car_is_low_and_comes_in_gusts():
    noise = car_noise(16_000 * 20, np.random.default_rng(5))
    whole = power_above(noise, 0)
    assert power_above(noise, 0, 40) < 0.1 * whole
    assert power_above(noise, 0, 500) > 0.8 * whole
    assert 1e-6 * whole < power_above(noise, 4_000) < 1e-2 * whole
    windy = np.array([power_above(part, 1_000) for part in noise.reshape(40, -1)])
    assert windy.max() > 1.5 * windy.min()


def test_loud_speech_in_noise_is_made_quieter_not_clipped():
    loud = voice(32_000) * np.float32(1.4)
    heard = disturbed("car-0db", loud, 1)
    assert np.abs(heard).max() == pytest.approx(1, abs=1e-6)
    assert np.count_nonzero(np.abs(heard) > 0.9999) == 1


def test_babble_takes_the_voices_alike_and_refuses_too_few():
    quiet_and_loud = [voice * np.float32(10.0**-i) for i, voice in enumerate(OTHERS[:N_VOICES])]
    samples = voice(32_000, seed=9)
    one = babble(OTHERS[:N_VOICES])(samples, np.random.default_rng(0))
    other = babble(quiet_and_loud)(samples, np.random.default_rng(0))
    assert one == pytest.approx(other, abs=1e-3)
    with pytest.raises(BadParameter, match="6 recordings of other speakers, and 5"):
        babble([*OTHERS[:5], np.zeros(8_000, np.float32)])


def test_names_are_those_that_the_report_reads():
    noises = [name for name in EVERY if _NOISE.fullmatch(name)]
    assert noises == ["car-20db", "car-10db", "car-5db", "car-0db", "babble-10db"]
    with pytest.raises(BadParameter, match="unknown condition 'car'") as refused:
        condition("car")
    assert "car-10db" in refused.value.remedy
