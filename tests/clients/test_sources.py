"""Sources, each without a network."""

import asyncio
import io
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from glrf_client import (
    FLUSH,
    AudioFormat,
    Source,
    SourceUnavailable,
    file_source,
    microphone,
    reader_source,
)
from glrf_client.sources import Chunk, Chunks, drawn
from tests.synthetic import voice


async def collect(chunks: Chunks) -> list[Chunk]:
    async with asyncio.timeout(10):
        return [chunk async for chunk in drawn(chunks)]


async def audio_of(source: Source) -> bytes:
    return b"".join(chunk for chunk in await collect(source.chunks) if isinstance(chunk, bytes))


async def as_async(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("kind", [list, iter, as_async])
async def test_every_kind_of_chunks(kind: Callable[[list[bytes]], Chunks]) -> None:
    assert await collect(kind([b"ab", b"cd", b"ef"])) == [b"ab", b"cd", b"ef"]


async def test_a_plain_iterator_that_waits_does_not_block_the_loop() -> None:
    go_on = threading.Event()

    def waiting() -> Iterator[bytes]:
        assert go_on.wait(10)
        yield b"ab"

    async with asyncio.timeout(10):
        asyncio.get_running_loop().call_later(0.01, go_on.set)
        assert [chunk async for chunk in drawn(waiting())] == [b"ab"]


async def test_a_plain_iterators_error_is_raised() -> None:
    def failing() -> Iterator[bytes]:
        yield b"ab"
        raise OSError("the socket is gone")

    with pytest.raises(OSError, match="the socket is gone"):
        await collect(failing())


async def test_a_plain_iterator_may_end_the_program() -> None:
    def leaving() -> Iterator[bytes]:
        yield b"ab"
        sys.exit(3)

    with pytest.raises(SystemExit, match="3"):
        await collect(leaving())


def test_an_iterator_that_waits_for_ever_is_left_behind() -> None:
    """By the end of the event loop too."""
    never = threading.Event()

    def waiting() -> Iterator[bytes]:
        yield b"ab"
        never.wait(30)

    async def run() -> None:
        async with aclosing(drawn(waiting())) as chunks:
            assert await anext(chunks) == b"ab"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(chunks), 0.01)

    asyncio.run(run())
    never.set()


@pytest.mark.parametrize(("rate_hz", "n_channels"), [(16_000, 1), (44_100, 2)])
async def test_a_file_is_sent_as_it_was_decoded(
    tmp_path: Path, rate_hz: int, n_channels: int
) -> None:
    samples = np.stack([voice(rate_hz, rate_hz, seed=n) for n in range(n_channels)], axis=1)
    path = tmp_path / "call.flac"
    soundfile.write(path, samples, rate_hz)
    source = file_source(path)
    assert source.format == AudioFormat("pcm_f32le", rate_hz, n_channels)
    expected = soundfile.read(path, dtype="float32")[0].astype("<f4").tobytes()
    assert await audio_of(source) == expected


def test_what_is_no_audio_file(tmp_path: Path) -> None:
    path = tmp_path / "words.wav"
    path.write_text("only words")
    with pytest.raises(SourceUnavailable, match=r"words\.wav: not an audio file"):
        file_source(path)
    with pytest.raises(FileNotFoundError):
        file_source(tmp_path / "none.wav")


@pytest.mark.parametrize("n_bytes", [0, 3, 6400, 6401, 12_800])
async def test_a_reader_is_read_to_its_end(n_bytes: int) -> None:
    data = bytes(n % 251 for n in range(n_bytes))
    assert await audio_of(reader_source(io.BytesIO(data), AudioFormat(channels=2))) == data


