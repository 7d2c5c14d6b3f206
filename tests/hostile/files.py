"""Files that are broken by accident or on purpose, the same ones for the same seed."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import av
import numpy as np
import soundfile as sf
from av.audio.stream import AudioStream

from tests.ser_core.recordings import by_pyav, by_soundfile, containers, wav

Draw = np.random.Generator
#: First bytes that the service, or a library, goes by.
SIGNATURES = (
    b"RIFF\xff\xff\xff\x7fWAVE", b"RIFX\0\0\0\0WAVE", b"RF64\xff\xff\xff\xffWAVE", b"fLaC",
    b"OggS\0\2", b"\x1a\x45\xdf\xa3", b"ID3\4\0\0", b"\xff\xfb\x90\x64", b"\xff\xf1\x50\x80",
    b"\0\0\0\x18ftypM4A ", b"\0\0\0\x18ftypisom",
)  # fmt: skip
NUMBERS = (
    bytes(4),
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    b"\1\0\0\0",
)
#: Boxes of an M4A that announce how many entries follow.
TABLES = (b"stsz", b"stts", b"stsc", b"stco", b"ctts", b"stsd", b"dref", b"elst", b"mvhd", b"mdhd")


def hostile_files(n_files: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """So many files, each with what was done to it."""
    draw = np.random.default_rng(seed)
    kinds: list[Callable[[Draw], tuple[str, bytes]]] = [
        truncated, mutated, lying_wav, mutated, signature, truncated, lying_table, mislabelled,
        mutated, lying_flac, joined, crowd, damaged, mutated, stuffed,
    ]  # fmt: skip
    bombs = (flac_silence, opus_silence, aac_silence, many_channels)
    for index in range(n_files):
        kind = bombs[index // 40 % 4] if index % 40 == 39 else kinds[index % len(kinds)]
        name, data = kind(draw)
        yield f"{kind.__name__}: {name}", data


def any_file(draw: Draw) -> tuple[str, bytes]:
    files = _files()
    name = sorted(files)[draw.integers(len(files))]
    return name, files[name]


@cache
def _files() -> dict[str, bytes]:
    return containers()


def truncated(draw: Draw) -> tuple[str, bytes]:
    name, data = any_file(draw)
    n_bytes = int(draw.integers(len(data)) if draw.random() < 0.7 else draw.integers(60))
    return f"{name} after {n_bytes} bytes", data[:n_bytes]


def mutated(draw: Draw) -> tuple[str, bytes]:
    """Bytes changed, numbers put in, parts cut out or doubled; headers above all."""
    name, whole = any_file(draw)
    data = bytearray(whole)
    for _ in range(draw.integers(1, 8)):
        reach = int(draw.choice((48, 300, 1500, len(data))))
        at = int(draw.integers(max(1, min(reach, len(data)))))
        match draw.integers(4):
            case 0:
                data[at : at + 1] = draw.bytes(1)
            case 1:
                data[at : at + 4] = NUMBERS[draw.integers(len(NUMBERS))]
            case 2:
                del data[at : at + int(draw.integers(1, 64))]
            case _:
                data[at:at] = data[at : at + int(draw.integers(1, 64))]
    return name, bytes(data)


def damaged(draw: Draw) -> tuple[str, bytes]:
    """A stretch of other bytes in the middle, where the header is long read."""
    name, whole = any_file(draw)
    data = bytearray(whole)
    at, n_bytes = int(draw.integers(len(data) // 3, len(data))), int(draw.integers(1, 4000))
    data[at : at + n_bytes] = bytes(n_bytes) if draw.random() < 0.5 else draw.bytes(n_bytes)
    return f"{name} from {at}", bytes(data)


def lying_wav(draw: Draw) -> tuple[str, bytes]:
    """A WAV whose fields are drawn: sizes, format, channels, rate, bits."""
    tag = int(
        draw.choice((0, 1, 2, 3, 6, 7, 0x11, 0x31, 0x55, 0x65, 0xFFFE, int(draw.integers(65_536))))
    )
    n_channels = int(draw.choice((0, 1, 2, 3, 65_535)))
    rate_hz = int(draw.choice((0, 1, 8000, 16_000, 192_000, 2**32 - 1)))
    bits, align = (
        int(draw.choice((0, 1, 8, 13, 16, 64, 65_535))),
        int(draw.choice((0, 1, 2, 65_535))),
    )
    size = int(draw.choice((0, 1, 3200, 10**9, 0x7FFFF000, 2**32 - 1)))
    fmt = struct.pack("<HHIIHH", tag, n_channels, rate_hz, 0, align, bits)
    fmt_size = int(draw.choice((16, 0, 4, 18, 40, 2**31)))
    body = b"fmt " + struct.pack("<I", fmt_size) + fmt + b"data" + struct.pack("<I", size)
    return f"{tag:#x}, {n_channels} channels", b"RIFF\0\0\0\0WAVE" + body + draw.bytes(3200)


def lying_flac(draw: Draw) -> tuple[str, bytes]:
    """A FLAC whose STREAMINFO says anything: block sizes, rate, channels, length."""
    data = bytearray(by_soundfile("FLAC", "PCM_16", 16_000))
    data[8:26] = bytes(18) if draw.random() < 0.2 else draw.bytes(18)
    return "STREAMINFO", bytes(data)


def lying_table(draw: Draw) -> tuple[str, bytes]:
    """An M4A, one of whose tables or boxes announces what is not there."""
    data = bytearray(by_pyav("mp4", "aac", 44_100))
    name = TABLES[draw.integers(len(TABLES))]
    at = data.find(name)
    if at < 0:
        return mutated(draw)
    field = at + int(draw.choice((-4, 4, 8, 12, 16)))
    data[field : field + 4] = NUMBERS[draw.integers(len(NUMBERS))]
    return f"{name.decode()} at {field - at}", bytes(data)


def signature(draw: Draw) -> tuple[str, bytes]:
    """A container's first bytes, then anything, or nothing but zeros."""
    first = SIGNATURES[draw.integers(len(SIGNATURES))]
    n_bytes = int(draw.choice((0, 10, 400, 20_000)))
    return repr(first[:4]), first + (draw.bytes(n_bytes) if draw.random() < 0.7 else bytes(n_bytes))


