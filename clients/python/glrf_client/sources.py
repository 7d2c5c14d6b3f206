"""Where a stream takes its audio from: a file, the microphone, a reader, any iterator of bytes."""

import asyncio
import importlib
import logging
import threading
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Final, final

from glrf_client.errors import SourceUnavailable
from glrf_client.format import CHUNK_MS, AudioFormat

#: Microphone chunks kept while the stream does not take them; older sound is of no use.
_MAX_WAITING: Final = 50

log = logging.getLogger("glrf_client")


@final
class Flush:
    """Between chunks: end the utterance here."""


FLUSH: Final = Flush()
Chunk = bytes | bytearray | Flush
Chunks = Iterable[Chunk] | AsyncIterable[Chunk]


@dataclass(frozen=True)
class Source:
    """Audio of a known format; `chunks` are drawn once, only as fast as they can be sent."""

    format: AudioFormat
    chunks: Chunks

    def paced(self, clock: Callable[[], float] = time.monotonic) -> "Source":
        """The same in real time: each chunk when its last sample would have been spoken."""
        return Source(self.format, _paced(self.chunks, self.format, clock))

    def until(self, stop: asyncio.Event) -> "Source":
        """The same up to the moment when `stop` is set, as if the audio ended there."""
        return Source(self.format, _until(self.chunks, stop))


def file_source(path: str | PathLike[str]) -> Source:
    """An audio file that libsndfile reads (WAV, FLAC, MP3, Ogg), decoded as it is sent.

    Its samples travel as 32-bit floats, which hold whatever was decoded exactly. Needs the extra
    `files`. Raises `SourceUnavailable` for what is no audio, `OSError` for what cannot be read.
    """
    soundfile = _needed("soundfile", "pip install 'glrf-client[files]'")
    path = Path(path)
    with path.open("rb") as file:
        try:
            with soundfile.SoundFile(file) as audio:
                audio_format = AudioFormat("pcm_f32le", audio.samplerate, audio.channels)
        except soundfile.SoundFileError as error:
            raise SourceUnavailable(
                f"{path}: not an audio file that is read here: {error}"
            ) from error

    def blocks() -> Iterator[bytes]:
        n_frames = audio_format.sample_rate * CHUNK_MS // 1000
        with path.open("rb") as file, soundfile.SoundFile(file) as audio:
            while data := bytes(audio.buffer_read(n_frames, "float32")):
                yield data

    return Source(audio_format, blocks())


def reader_source(reader: BinaryIO, audio_format: AudioFormat) -> Source:
    """Raw audio from a binary file or pipe, 100 ms at a time, to its end."""
    return Source(audio_format, iter(lambda: reader.read(audio_format.chunk_bytes), b""))


def microphone(sample_rate: int = 16_000, channels: int = 1) -> Source:
    """The default microphone, until the stream ends, `Source.until` stops it, or it is unplugged.

    Needs the extra `microphone`. Raises `SourceUnavailable` when sounddevice is not installed;
    a microphone that cannot be opened or started raises it when the stream begins.
    """
    sounddevice = _needed(
        "sounddevice",
        "pip install sounddevice, and PortAudio itself where your system lacks it "
        "(Debian, Ubuntu: apt-get install libportaudio2)",
    )
    audio_format = AudioFormat("pcm_s16le", sample_rate, channels)
    return Source(audio_format, _heard(sounddevice, audio_format))


async def drawn(chunks: Chunks) -> AsyncGenerator[Chunk, None]:
    """Any chunks, without ever blocking the event loop.

    Plain iterators may wait (for a socket, a queue), so they are drawn in a thread of their own,
    one chunk ahead at most; lists and tuples never wait. An asynchronous generator is closed at
    the end, however it comes: a microphone must not stay on for whoever still holds its source.
    """
    if isinstance(chunks, AsyncGenerator):
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk
    elif isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    elif isinstance(chunks, Sequence):
        for chunk in chunks:
            yield chunk
    else:
        async with aclosing(_drawn_in_a_thread(chunks)) as waited_for:
            async for chunk in waited_for:
                yield chunk


