import pytest

from glrf_client import AudioFormat


@pytest.mark.parametrize(
    ("audio", "n_bytes"),
    [
        (AudioFormat(), 2),
        (AudioFormat("pcm_f32le", 48_000, 2), 8),
        (AudioFormat("mulaw", 8_000), 1),
        (AudioFormat("alaw", 8_000, 2), 2),
    ],
)
def test_a_sample_frame_and_a_chunk(audio: AudioFormat, n_bytes: int) -> None:
    assert audio.frame_bytes == n_bytes
    assert audio.chunk_bytes == audio.sample_rate // 10 * n_bytes


def test_times_are_exact_places() -> None:
    assert AudioFormat().place_at(1001) == 1001 * 16 * 2
    assert AudioFormat(sample_rate=11_025, channels=2).place_at(40) == 441 * 4
    assert AudioFormat(sample_rate=44_100).place_at(10) == 882
    for time_ms in (1, 39, -40):
        with pytest.raises(ValueError, match="between two samples at 11025 Hz"):
            AudioFormat(sample_rate=11_025).place_at(time_ms)


def test_what_is_left_out_is_the_contracts_default() -> None:
    assert AudioFormat.told(None, None, None) == AudioFormat()
    assert AudioFormat.told("opus", None, 2) == AudioFormat("opus", 48_000, 2)
    assert AudioFormat.told("mulaw", 8_000, None) == AudioFormat("mulaw", 8_000)


def test_packets() -> None:
    audio = AudioFormat("opus", 48_000, 2)
    assert audio.is_packets
    assert audio.place_at(1001) == 1001 * 48
    assert audio.duration_s(b"\xfb\x03abc") == 0.06
    assert AudioFormat("mulaw", 8_000, 2).duration_s(bytes(800)) == 0.05


def test_an_encoding_that_is_not_samples() -> None:
    assert not AudioFormat("opus").is_raw
    assert AudioFormat("opus", 48_000, 2).frame_bytes == 1
