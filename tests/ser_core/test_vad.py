import math

import numpy as np
import pytest

from ser_core.vad import NO_SPEECH_DBFS, LevelMeter
from tests.synthetic import voice

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
    samples[50:60] = 0.99
    assert LevelMeter(1).accept(samples).clipped_share == pytest.approx(0.05)


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
