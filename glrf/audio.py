"""Where `glrf stream` takes its audio from: a file, the microphone, or raw bytes on stdin."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from glrf.failure import needed
from ser_core.decode import MAX_RATE_HZ, Decoder
from ser_core.errors import BadAudio

if TYPE_CHECKING:
    from ser_core.containers import AudioSource

CHUNK_MS: Final = 100
#: Microphone chunks kept while the network is slow; older sound than this is of no use.
_MAX_WAITING: Final = 50


@dataclass(frozen=True)
class Format:
    """Raw audio as the wire has it; `sample_rate` in Hz."""

    encoding: str = "pcm_s16le"
    sample_rate: int = 16_000
    channels: int = 1

    @property
    def frame_bytes(self) -> int:
        """Of one sample of every channel. Raises `UnsupportedEncoding` and `BadParameter`."""
        return Decoder(self.encoding, self.channels).frame_bytes

    @property
    def chunk_bytes(self) -> int:
        """Of 100 ms, in whole sample frames."""
        return self.sample_rate * CHUNK_MS // 1000 * self.frame_bytes


def open_file(path: Path) -> "AudioSource":
    """The file's decoder. Raises `BadAudio`, `UnsupportedEncoding` or `OSError`."""
    from ser_core.containers import open_audio

    return open_audio(path, max_rate_hz=MAX_RATE_HZ)


def file_format(file: "AudioSource") -> Format:
    """How a file is sent: as 32-bit floats, which hold whatever was decoded exactly."""
    return Format("pcm_f32le", file.rate_hz, file.n_channels)


async def file_chunks(file: "AudioSource") -> AsyncIterator[bytes]:
    """The file's samples in 100 ms chunks of its `file_format`, decoded as they are needed."""
    for block in file.blocks(file.rate_hz * CHUNK_MS // 1000):
        yield block.astype("<f4", copy=False).tobytes()


async def stdin_chunks(audio: Format) -> AsyncIterator[bytes]:
    """Raw audio from stdin as it comes; an incomplete last sample frame is left out."""
    while True:
        data = await asyncio.to_thread(sys.stdin.buffer.read, audio.chunk_bytes)
        if whole := len(data) - len(data) % audio.frame_bytes:
            yield data[:whole]
        if len(data) < audio.chunk_bytes:
            return


async def microphone_chunks(audio: Format, stop: asyncio.Event) -> AsyncIterator[bytes]:
    """The default microphone until `stop` is set.

    Raises `SerError` when sounddevice is not installed or there is no microphone.
    """
    sounddevice = needed(
        "sounddevice",
        "`pip install sounddevice`, and PortAudio itself where your system lacks it "
        "(Debian, Ubuntu: `apt-get install libportaudio2`)",
    )
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[bytes] = asyncio.Queue(_MAX_WAITING)

    def keep(data: bytes) -> None:
        if waiting.full():
            waiting.get_nowait()
        waiting.put_nowait(data)

    def heard(data: object, n_samples: int, when: object, status: object) -> None:
        del n_samples, when, status
        loop.call_soon_threadsafe(keep, bytes(data))  # type: ignore[call-overload]

    try:
        device = sounddevice.RawInputStream(
            samplerate=audio.sample_rate,
            channels=audio.channels,
            dtype="int16",
            blocksize=audio.sample_rate * CHUNK_MS // 1000,
            callback=heard,
        )
    except sounddevice.PortAudioError as error:
        raise BadAudio(
            f"no microphone can be opened: {error}", remedy="connect one, or stream a file"
        ) from error
    with device:
        ended = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                chunk = asyncio.create_task(waiting.get())
                await asyncio.wait((chunk, ended), return_when=asyncio.FIRST_COMPLETED)
                if not chunk.done():
                    chunk.cancel()
                    return
                yield chunk.result()
        finally:
            ended.cancel()


async def paced(
    chunks: AsyncIterator[bytes],
    audio: Format,
    *,
    stop: asyncio.Event,
    realtime: bool,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[bytes]:
    """The chunks, each when its last sample would have been spoken if `realtime`; until `stop`."""
    started_s, sent_s = clock(), 0.0
    async for chunk in chunks:
        sent_s += len(chunk) / audio.frame_bytes / audio.sample_rate
        if realtime:
            wait_s = started_s + sent_s - clock()
            if wait_s > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), wait_s)
        if stop.is_set():
            return
        yield chunk
