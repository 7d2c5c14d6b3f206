"""WAVs whose headers say too little, too much or nothing, and what stands behind the samples."""

import numpy as np
import pytest

from tests.ser_core.recordings import by_soundfile, decode, refused, wav


def test_a_wav_that_announces_more_than_it_holds() -> None:
    error = refused(wav(bytes(3_200), data_size=1_000_000_000))
    assert error.code == "truncated_audio"


def test_a_wav_that_announces_less_than_it_holds() -> None:
    pcm = np.arange(1_600, dtype="<i2").tobytes()
    _, samples = decode(wav(pcm[:1_000], tail=b"LIST\x04\0\0\0abcd" + pcm))
    assert len(samples) == 500


@pytest.mark.parametrize("n_announced", [2, 4_000, 30_001])
def test_a_wav_whose_header_was_not_written_again(n_announced: int) -> None:
    """As a recorder leaves it that wrote the header now and then, and died."""
    pcm = np.random.default_rng(0).integers(-9_000, 9_000, 20_000, "<i2")
    _, samples = decode(wav(pcm.tobytes(), data_size=n_announced))
    np.testing.assert_array_equal(samples[:, 0] * 32768, pcm)


@pytest.mark.parametrize("tail", [bytes(4_000), b"id3 \x88\x13\0\0" + bytes(5_000)])
def test_what_stands_behind_a_wavs_samples_is_not_heard(tail: bytes) -> None:
    _, samples = decode(wav(bytes(1_000), tail=tail))
    assert len(samples) == 500


_XMP = b"_PMX" + (6_000).to_bytes(4, "little") + b"<x:xmp> " * 750
_LIST = b"LIST" + (6_001).to_bytes(4, "little") + b"INFO" + b"speech" * 999 + b"abc"


@pytest.mark.parametrize(
    "tail",
    [
        _XMP,
        _LIST + b"\0" + _XMP,
        _LIST + _XMP,  # its pad byte is missing, too
        b"abcd\3\0\0\0abc" + _XMP,
        _XMP[:-1_000],
        b"\xa9abc" + _XMP[4:],
    ],
)
@pytest.mark.parametrize("n_bytes", [1_000, 1_001])
def test_chunks_behind_the_samples_are_not_heard(n_bytes: int, tail: bytes) -> None:
    """Behind an odd number of bytes not all writers add one, some chunks are cut off or unknown."""
    data = np.random.default_rng(0).bytes(n_bytes)
    _, samples = decode(wav(data, tail=tail))
    assert samples[:, 0].tolist() == (np.frombuffer(data[:1_000], "<i2") / 32_768).tolist()


@pytest.mark.parametrize("tail", [_XMP, _XMP + _LIST, _LIST + b"\0", _LIST + b"\0" + _XMP])
@pytest.mark.parametrize("size", [0, 500, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_chunks_behind_samples_of_unknown_length_are_not_heard(size: int, tail: bytes) -> None:
    data = np.random.default_rng(0).bytes(10_000)
    _, samples = decode(wav(data, tail=tail, data_size=size, riff_size=0xFFFF_FFFF))
    assert samples[:, 0].tolist() == (np.frombuffer(data, "<i2") / 32_768).tolist()
    if size != 500:
        assert refused(wav(b"", tail=tail, data_size=size)).code == "empty_audio"


@pytest.mark.parametrize("size", [0, 0x7FFF_0000, 0x7FFF_F000, 0x7FFF_FFFF, 0xFFFF_FFFF])
@pytest.mark.parametrize("riff_size", [0, 36, None, 0xFFFF_FFFF])
def test_a_wav_of_unknown_length(size: int, riff_size: int | None) -> None:
    pcm = (1000 * np.sin(np.arange(1_600))).astype("<i2")
    _, samples = decode(wav(pcm.tobytes(), data_size=size, riff_size=riff_size))
    np.testing.assert_array_equal(samples[:, 0] * 32768, pcm)


def test_rf64_that_was_written_to_a_pipe() -> None:
    data = bytearray(by_soundfile("RF64", "PCM_16", 16_000))
    _, expected = decode(bytes(data))
    sizes_at = data.index(b"ds64") + 8
    data[sizes_at : sizes_at + 24] = bytes(24)
    np.testing.assert_array_equal(decode(bytes(data))[1], expected)


@pytest.mark.parametrize("tail", [b"", b"LIST\x04\0\0\0abcd", b"LIST\x03\0\0\0abc"])
def test_a_wav_without_samples(tail: bytes) -> None:
    assert refused(wav(b"", tail=tail)).code == "empty_audio"


def test_half_a_sample_at_the_end_is_left_out() -> None:
    _, samples = decode(wav(bytes(2 * 100 + 1)))
    assert len(samples) == 100