async def _drawn_in_a_thread(chunks: Iterable[Chunk]) -> AsyncGenerator[Chunk, None]:
    loop = asyncio.get_running_loop()
    iterator = iter(chunks)
    is_wanted = threading.Semaphore(0)
    is_over = threading.Event()
    answer: asyncio.Future[Chunk | None]

    def tell(future: "asyncio.Future[Chunk | None]", result: object) -> None:
        if future.done():
            return
        if isinstance(result, BaseException):
            future.set_exception(result)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def draw() -> None:
        while True:
            is_wanted.acquire()
            if is_over.is_set():
                return
            future = answer
            try:
                result: object = next(iterator, None)
            except BaseException as error:  # sys.exit, which would end this thread alone
                result = error
            if is_over.is_set():
                return
            loop.call_soon_threadsafe(tell, future, result)

    # A daemon: an iterator that waits for ever must not keep the program from ending.
    threading.Thread(target=draw, name="glrf_client source", daemon=True).start()
    try:
        while True:
            answer = loop.create_future()
            is_wanted.release()
            chunk = await answer
            if chunk is None:
                return
            yield chunk
    finally:
        is_over.set()
        is_wanted.release()


async def _paced(
    chunks: Chunks, audio_format: AudioFormat, clock: Callable[[], float]
) -> AsyncIterator[Chunk]:
    started_s, sent_s = clock(), 0.0
    async with aclosing(drawn(chunks)) as source:
        async for chunk in source:
            if not isinstance(chunk, Flush):
                sent_s += audio_format.duration_s(chunk)
                await asyncio.sleep(max(0.0, started_s + sent_s - clock()))
            yield chunk


async def _until(chunks: Chunks, stop: asyncio.Event) -> AsyncIterator[Chunk]:
    ended = asyncio.ensure_future(stop.wait())
    try:
        async with aclosing(drawn(chunks)) as source:
            while not stop.is_set():
                chunk = asyncio.ensure_future(anext(source, None))
                waiting = (chunk, ended)
                try:
                    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                finally:  # a source that is being drawn from cannot be closed
                    chunk.cancel()
                    await asyncio.gather(chunk, return_exceptions=True)
                if chunk not in done:
                    return
                value = chunk.result()
                if value is None:
                    return
                yield value
    finally:
        ended.cancel()


async def _heard(sounddevice: ModuleType, audio_format: AudioFormat) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[bytes | None] = asyncio.Queue(_MAX_WAITING)

    def keep(data: bytes | None) -> None:
        if waiting.full():
            waiting.get_nowait()
        waiting.put_nowait(data)

    def heard(data: object, n_samples: int, when: object, status: object) -> None:
        del n_samples, when, status
        loop.call_soon_threadsafe(keep, bytes(data))  # type: ignore[call-overload]

    with ExitStack() as opened:
        try:
            device = sounddevice.RawInputStream(
                samplerate=audio_format.sample_rate,
                channels=audio_format.channels,
                dtype="int16",
                blocksize=audio_format.sample_rate * CHUNK_MS // 1000,
                callback=heard,
                finished_callback=lambda: loop.call_soon_threadsafe(keep, None),
            )
            opened.callback(device.close)
            device.start()
        except sounddevice.PortAudioError as error:
            raise SourceUnavailable(
                f"no microphone can be opened: {error}; connect one, or stream a file"
            ) from error
        while (data := await waiting.get()) is not None:
            yield data
        log.warning("the microphone is gone: the audio ends here")


def _needed(module: str, remedy: str) -> ModuleType:
    """Imports an optional package; raises `SourceUnavailable` with the remedy without it."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library behind it is missing
        raise SourceUnavailable(f"this needs {module} ({error}); {remedy}") from error
