from pathlib import Path

import numpy as np
import soundfile

from glrf.plot import envelope


def test_the_envelope_keeps_every_peak(tmp_path: Path) -> None:
    samples = np.zeros((80_000, 2))
    samples[12_345, 0], samples[70_000, 1] = 0.5, -0.25
    path = tmp_path / "peaks.wav"
    soundfile.write(path, samples, 16_000)
    bounds = envelope(path, 5_000)
    assert bounds.shape == (2, 2, 2_000)
    assert bounds[0, 1].max() == 0.5
    assert np.argmax(bounds[0, 1]) == 12_345 // 40
    assert bounds[1, 0].min() == -0.25


def test_of_less_than_a_column_a_sample(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, np.full(100, 0.5), 8_000)
    assert envelope(path, 12).shape == (1, 2, 100)
