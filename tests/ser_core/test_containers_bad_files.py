"""Files that are no audio, cut, or of an unreadable kind: each an answer with a cause."""

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ser_core.containers import open_audio
from ser_core.errors import BadAudio, InputError, UnsupportedEncoding
from ser_core.ogg import with_checksum
from tests.ser_core.recordings import (
    by_pyav,
    by_soundfile,
    containers,
    decode,
    id3,
    long_ogg,
    ogg_pages,
    refused,
    wav,
)

FILES = containers()

# --- bad files


def test_an_empty_body() -> None:
    error = refused(b"")
    assert isinstance(error, BadAudio)
    assert error.code == "empty_audio"


@pytest.mark.parametrize(
    "data",
    [
        b"hello, this is text where audio is due\n" * 100,
        b'{"audio": "none"}',
        b"<html><body>404</body></html>",
        b"#EXTM3U\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"RIFF\x24\0\0\0AVI LIST",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        bytes(4_096),
        b"R",
        np.random.default_rng(1).bytes(4_096),
    ],
)
def test_what_is_not_audio(data: bytes) -> None:
    error = refused(data)
    assert isinstance(error, UnsupportedEncoding)
    assert error.code == "unsupported_container"
    assert "WAV" in error.remedy


@pytest.mark.parametrize("kept", [0.999, 0.9, 0.5, 0.2])
@pytest.mark.parametrize(
    "name",
    [
        "wav",
        "wav_float",
        "wav_mulaw",
        "flac",
        "vorbis",
        "opus",
        "ogg_flac",
        "m4a",
        "webm",
        "matroska",
    ],
)
def test_a_truncated_file(name: str, kept: float) -> None:
    error = refused(FILES[name][: int(len(FILES[name]) * kept)])
    assert isinstance(error, BadAudio)
    assert error.code == "truncated_audio"


@pytest.mark.parametrize("name", ["wav", "flac", "vorbis", "m4a", "webm"])
@pytest.mark.parametrize("n_bytes", [8, 13, 20, 27, 40])
def test_a_truncated_header(name: str, n_bytes: int) -> None:
    error = refused(FILES[name][:n_bytes])
    assert isinstance(error, BadAudio)
    assert error.code == "truncated_audio"


def test_a_flac_that_ends_with_its_header() -> None:
    data = FILES["flac"]
    position, is_last = 4, False
    while not is_last:
        is_last = data[position] >= 0x80
        position += 4 + int.from_bytes(data[position + 1 : position + 4], "big")
    assert refused(data[:position]).code == "truncated_audio"


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_an_ogg_with_a_page_damaged_or_missing(subtype: str) -> None:
    data = long_ogg(subtype)
    pages = ogg_pages(data)
    assert len(pages) > 6
    assert "missing" in str(refused(b"".join(pages[:4] + pages[5:])))
    start = len(b"".join(pages[:4]))
    # Its signature, granule, serial, sequence, checksum, the segments' sizes, and what they hold.
    for at in (0, 6, 14, 18, 22, 30, 200, len(pages[4]) - 1):
        damaged = bytearray(data)
        damaged[start + at] ^= 1
        assert refused(bytes(damaged)).code in ("bad_audio", "truncated_audio")


def test_a_flac_in_ogg_that_is_cut_between_pages() -> None:
    head, *pages = ogg_pages(FILES["ogg_flac"])
    at = head.index(b"fLaC") + 8 + 14  # the last 32 of the total's 36 bits, in STREAMINFO
    for n_told in (0, 8_000, 8_001, 2**32 - 1):
        told = with_checksum(head[:at] + n_told.to_bytes(4, "big") + head[at + 4 :])
        data = told + b"".join(pages)
        if n_told <= 8_000:
            assert len(decode(data)[1]) == 8_000
        else:
            assert refused(data).code == "truncated_audio"


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_an_ogg_of_a_live_stream_begins_in_its_middle(subtype: str) -> None:
    data = long_ogg(subtype)
    pages = ogg_pages(data)
    n_heads = 2  # the second one has all headers but the first
    _, samples = decode(b"".join(pages[:n_heads] + pages[n_heads + 2 :]) + b"TAG" + bytes(125))
    assert 0 < len(samples) < len(decode(data)[1])