@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_real_time_waits_until_each_chunk_is_spoken(
    kind: type[bytes] | type[bytearray], monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_s: list[float] = []
    now_s = [5.0]

    async def sleep(wait_s: float) -> None:
        waited_s.append(wait_s)
        now_s[0] += wait_s

    monkeypatch.setattr("glrf_client.sources.asyncio.sleep", sleep)
    chunks: Iterator[Chunk] = iter([kind(3200), FLUSH, kind(3200), kind(3200)])
    source = Source(AudioFormat(), chunks).paced(clock=lambda: now_s[0])
    async for chunk in drawn(source.chunks):
        if chunk is not FLUSH:
            now_s[0] += 0.03  # sending takes time, which is made up for
    assert waited_s == pytest.approx([0.1, 0.07, 0.07])


async def test_until_ends_the_audio_also_while_it_waits() -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"ab"
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(0.02, stop.set)
        source = Source(AudioFormat(), endless()).until(stop)
        assert [chunk async for chunk in drawn(source.chunks)] == [b"ab"]


async def test_until_ends_a_source_that_waits_when_it_is_cancelled() -> None:
    tasks_before = asyncio.all_tasks()
    is_waiting, is_closed = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            is_waiting.set()
            yield await asyncio.Future()
        finally:
            await asyncio.sleep(0)
            is_closed.set()

    async def draw(source: Source) -> None:
        async with aclosing(drawn(source.chunks)) as chunks:
            async for _ in chunks:
                pass

    drawing = asyncio.create_task(draw(Source(AudioFormat(), endless()).until(asyncio.Event())))
    await is_waiting.wait()
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    assert is_closed.is_set()
    assert asyncio.all_tasks() == tasks_before


async def test_until_passes_on_what_ends_by_itself() -> None:
    source = Source(AudioFormat(), [b"ab", FLUSH]).until(asyncio.Event())
    assert [chunk async for chunk in drawn(source.chunks)] == [b"ab", FLUSH]


def fake_sounddevice(monkeypatch: pytest.MonkeyPatch, device: object) -> None:
    module = SimpleNamespace(RawInputStream=device, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)  # type: ignore[arg-type]


class Microphone:
    """Hears some chunks at once; then it is unplugged, if it is told so."""

    n_chunks = 60  # ten more than are kept: the oldest go
    is_unplugged = False
    failure: Exception | None = None
    is_closed = False

    def __init__(
        self, *, samplerate, channels, dtype, blocksize, callback, finished_callback
    ) -> None:
        assert (samplerate, channels, dtype, blocksize) == (8_000, 2, "int16", 800)
        self.callback, self.finished_callback = callback, finished_callback

    def start(self) -> None:
        if self.failure is not None:
            raise self.failure
        for n in range(self.n_chunks):
            self.callback(bytes([n]) * 2, 1, None, None)
        if self.is_unplugged:
            self.finished_callback()

    def close(self) -> None:
        type(self).is_closed = True
        self.finished_callback()


async def test_a_microphone_is_heard_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Microphone):
        pass

    fake_sounddevice(monkeypatch, Endless)
    source = microphone(8_000, 2)
    assert source.format == AudioFormat("pcm_s16le", 8_000, 2)
    async with aclosing(drawn(source.chunks)) as chunks:
        heard = [await anext(chunks) for _ in range(50)]
    assert Endless.is_closed
    assert heard == [bytes([n]) * 2 for n in range(10, 60)]


@pytest.mark.parametrize("n_chunks", [0, 3, 60])
async def test_a_microphone_that_is_unplugged_ends_the_audio(
    n_chunks: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Unplugged(Microphone):
        is_unplugged = True

    Unplugged.n_chunks = n_chunks
    fake_sounddevice(monkeypatch, Unplugged)
    kept = range(max(0, n_chunks - 49), n_chunks)  # the end takes a place
    assert await collect(microphone(8_000, 2).chunks) == [bytes([n]) * 2 for n in kept]
    assert Unplugged.is_closed
    assert "the microphone is gone" in caplog.text


async def test_a_microphone_that_does_not_start_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Busy(Microphone):
        failure = OSError("device busy")

    fake_sounddevice(monkeypatch, Busy)
    with pytest.raises(SourceUnavailable, match="no microphone can be opened: device busy"):
        await collect(microphone(8_000, 2).chunks)
    assert Busy.is_closed


async def test_a_microphone_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError("no device")

    fake_sounddevice(monkeypatch, refuse)
    with pytest.raises(SourceUnavailable, match="no microphone can be opened: no device"):
        await collect(microphone().chunks)


@pytest.mark.parametrize(
    ("module", "open_it"), [("sounddevice", microphone), ("soundfile", lambda: file_source("x"))]
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, open_it: Callable[[], Source]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SourceUnavailable, match=f"this needs {module} .*; pip install"):
        open_it()
