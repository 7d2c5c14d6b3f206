import io
from typing import get_args

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_core.decode import (
    ALAW,
    ENCODINGS,
    MULAW,
    Decoder,
    Encoding,
    check_encoding,
    sanitize,
    sniff_container,
)
from ser_core.errors import BadParameter, UnsupportedEncoding
from tests.ser_core.player import split


@pytest.mark.parametrize(("table", "subtype"), [(MULAW, "ULAW"), (ALAW, "ALAW")])
def test_g711_tables_are_those_of_libsndfile(table: np.ndarray, subtype: str) -> None:
    every_code = io.BytesIO(bytes(range(256)))
    expected, _ = sf.read(
        every_code, dtype="float32", format="RAW", subtype=subtype, samplerate=8_000, channels=1
    )
    np.testing.assert_array_equal(table, expected)


def test_g711_silence() -> None:
    assert MULAW[0xFF] == 0
    assert abs(ALAW[0xD5]) == abs(ALAW[0x55]) == 8 / 32768


def test_s16_full_scale() -> None:
    samples = Decoder("pcm_s16le", 1).accept(np.array([-32768, 0, 16384], "<i2").tobytes())
    np.testing.assert_array_equal(samples, np.array([[-1], [0], [0.5]], np.float32))
    assert samples.dtype == np.float32


def test_f32_passes_as_sent() -> None:
    sent = np.array([[0.25, -3.0], [np.inf, 1e30]], "<f4")
    np.testing.assert_array_equal(Decoder("pcm_f32le", 2).accept(sent.tobytes()), sent)


def test_channels_are_interleaved() -> None:
    data = np.array([1, -1, 2, -2, 3, -3], "<i2").tobytes()
    samples = Decoder("pcm_s16le", 2).accept(data)
    np.testing.assert_array_equal(samples[:, 0] * 32768, [1, 2, 3])
    np.testing.assert_array_equal(samples[:, 1] * 32768, [-1, -2, -3])


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize(("encoding", "n_bytes"), [*zip(ENCODINGS, (2, 4, 1, 1), strict=True)])
def test_frame_bytes(encoding: Encoding, n_bytes: int, n_channels: int) -> None:
    assert Decoder(encoding, n_channels).frame_bytes == n_bytes * n_channels


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    data=st.binary(max_size=64),
    sizes=st.lists(st.integers(0, 9), max_size=30),
    encoding=st.sampled_from(ENCODINGS),
    n_channels=st.integers(1, 2),
)
def test_any_chunking_gives_the_same_samples(
    data: bytes, sizes: list[int], encoding: Encoding, n_channels: int
) -> None:
    decoder = Decoder(encoding, n_channels)
    data = data[: len(data) - len(data) % decoder.frame_bytes]
    expected = decoder.accept(data)
    assert expected.shape == (len(data) // decoder.frame_bytes, n_channels)
    whole_sizes = [size * decoder.frame_bytes for size in sizes]
    parts = [decoder.accept(chunk) for chunk in split(data, whole_sizes)]
    np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_part_of_a_sample_is_refused(encoding: Encoding) -> None:
    decoder = Decoder(encoding, 2)
    for n_bytes in range(1, decoder.frame_bytes):
        with pytest.raises(ValueError, match=r"buffer size|reshape"):
            decoder.accept(bytes(decoder.frame_bytes + n_bytes))


@pytest.mark.parametrize("n_channels", [-1, 0, 3, 1024])
def test_number_of_channels_is_limited(n_channels: int) -> None:
    with pytest.raises(BadParameter, match="out of range") as caught:
        Decoder("pcm_s16le", n_channels)
    assert "1 or 2" in caught.value.remedy


@pytest.mark.parametrize("encoding", ["opus", "pcm_s24le", "", "PCM_S16LE", "wav"])
def test_unknown_encoding_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match=repr(encoding)) as caught:
        Decoder(encoding, 1)
    assert all(known in caught.value.remedy for known in ENCODINGS)


def test_known_encodings() -> None:
    assert [check_encoding(name) for name in ENCODINGS] == list(get_args(Encoding))


def test_sanitize() -> None:
    dirty = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.5, -1.0], np.float32)
    clean, n_bad = sanitize(dirty)
    assert n_bad == 3
    assert clean.dtype == np.float32
    np.testing.assert_array_equal(clean, np.array([0, 0, 0, 1, -1, 0.5, -1], np.float32))


def test_sanitize_leaves_its_argument_alone() -> None:
    dirty = np.array([np.nan, 2.0], np.float32)
    sanitize(dirty)
    assert np.isnan(dirty[0])
    assert dirty[1] == 2


@pytest.mark.parametrize("format_name", ["WAV", "FLAC", "OGG"])
def test_a_container_is_known_by_its_signature(format_name: str) -> None:
    file = io.BytesIO()
    sf.write(file, np.zeros(100, np.float32), 16_000, format=format_name)
    assert (sniff_container(file.getvalue()) or "").upper() == format_name


def test_m4a_is_known_by_its_second_word() -> None:
    assert sniff_container(b"\0\0\0\x20ftypM4A ") == "M4A"


@pytest.mark.parametrize("data", [b"", b"RIF", bytes(100), b"\xff\xfe" * 20, b"hello"])
def test_raw_audio_is_no_container(data: bytes) -> None:
    assert sniff_container(data) is None
