import numpy as np
import pytest

from ser_core.waveform import MAX_COLUMNS, Outliner

RATE_HZ = 8_000


def outline(samples: np.ndarray, n_block: int, channels: tuple[int, ...] = (0,)):
    outliner = Outliner(RATE_HZ, channels)
    for start in range(0, len(samples), n_block):
        outliner.accept(samples[start : start + n_block])
    return outliner.waveform


@pytest.mark.parametrize("n_samples", [1, 39, 40, 41, MAX_COLUMNS * 40, MAX_COLUMNS * 40 + 1])
def test_each_column_has_its_lowest_and_highest_sample(n_samples: int) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (n_samples, 1)).astype(np.float32)
    waveform = outline(samples, 8_000)
    width = round(waveform.column_s * RATE_HZ)
    expected = [
        (samples[at : at + width].min(), samples[at : at + width].max())
        for at in range(0, n_samples, width)
    ]
    np.testing.assert_array_equal(waveform.outlines[0], np.array(expected, np.float32).T)


def test_blocks_do_not_matter_and_columns_stay_bounded() -> None:
    samples = np.random.default_rng(1).uniform(-1, 1, (1_000_003, 2)).astype(np.float32)
    one, other = outline(samples, 997, (1,)), outline(samples, 300_000, (1,))
    assert one.column_s == other.column_s == 4 * 0.005
    np.testing.assert_array_equal(one.outlines[1], other.outlines[1])
    assert MAX_COLUMNS // 2 < one.outlines[1].shape[1] <= MAX_COLUMNS


def test_only_the_channels_that_are_asked_for_are_looked_at() -> None:
    samples = np.zeros((100, 2), np.float32)
    samples[:, 1] = np.nan
    assert outline(samples, 10).outlines.keys() == {0}


def test_what_is_no_number_is_silence() -> None:
    samples = np.full((100, 1), np.nan, np.float32)
    np.testing.assert_array_equal(outline(samples, 7).outlines[0], 0)