def mislabelled(draw: Draw) -> tuple[str, bytes]:
    """Other kinds of files, some with the first bytes of a container put on."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("a.flac", bytes(20_000_000))
    others = (
        b"fLaC" + archive.getvalue(),
        archive.getvalue(),
        b"fLaC" + zlib.compress(bytes(10_000_000)),
        b"\x89PNG\r\n\x1a\n" + draw.bytes(500),
        b"%PDF-1.7\n" + draw.bytes(500),
        b"<html>" + bytes(500),
        b"#EXTM3U\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"RIFF\x24\0\0\0AVI LIST" + draw.bytes(500),
        "ein Brief, kein Ton: äöü".encode() * 50,
        b"",
    )
    which = int(draw.integers(len(others)))
    return f"number {which}", others[which]


def joined(draw: Draw) -> tuple[str, bytes]:
    (one, first), (other, second) = any_file(draw), any_file(draw)
    return f"{one}, {other}", first + second


def crowd(draw: Draw) -> tuple[str, bytes]:
    """More small parts than a walk should take: chunks, pages, boxes, blocks, elements."""
    n_parts = 150_000
    which = int(draw.integers(5))
    data = (
        b"RIFF\0\0\0\0WAVE" + n_parts * b"junk\0\0\0\0",
        b"fLaC" + n_parts * b"\x04\0\0\0",
        n_parts * (b"OggS\0" + bytes(22)),
        b"\0\0\0\x10ftypM4A \0\0\0\0" + n_parts * b"\0\0\0\x08free",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff"
        + n_parts * b"\xec\x80",
    )[which]
    return f"number {which}", data


def stuffed(draw: Draw) -> tuple[str, bytes]:
    """Much that is not sound before the sound: a tag, a picture, an endless `moov`."""
    n_bytes = int(draw.choice((100_000, 5_000_000)))
    size = n_bytes.to_bytes(3, "big")
    tag_size = bytes(n_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    which = int(draw.integers(4))
    flac = by_soundfile("FLAC", "PCM_16", 16_000)
    data = (
        b"ID3\4\0\0" + tag_size + bytes(n_bytes) + by_soundfile("MP3", "MPEG_LAYER_III", 44_100),
        flac[:42] + b"\x06" + size + draw.bytes(n_bytes) + flac[42:],
        b"fLaC\0" + flac[5:42] + b"\x84" + b"\xff\xff\xff" + bytes(n_bytes),
        b"\0\0\0\x18ftypM4A \0\0\0\0M4A isom"
        + struct.pack(">I", n_bytes + 8)
        + b"moov"
        + bytes(n_bytes),
    )[which]
    return f"number {which}", data


def many_channels(draw: Draw) -> tuple[str, bytes]:
    n_channels = int(draw.choice((3, 8, 1024, 65_535)))
    if n_channels == 8:
        return "FLAC of 8", by_soundfile("FLAC", "PCM_16", 16_000, 8)
    return f"WAV of {n_channels}", wav(bytes(n_channels * 20), n_channels=n_channels)


BOMB_S = 6 * 3600


@cache
def _flac_bomb() -> bytes:
    file = io.BytesIO()
    with sf.SoundFile(file, "w", 8000, 2, "PCM_16", format="FLAC") as writer:
        for _ in range(BOMB_S // 60):
            writer.write(np.zeros((60 * 8000, 2), np.int16))
    return file.getvalue()


def flac_silence(draw: Draw) -> tuple[str, bytes]:
    """Hours of silence in less than a megabyte, whose header says so, or says nothing."""
    data = bytearray(_flac_bomb())
    if draw.random() < 0.6:
        data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    return f"{BOMB_S} s in {len(data)} bytes", bytes(data)


@cache
def _pyav_bomb(format_name: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=format_name) as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        assert isinstance(stream, AudioStream)
        encoder = stream.codec_context
        resampler = av.AudioResampler(
            encoder.format.name if encoder.format else "s16", "mono", 48_000
        )
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 48_000 * 60), np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 48_000
        for minute in range(20):
            frame.pts = minute * 48_000 * 60
            for ready in resampler.resample(frame):
                container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
    return file.getvalue()


def opus_silence(draw: Draw) -> tuple[str, bytes]:
    data = _pyav_bomb("ogg", "libopus")
    return f"20 minutes in {len(data)} bytes", data


def aac_silence(draw: Draw) -> tuple[str, bytes]:
    data = _pyav_bomb("mp4", "aac")
    return f"20 minutes in {len(data)} bytes", data