def _mp3_of_frames(samples: NDArray[np.float64] | None = None, mode: str = "CONSTANT") -> bytes:
    """Without the first frame, which announces the rest; at a constant rate, as the radio's."""
    file = io.BytesIO()
    if samples is None:
        samples = 0.3 * np.sin(0.05 * np.arange(44_100))
    sf.write(
        file,
        samples,
        44_100,
        "MPEG_LAYER_III",
        format="MP3",
        bitrate_mode=mode,
        compression_level=0.5,
    )
    data = file.getvalue()
    return data[data.index(data[:2], 2) :]


def _mp3_of_varying_frames() -> tuple[bytes, NDArray[np.float64]]:
    """Noise first and then silence: from the first frames' bit rate it seems to end early."""
    samples = np.zeros(5 * 44_100)
    samples[:44_100] = np.random.default_rng(0).uniform(-0.3, 0.3, 44_100)
    samples[-22_050:] = 0.3 * np.sin(0.05 * np.arange(22_050))
    return _mp3_of_frames(samples, "VARIABLE"), samples


@pytest.mark.parametrize("data", [FILES["aac"], _mp3_of_frames()], ids=["aac", "mp3"])
@pytest.mark.parametrize("n_bytes", [8, 20, 100])
def test_less_than_a_frame(data: bytes, n_bytes: int) -> None:
    error = refused(data[:n_bytes])
    assert isinstance(error, BadAudio)
    assert error.code in ("bad_audio", "empty_audio")


