import io
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from ser_core.containers import open_audio
from ser_core.ogg import with_checksum
from tests.ser_core.recordings import (
    DURATION_S,
    by_pyav,
    by_soundfile,
    containers,
    decode,
    ogg_pages,
    stereo,
)

FILES = containers()
# --- every container


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize(
    ("format_name", "subtype", "rate_hz", "name", "error"),
    [
        ("WAV", "PCM_U8", 8_000, "WAV", 1 / 128),
        ("WAV", "PCM_16", 16_000, "WAV", 1 / 32_768),
        ("WAV", "PCM_24", 44_100, "WAV", 1e-6),
        ("WAV", "PCM_32", 96_000, "WAV", 1e-6),
        ("WAV", "FLOAT", 192_000, "WAV", 0),
        ("WAV", "DOUBLE", 16_000, "WAV", 0),
        ("WAV", "ULAW", 8_000, "WAV", 0.02),
        ("WAV", "ALAW", 8_000, "WAV", 0.02),
        ("WAVEX", "PCM_16", 16_000, "WAV", 1 / 32_768),
        ("RF64", "PCM_16", 16_000, "WAV", 1 / 32_768),
        ("FLAC", "PCM_16", 22_050, "FLAC", 1 / 32_768),
        ("FLAC", "PCM_24", 48_000, "FLAC", 1e-6),
        ("MP3", "MPEG_LAYER_III", 44_100, "MP3", 0.1),
        ("MP3", "MPEG_LAYER_III", 16_000, "MP3", 0.1),
        ("OGG", "VORBIS", 44_100, "Ogg", 0.1),
        ("OGG", "OPUS", 48_000, "Ogg", 0.1),
    ],
)
def test_libsndfile_containers(
    format_name: str, subtype: str, rate_hz: int, n_channels: int, name: str, error: float
) -> None:
    audio, samples = decode(by_soundfile(format_name, subtype, rate_hz, n_channels))
    expected = stereo(rate_hz, n_channels)
    assert (audio.container, audio.rate_hz, audio.n_channels) == (name, rate_hz, n_channels)
    assert samples.dtype == np.float32
    assert samples.shape == expected.shape
    np.testing.assert_allclose(samples, expected, atol=error, rtol=0)


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize(
    ("format_name", "codec", "rate_hz", "name", "delay_samples", "error"),
    [
        ("mp4", "aac", 44_100, "M4A", 0, 0.1),
        ("mp4", "aac", 16_000, "M4A", 0, 0.1),
        ("mp4", "alac", 44_100, "M4A", 0, 1 / 32_768),
        ("adts", "aac", 44_100, "AAC", 1_024, 0.1),  # nothing there tells the encoder's delay
        ("webm", "libopus", 48_000, "WebM", 0, 0.1),
        ("matroska", "flac", 44_100, "WebM", 0, 1 / 32_768),
        ("matroska", "pcm_u8", 16_000, "WebM", 0, 1 / 64),
        ("matroska", "pcm_s16le", 16_000, "WebM", 0, 1 / 32_768),
        ("matroska", "pcm_s24le", 16_000, "WebM", 0, 1e-6),
        ("matroska", "pcm_s32le", 16_000, "WebM", 0, 1e-6),
        ("matroska", "pcm_f32le", 16_000, "WebM", 0, 0),
        ("matroska", "pcm_f64le", 16_000, "WebM", 0, 0),
        ("ogg", "flac", 44_100, "Ogg", 0, 1 / 32_768),  # one that libsndfile cannot
    ],
)
def test_pyav_containers(
    format_name: str,
    codec: str,
    rate_hz: int,
    n_channels: int,
    name: str,
    delay_samples: int,
    error: float,
) -> None:
    audio, samples = decode(by_pyav(format_name, codec, rate_hz, n_channels))
    expected = stereo(rate_hz, n_channels)
    assert (audio.container, audio.rate_hz, audio.n_channels) == (name, rate_hz, n_channels)
    assert samples.dtype == np.float32
    aligned = samples[delay_samples:][: len(expected)]
    assert 0 <= len(samples) - len(expected) - delay_samples < 2_048
    # A lossy codec may miss the very first and last samples.
    inside = slice(None) if error < 0.1 else slice(rate_hz // 20, -rate_hz // 20)
    np.testing.assert_allclose(aligned[inside], expected[inside], atol=error, rtol=0)


@pytest.mark.parametrize(
    "name", ["m4a", "webm", "matroska", "vorbis", "opus", "wav", "flac", "mp3"]
)
def test_how_long_a_file_says_it_is(name: str) -> None:
    with open_audio(io.BytesIO(FILES[name])) as audio:
        assert audio.announced_samples is not None
        n_slack = audio.rate_hz * (0.3 if audio.container == "Ogg" else 0.01)
        assert (
            -n_slack < audio.announced_samples - DURATION_S * audio.rate_hz <= 0.01 * audio.rate_hz
        )


def test_what_a_file_does_not_say_is_not_made_up() -> None:
    with open_audio(io.BytesIO(FILES["aac"])) as audio:
        assert audio.announced_samples is None
    live = by_pyav("matroska", "pcm_s16le", 16_000, live=True)
    with open_audio(io.BytesIO(live)) as audio:
        assert audio.announced_samples is None
    late = by_pyav("webm", "libopus", 48_000, moved=lambda time_s: time_s + 3 * 24 * 3_600)
    with open_audio(io.BytesIO(late)) as audio:
        assert (audio.announced_samples or 0) < 48_000


@pytest.mark.parametrize("granule", [2**62, -5])
def test_an_ogg_may_say_anything(granule: int) -> None:
    *pages, last = ogg_pages(FILES["opus"])
    last = with_checksum(last[:6] + granule.to_bytes(8, "little", signed=True) + last[14:])
    with open_audio(io.BytesIO(b"".join((*pages, last)))) as audio:
        assert (audio.announced_samples or 0) > 2**61 or granule < 0


def test_g722_in_wav_goes_through_pyav() -> None:
    audio, samples = decode(by_pyav("wav", "g722", 16_000, 1))
    assert (audio.container, audio.rate_hz, samples.shape[1]) == ("WAV", 16_000, 1)
    assert len(samples) == pytest.approx(16_000 * DURATION_S, abs=1_024)


@pytest.mark.parametrize("rate_hz", [0, 8_000, 11_025, 16_000, 44_100, 96_000, 0xFFFF_FFFF])
def test_ogg_opus_is_decoded_as_a_stream_of_its_packets_is(rate_hz: int) -> None:
    """At 48 kHz: the rate in its header is that before encoding, or none (RFC 7845, 5.1)."""
    head, *pages = ogg_pages(FILES["opus"])
    at = head.index(b"OpusHead") + 12
    assert head[at : at + 4] == (48_000).to_bytes(4, "little")
    head = with_checksum(head[:at] + rate_hz.to_bytes(4, "little") + head[at + 4 :])
    audio, samples = decode(b"".join((head, *pages)))
    assert audio.rate_hz == 48_000
    np.testing.assert_array_equal(samples, decode(FILES["opus"])[1])


def test_big_endian_wav() -> None:
    audio, samples = decode(by_soundfile("WAV", "PCM_16", 16_000, 2, "BIG"))
    assert by_soundfile("WAV", "PCM_16", 16_000, 2, "BIG")[:4] == b"RIFX"
    assert audio.container == "WAV"
    np.testing.assert_allclose(samples, stereo(16_000), atol=1 / 32_768)


@pytest.mark.parametrize("name", FILES)
def test_blocks_of_any_size_give_the_same_samples(name: str) -> None:
    _, expected = decode(FILES[name], 1_000_000)
    for n_samples in (37, 1_000, 1_024, 8_192, 8_193, len(expected), len(expected) + 1):
        with open_audio(io.BytesIO(FILES[name])) as audio:
            blocks = list(audio.blocks(n_samples))
        assert all(len(block) == n_samples for block in blocks[:-1])
        assert 0 < len(blocks[-1]) <= n_samples
        np.testing.assert_array_equal(np.concatenate(blocks), expected)


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "vorbis", "opus"])
def test_reads_of_any_size_give_the_same_samples(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = decode(FILES[name])
    monkeypatch.setattr("ser_core.containers._READ_SAMPLES", 64)  # soundfile's own seeks differ
    np.testing.assert_array_equal(decode(FILES[name])[1], expected)


def test_samples_are_handed_on_as_decoded() -> None:
    samples = np.array([0.5, 3.0, np.nan, -np.inf, -1e30], np.float32)
    file = io.BytesIO()
    sf.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    np.testing.assert_array_equal(decode(file.getvalue())[1][:, 0], samples)


# --- the source


def test_a_path(tmp_path: Path) -> None:
    path = tmp_path / "speech.txt"  # its name means nothing
    path.write_bytes(FILES["flac"])
    with open_audio(path) as audio:
        assert audio.container == "FLAC"
        assert sum(len(block) for block in audio.blocks(1_000)) == 8_000
    path.unlink()


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_audio(tmp_path / "none.wav")


@pytest.mark.parametrize("name", ["wav", "m4a"])
def test_an_upload_is_read_from_its_start_and_stays_open(name: str) -> None:
    with tempfile.SpooledTemporaryFile() as upload:
        upload.write(FILES[name])  # the position is its end
        for _ in range(2):
            with open_audio(upload) as audio:  # type: ignore[arg-type]
                assert next(audio.blocks(100)).shape == (100, 2)
        assert not upload.closed


@pytest.mark.parametrize("name", FILES)
def test_leaving_early_frees_the_decoder(name: str) -> None:
    with open_audio(io.BytesIO(FILES[name])) as audio:
        next(audio.blocks(10))
    audio.close()  # twice does no harm


def test_a_source_is_read_once() -> None:
    with open_audio(io.BytesIO(FILES["wav"])) as audio:
        assert sum(len(block) for block in audio.blocks(1_000)) == 8_000
        assert list(audio.blocks(1_000)) == []


def test_blocks_hold_at_least_one_sample() -> None:
    with open_audio(io.BytesIO(FILES["wav"])) as audio, pytest.raises(ValueError, match="at least"):
        next(audio.blocks(0))


def test_memory_does_not_grow_with_the_length() -> None:
    file = io.BytesIO()
    with sf.SoundFile(file, "w", 16_000, 1, "PCM_16", format="FLAC") as out:
        for _ in range(600):
            out.write(np.zeros(16_000, np.float32))
    data = file.getvalue()
    assert len(data) < 200_000  # ten minutes of silence: 38 MB of float32
    tracemalloc.start()
    with open_audio(io.BytesIO(data)) as audio:
        n_samples = sum(len(block) for block in audio.blocks(16_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_samples == 600 * 16_000
    assert peak < 2_000_000
