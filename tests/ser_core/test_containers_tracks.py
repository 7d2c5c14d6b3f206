"""Timestamps and tracks: what a player would show, and what of a file is heard."""

import numpy as np
import pytest

from ser_core.errors import BadAudio
from tests.ser_core.recordings import DURATION_S, by_pyav, containers, decode

FORMATS = [
    ("webm", "libopus", 48_000),
    ("matroska", "pcm_s16le", 16_000),
    ("mp4", "aac", 48_000),
]


@pytest.mark.parametrize(("format_name", "codec", "rate_hz"), FORMATS)
def test_a_late_start_and_a_pause_are_silence(format_name: str, codec: str, rate_hz: int) -> None:
    pause_at_s, late_s, pause_s = 0.25, 3.0, 4.0

    def moved(time_s: float) -> float:
        return time_s + late_s + (pause_s if time_s > pause_at_s else 0)

    _, expected = decode(by_pyav(format_name, codec, rate_hz))
    audio, samples = decode(by_pyav(format_name, codec, rate_hz, moved=moved))
    assert audio.rate_hz == rate_hz
    n_slack = rate_hz // 20  # of rounded timestamps, and of what a codec makes up at its start
    assert len(samples) == pytest.approx(len(expected) + 7 * rate_hz, abs=n_slack)
    assert not samples[: 3 * rate_hz - n_slack].any()
    heard = slice(3 * rate_hz + n_slack, int((late_s + pause_at_s) * rate_hz) - n_slack)
    assert np.abs(samples[heard]).max() > 0.05
    pause_at = int((late_s + pause_at_s + 0.1) * rate_hz)
    assert not samples[pause_at : pause_at + 3 * rate_hz].any()
    tail = samples[int((late_s + pause_s + pause_at_s + 0.1) * rate_hz) :]
    assert np.abs(tail).max() > 0.05


@pytest.mark.parametrize(("format_name", "codec", "rate_hz"), FORMATS)
@pytest.mark.parametrize("late_s", [0.05, 3 * 24 * 3600.0])
def test_a_clock_that_ran_before_is_no_silence(
    format_name: str, codec: str, rate_hz: int, late_s: float
) -> None:
    """A few packets late, or a piece of a live stream."""
    moved = by_pyav(format_name, codec, rate_hz, moved=lambda time_s: time_s + late_s)
    n_expected = len(decode(by_pyav(format_name, codec, rate_hz))[1])
    assert len(decode(moved)[1]) == pytest.approx(n_expected, abs=rate_hz // 20)


def test_timestamps_that_leap_are_refused() -> None:
    def moved(time_s: float) -> float:
        return time_s + (100_000 if time_s > 0.25 else 0)

    with pytest.raises(BadAudio, match=r"leap by 100000 s") as caught:
        decode(by_pyav("webm", "libopus", 48_000, moved=moved))
    assert "ffmpeg" in caught.value.remedy


def test_timestamps_that_fall_behind_leave_nothing_out() -> None:
    slow = by_pyav("matroska", "pcm_s16le", 16_000, moved=lambda time_s: time_s * 0.3)
    assert len(decode(slow)[1]) == DURATION_S * 16_000


@pytest.mark.parametrize(
    ("format_name", "codec"),
    [("mp4", "aac"), ("matroska", "pcm_s16le"), ("ogg", "flac"), ("ogg", "libopus")],
)
def test_other_tracks_are_counted(format_name: str, codec: str) -> None:
    two, expected = (decode(by_pyav(format_name, codec, 48_000, n_tracks=n)) for n in (2, 1))
    assert (two[0].n_tracks, expected[0].n_tracks) == (2, 1)
    assert len(two[1]) == pytest.approx(len(expected[1]), abs=2_048)


@pytest.mark.parametrize("name", containers())
def test_one_track(name: str) -> None:
    assert decode(containers()[name])[0].n_tracks == 1