def test_an_mp3_that_announces_nothing_may_be_cut_anywhere() -> None:
    # It is a row of frames, like a radio stream: what is there is decoded.
    data = _mp3_of_frames()
    _, whole = decode(data)
    _, half = decode(data[: len(data) // 2])
    assert 0.3 < len(half) / len(whole) < 0.7
    np.testing.assert_array_equal(half[:8_000], whole[:8_000])


def test_an_mp3_of_varying_frames_that_announces_nothing_is_read_to_its_end() -> None:
    data, samples = _mp3_of_varying_frames()
    with sf.SoundFile(io.BytesIO(data)) as file:
        assert file.frames < len(samples) / 2  # what libsndfile takes it for
    _, decoded = decode(data)
    delay = 1_105 + 1_152  # LAME's encoder and the decoder; the first frame is not there
    assert abs(len(decoded) + delay - len(samples)) < 4 * 1_152
    with av.open(io.BytesIO(data), "r", format="mp3") as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    np.testing.assert_allclose(decoded, np.concatenate(frames, axis=1).T, atol=2e-5)


def test_without_pyav_it_is_refused_and_nothing_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = _mp3_of_varying_frames()
    monkeypatch.setitem(sys.modules, "av", None)
    error = refused(data)
    assert (error.code, "glrf[media]" in error.remedy) == ("unsupported_container", True)


@pytest.mark.parametrize("tag", [b"", id3(200), id3(70_000)])
@pytest.mark.parametrize("name", [b"Xing", b"Info"])
def test_a_cut_mp3_that_announces_its_bytes(name: bytes, tag: bytes) -> None:
    data = tag + FILES["mp3"].replace(b"Xing", name)
    assert refused(data[: len(data) - len(FILES["mp3"]) // 2]).code == "truncated_audio"
    for n_bytes in range(len(tag), len(tag) + 60):
        refused(data[:n_bytes])
    decode(data)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_cut_mp3_that_announces_its_frames_only(rate_hz: int) -> None:
    data = bytearray(by_soundfile("MP3", "MPEG_LAYER_III", rate_hz))
    at = data.index(b"Xing")
    data[at + 7] &= ~2
    del data[at + 12 : at + 16]
    data[at + 152 : at + 152] = bytes(4)  # behind the delays of LAME's part
    assert len(decode(bytes(data))[1]) == rate_hz // 2
    assert refused(bytes(data[: len(data) // 2])).code == "truncated_audio"


def test_a_cut_mp3_of_the_other_kind_of_header() -> None:
    data = bytearray(FILES["mp3"])
    data[36:40], data[46:50] = b"VBRI", len(data).to_bytes(4, "big")
    data[50:54] = (21).to_bytes(4, "big")  # frames
    assert refused(bytes(data[: len(data) // 2])).code == "truncated_audio"
    decode(bytes(data))


@pytest.mark.parametrize("format_name", ["WAV", "FLAC", "OGG"])
def test_a_header_without_samples(format_name: str) -> None:
    file = io.BytesIO()
    sf.write(file, np.zeros((0, 1), np.float32), 16_000, format=format_name)
    assert refused(file.getvalue()).code == "empty_audio"


@pytest.mark.parametrize("n_channels", [3, 8, 1024, 65_535])
def test_too_many_channels(n_channels: int) -> None:
    error = refused(wav(bytes(n_channels * 2), n_channels=n_channels))
    assert isinstance(error, BadAudio)
    assert error.code == "too_many_channels"
    assert str(n_channels) in str(error)


def test_too_many_channels_of_a_flac() -> None:
    assert refused(by_soundfile("FLAC", "PCM_16", 16_000, 6)).code == "too_many_channels"


def test_no_channel() -> None:
    error = refused(wav(bytes(100), n_channels=0))
    assert isinstance(error, BadAudio)
    assert "no channel" in str(error)


@pytest.mark.parametrize("rate_hz", [0, 1, 7_999, 192_001, 0xFFFF_FFFF])
def test_rate_out_of_range(rate_hz: int) -> None:
    error = refused(wav(bytes(100), rate_hz=rate_hz))
    assert isinstance(error, BadAudio)
    assert error.code == "rate_out_of_range"
    assert f"{rate_hz} Hz" in str(error)


def test_limits_are_the_callers() -> None:
    with pytest.raises(BadAudio) as caught:
        open_audio(io.BytesIO(FILES["wav"]), max_channels=1)
    assert caught.value.code == "too_many_channels"
    with pytest.raises(BadAudio) as caught:
        open_audio(io.BytesIO(FILES["webm"]), max_rate_hz=16_000)
    assert caught.value.code == "rate_out_of_range"
    with pytest.raises(BadAudio) as caught:
        open_audio(io.BytesIO(FILES["flac"]), min_rate_hz=44_100)
    assert caught.value.code == "rate_out_of_range"


def test_audio_that_changes_on_the_way() -> None:
    error = refused(by_pyav("adts", "aac", 44_100, 2) + by_pyav("adts", "aac", 16_000, 1))
    assert isinstance(error, BadAudio)
    assert "from 44100 Hz, 2 channels to 16000 Hz, 1 channels" in str(error)


@pytest.mark.parametrize("name", ["vorbis", "opus", "flac", "wav", "m4a"])
def test_a_chain_of_recordings(name: str) -> None:
    error = refused(FILES[name] + FILES[name])
    assert isinstance(error, BadAudio)
    assert "several recordings" in str(error)


def test_a_codec_that_is_not_taken() -> None:
    error = refused(by_pyav("matroska", "ac3", 48_000))
    assert isinstance(error, UnsupportedEncoding)
    assert "ac3" in str(error)


def test_a_video_without_sound_is_told_apart() -> None:

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("rawvideo", rate=10, width=16, height=16, pix_fmt="yuv420p")
        frame = av.VideoFrame(16, 16, "yuv420p")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    error = refused(file.getvalue())
    assert error.code == "empty_audio"
    assert "no audio track" in str(error)


def test_an_mp3_that_goes_on_after_its_announced_end() -> None:
    error = refused(FILES["mp3"] + FILES["mp3"])
    assert isinstance(error, BadAudio)
    assert "more audio" in str(error)


@pytest.mark.parametrize(
    "tags",
    [id3(9_000), b"TAG" + bytes(125) + id3(100_000)],
    ids=["cover", "both"],
)
def test_mp3s_in_a_row_with_their_covers(tags: bytes) -> None:
    assert "more audio" in str(refused(FILES["mp3"] + tags + FILES["mp3"]))
    frames = _mp3_of_frames()  # nothing is announced there
    n_one = len(decode(frames)[1])
    assert len(decode(frames + tags + frames)[1]) == pytest.approx(2 * n_one, abs=3 * 1_152)


@pytest.mark.parametrize("tail", [b"\0", b"TAG" + bytes(125), id3(70_000), b"\xff\xf8" * 3_000])
def test_what_stands_behind_a_flac_is_not_heard(tail: bytes) -> None:
    data = FILES["flac"]
    np.testing.assert_array_equal(decode(data + tail)[1], decode(data)[1])
    assert refused(data[: len(data) // 2] + tail).code == "truncated_audio"
    assert "several recordings" in str(refused(data + tail + data))


def test_a_tag_behind_a_flac_of_unknown_length() -> None:
    data = bytearray(FILES["flac"])
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])  # no total in STREAMINFO
    tagged = bytes(data) + b"TAG" + b"a" * 125
    np.testing.assert_array_equal(decode(tagged)[1], decode(FILES["flac"])[1])
    assert refused(tagged[:-1_000] + tagged[-128:]).code == "truncated_audio"


@pytest.mark.parametrize("head", [b"", id3(300)])
@pytest.mark.parametrize("n_zeros", [1, 3, 1_000])
def test_zeros_before_an_mp3(head: bytes, n_zeros: int) -> None:
    data = head + bytes(n_zeros) + FILES["mp3"]
    np.testing.assert_array_equal(decode(data)[1], decode(FILES["mp3"])[1])
    assert refused(data[: len(data) // 2]).code == "truncated_audio"


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "aac"])
def test_tags_before_a_file(name: str) -> None:
    data = FILES[name]
    audio, samples = decode(id3(300) + id3(70_000) + data)
    expected_audio, expected = decode(data)
    assert audio.container == expected_audio.container
    np.testing.assert_array_equal(samples, expected)


def test_a_pipe_is_no_file() -> None:
    end, other_end = os.pipe()
    try:
        with pytest.raises(BadAudio, match="pipe") as caught:
            open_audio(Path(f"/dev/fd/{end}"))
        assert "to a file" in caught.value.remedy
    finally:
        os.close(end)
        os.close(other_end)


def test_tags_around_an_mp3() -> None:
    _, expected = decode(FILES["mp3"])
    picture = np.random.default_rng(0).integers(0, 0xFF, 100_000, np.uint8).tobytes()
    tagged = id3(len(picture))[:10] + picture + FILES["mp3"] + b"TAG" + bytes(125)
    np.testing.assert_array_equal(decode(tagged)[1], expected)


def test_library_errors_are_kept_as_the_cause() -> None:
    data = bytearray(FILES["flac"])
    data[8:42] = bytes(34)  # STREAMINFO
    error = refused(bytes(data))
    assert isinstance(error.__cause__, sf.LibsndfileError)
    assert "flac" in str(error).lower()


# --- PyAV is an extra


@pytest.mark.parametrize("name", ["m4a", "webm", "aac", "ogg_flac"])
def test_without_pyav_the_remedy_is_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # what an import then finds is an ImportError
    error = refused(FILES[name])
    assert isinstance(error, UnsupportedEncoding)
    assert error.code == "unsupported_container"
    assert "pip install 'glrf[media]'" in error.remedy


def test_without_pyav_libsndfile_still_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("wav", "flac", "mp3", "opus", "vorbis"):
        assert len(decode(FILES[name])[1])


def test_pyav_is_imported_only_when_needed() -> None:
    code = "import sys, ser_core.containers; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- anything at all


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A valid file with bytes changed, cut out, doubled or cut off; headers above all."""
    data = bytearray(FILES[draw(st.sampled_from(sorted(FILES)))])
    for _ in range(draw(st.integers(1, 6))):
        reach = draw(st.sampled_from((48, 300, len(data))))
        at = draw(st.integers(0, max(0, min(reach, len(data)) - 1)))
        match draw(st.integers(0, 4)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                data[at : at + 4] = draw(
                    st.sampled_from((bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
                )
            case 2:
                del data[at : at + draw(st.integers(1, 64))]
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 64))]
            case _:
                del data[at:]
    return bytes(data)


@settings(derandomize=True, deadline=None, max_examples=600)
@given(data=_mutated())
def test_a_mutated_file_is_decoded_orrefused(data: bytes) -> None:
    with contextlib.suppress(InputError), open_audio(io.BytesIO(data)) as audio:
        n_samples = 0
        for block in audio.blocks(4_096):
            n_samples += len(block)
            assert block.dtype == np.float32
            assert block.shape[1] == audio.n_channels <= 2
            assert 8_000 <= audio.rate_hz <= 192_000
        assert n_samples


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    magic=st.sampled_from(
        [
            b"RIFF\0\0\0\0WAVE",
            b"fLaC",
            b"OggS",
            b"\x1a\x45\xdf\xa3",
            b"ID3",
            b"\xff\xfb\x90\x64",
            b"\xff\xf1\x50\x80",
            b"\0\0\0\x18ftypM4A ",
            b"",
        ]
    ),
    rest=st.binary(max_size=400),
)
def test_random_bytes_after_a_signature(magic: bytes, rest: bytes) -> None:
    with contextlib.suppress(InputError), open_audio(io.BytesIO(magic + rest)) as audio:
        for _ in audio.blocks(4_096):
            pass
