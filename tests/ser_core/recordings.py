"""Audio files of every container, made on the spot."""

import io
import struct
from collections.abc import Callable
from functools import cache

import av
import numpy as np
import pytest
import soundfile as sf
from av.audio.stream import AudioStream

from ser_core.containers import AudioSource, open_audio
from ser_core.errors import InputError
from ser_core.features import Float32
from ser_core.ogg import read_page
from tests.synthetic import voice

DURATION_S = 0.5


def stereo(rate_hz: int, n_channels: int = 2, duration_s: float = DURATION_S) -> Float32:
    """Another voice on each channel, float32 `(n, n_channels)`."""
    n_samples = int(duration_s * rate_hz)
    channels = [voice(n_samples, rate_hz, 150 + 70 * seed, seed) for seed in range(n_channels)]
    return np.stack(channels, axis=1)


@cache
def by_soundfile(
    format_name: str, subtype: str, rate_hz: int, n_channels: int = 2, endian: str = "FILE"
) -> bytes:
    file = io.BytesIO()
    samples = stereo(rate_hz, n_channels)
    sf.write(file, samples, rate_hz, format=format_name, subtype=subtype, endian=endian)
    return file.getvalue()


def on_time(time_s: float) -> float:
    return time_s


@cache
def by_pyav(
    format_name: str,
    codec: str,
    rate_hz: int,
    n_channels: int = 2,
    *,
    n_tracks: int = 1,
    moved: Callable[[float], float] = on_time,
    live: bool = False,
) -> bytes:
    """`moved` says what timestamp a packet gets, in seconds, instead of its own.

    A `live` Matroska does not say how long it is.
    """
    file = io.BytesIO()
    layout = "stereo" if n_channels == 2 else "mono"
    options = {"live": "1"} if live else {}
    with av.open(file, "w", format=format_name, options=options) as container:
        streams = [
            container.add_stream(codec, rate=rate_hz, layout=layout) for _ in range(n_tracks)
        ]
        for stream in streams:
            assert isinstance(stream, AudioStream)
            codec_format = stream.codec_context.format
            sample_format = codec_format.name if codec_format else "s16"
            n_frame = stream.codec_context.frame_size or 1_024
            resampler = av.AudioResampler(sample_format, layout, rate_hz, n_frame)
            planar = np.ascontiguousarray(stereo(rate_hz, n_channels).T)
            frame = av.AudioFrame.from_ndarray(planar, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = rate_hz, 0
            for ready in (*resampler.resample(frame), *resampler.resample(None), None):
                for packet in stream.encode(ready):
                    if moved is not on_time and packet.pts is not None:
                        time_s = float(packet.pts * packet.time_base)
                        packet.pts += round((moved(time_s) - time_s) / packet.time_base)
                        packet.dts = packet.pts
                    container.mux(packet)
    return file.getvalue()


def wav(
    data: bytes,
    *,
    rate_hz: int = 16_000,
    n_channels: int = 1,
    data_size: int | None = None,
    riff_size: int | None = None,
    tail: bytes = b"",
) -> bytes:
    """A 16-bit WAV whose header says what it is told to."""
    size = len(data) if data_size is None else data_size
    fmt = struct.pack(
        "<HHIIHH",
        1,
        n_channels,
        rate_hz,
        rate_hz * n_channels * 2 & 0xFFFFFFFF,
        n_channels * 2 & 0xFFFF,
        16,
    )
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt
    body += b"data" + struct.pack("<I", size) + data + tail
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def id3(n_bytes: int, *, footer: bool = False) -> bytes:
    """An ID3v2 tag that holds nothing."""
    size = bytes(n_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    tail = b"3DI\x04\0\x10" + size if footer else b""
    return b"ID3\x04\0" + (b"\x10" if footer else b"\0") + size + bytes(n_bytes) + tail


def containers() -> dict[str, bytes]:
    """One small file of each container and its usual codecs."""
    return {
        "wav": by_soundfile("WAV", "PCM_16", 16_000),
        "wav_float": by_soundfile("WAV", "FLOAT", 16_000),
        "wav_mulaw": by_soundfile("WAV", "ULAW", 8_000),
        "flac": by_soundfile("FLAC", "PCM_16", 16_000),
        "mp3": by_soundfile("MP3", "MPEG_LAYER_III", 44_100),
        "vorbis": by_soundfile("OGG", "VORBIS", 44_100),
        "opus": by_soundfile("OGG", "OPUS", 48_000),
        "ogg_flac": by_pyav("ogg", "flac", 16_000),
        "m4a": by_pyav("mp4", "aac", 44_100),
        "aac": by_pyav("adts", "aac", 44_100),
        "webm": by_pyav("webm", "libopus", 48_000),
        "matroska": by_pyav("matroska", "pcm_s16le", 16_000),
    }


def decode(data: bytes, n_samples: int = 4_096) -> tuple[AudioSource, Float32]:
    """A file's source (closed) and all its samples, float32 `(n, n_channels)`."""
    with open_audio(io.BytesIO(data)) as audio:
        return audio, np.concatenate(list(audio.blocks(n_samples)))


def ogg_pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    pages: list[bytes] = []
    while (page := read_page(data)) is not None:
        pages.append(data[: page.n_bytes])
        data = data[page.n_bytes :]
    return pages


@cache
def long_ogg(subtype: str) -> bytes:
    """Of ten pages or so."""
    file = io.BytesIO()
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (48_000 * 2, 2))
    sf.write(file, samples, 48_000, format="OGG", subtype=subtype)
    return file.getvalue()


def refused(data: bytes) -> InputError:
    """What opening or reading the file raises, with a remedy."""
    with pytest.raises(InputError) as caught, open_audio(io.BytesIO(data)) as audio:
        for _ in audio.blocks(4_096):
            pass
    assert caught.value.remedy
    return caught.value
