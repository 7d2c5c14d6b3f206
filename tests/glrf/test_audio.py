import asyncio
import io
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace

import numpy as np
import pytest

from glrf.audio import Format, file_chunks, file_format, open_file, paced, stdin_chunks
from ser_core.containers import open_audio
from ser_core.errors import BadAudio, UnsupportedEncoding
from tests.glrf.conftest import CLIP


async def collect(chunks: AsyncIterator[bytes]) -> list[bytes]:
    return [chunk async for chunk in chunks]


async def as_async(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def test_a_file_is_sent_as_it_was_decoded() -> None:
    with open_file(CLIP) as file:
        audio = file_format(file)
        chunks = asyncio.run(collect(file_chunks(file)))
    assert audio == Format("pcm_f32le", 16_000, 1)
    assert {len(chunk) for chunk in chunks} == {audio.chunk_bytes}
    with open_audio(CLIP) as file:
        samples = np.concatenate(list(file.blocks(16_000)))
    assert b"".join(chunks) == samples.astype("<f4").tobytes()


def test_a_rate_that_a_stream_cannot_have_is_refused_at_once(tmp_path) -> None:
    import soundfile

    path = tmp_path / "fast.wav"
    soundfile.write(path, np.zeros(9600), 96_000)
    with pytest.raises(BadAudio, match="96000"):
        open_file(path)


@pytest.mark.parametrize("n_bytes", [0, 3, 6400, 6401, 6404, 12800])
def test_stdin_gives_whole_sample_frames(n_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(n % 251 for n in range(n_bytes))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    audio = Format(channels=2)
    chunks = asyncio.run(collect(stdin_chunks(audio)))
    assert b"".join(chunks) == data[: n_bytes - n_bytes % 4]
    assert all(chunk and len(chunk) % 4 == 0 for chunk in chunks)


def test_an_encoding_that_is_not_spoken() -> None:
    with pytest.raises(UnsupportedEncoding):
        _ = Format("opus").chunk_bytes


def test_real_time_waits_until_each_chunk_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    waited_s: list[float] = []
    now_s = [5.0]

    async def wait_for(coroutine, timeout_s: float) -> None:
        coroutine.close()
        waited_s.append(timeout_s)
        now_s[0] += timeout_s
        raise TimeoutError

    async def run() -> None:
        chunks = as_async([bytes(3200)] * 3)
        sent = paced(chunks, Format(), stop=asyncio.Event(), realtime=True, clock=lambda: now_s[0])
        async for _ in sent:
            now_s[0] += 0.03  # sending takes time, which is made up for

    monkeypatch.setattr("glrf.audio.asyncio.wait_for", wait_for)
    asyncio.run(run())
    assert waited_s == pytest.approx([0.1, 0.07, 0.07])


def test_fast_does_not_wait_and_stop_ends_it() -> None:
    async def run() -> int:
        stop, n_chunks = asyncio.Event(), 0
        chunks = as_async([bytes(3_200_000)] * 3)
        async for _ in paced(chunks, Format(), stop=stop, realtime=False):
            n_chunks += 1
            if n_chunks == 2:
                stop.set()
        return n_chunks

    assert asyncio.run(asyncio.wait_for(run(), 5)) == 2
