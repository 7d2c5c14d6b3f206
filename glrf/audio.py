"""Audio files as a source of `glrf stream`: decoded as the server itself would decode them."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from glrf_client import AudioFormat, Source
from glrf_client.format import CHUNK_MS
from ser_core.decode import MAX_RATE_HZ

if TYPE_CHECKING:
    from ser_core.containers import AudioSource


def open_file(path: Path) -> "AudioSource":
    """The file's decoder. Raises `BadAudio`, `UnsupportedEncoding` or `OSError`."""
    from ser_core.containers import open_audio

    return open_audio(path, max_rate_hz=MAX_RATE_HZ)


def decoded(file: "AudioSource") -> Source:
    """The file in 100 ms chunks, decoded as they are needed, as 32-bit floats.

    Unlike the client's own `file_source` it reads whatever the server reads (M4A, WebM), and
    refuses a file that announces more audio than it holds.
    """
    return Source(AudioFormat("pcm_f32le", file.rate_hz, file.n_channels), _chunks(file))


def _chunks(file: "AudioSource") -> Iterator[bytes]:
    for block in file.blocks(file.rate_hz * CHUNK_MS // 1000):
        yield block.astype("<f4", copy=False).tobytes()
