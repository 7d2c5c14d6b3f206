import numpy as np
import pytest

from model_export.corpora.pieces import RATE_HZ, pieces
from tests.synthetic import voice


def spoken(duration_s, seed=1):
    return voice(int(duration_s * RATE_HZ), RATE_HZ, 140, seed)


def silence(duration_s):
    return np.zeros(int(duration_s * RATE_HZ), np.float32)


def test_silent_edges_are_left_out():
    (piece,) = pieces(np.concatenate([silence(2), spoken(3), silence(2)]))
    assert len(piece) / RATE_HZ == pytest.approx(3.2, abs=0.1)


def test_long_speech_is_cut_in_its_pauses():
    parts = [spoken(4.0), silence(0.4), spoken(5.0), silence(0.4), spoken(6.0)]
    found = list(pieces(np.concatenate(parts)))
    assert [round(len(piece) / RATE_HZ) for piece in found] == [4, 5, 6]


def test_speech_without_a_pause_is_cut_all_the_same():
    found = list(pieces(0.5 * np.ones(35 * RATE_HZ, np.float32)))
    lengths_s = [len(piece) / RATE_HZ for piece in found]
    assert max(lengths_s) <= 10
    assert sum(lengths_s) > 33


@pytest.mark.parametrize(
    "samples", [silence(3), spoken(3) * 1e-3, spoken(0.8), np.zeros(0, np.float32)]
)
def test_what_is_silent_or_too_short_gives_none(samples):
    assert list(pieces(samples)) == []
