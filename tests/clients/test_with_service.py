"""The client against the real service in its own process."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from glrf.local_server import local_server
from glrf_client import (
    FLUSH,
    AudioFormat,
    Backoff,
    ConnectionState,
    ErrorFrame,
    Event,
    Flush,
    Refused,
    Segment,
    SessionClosed,
    Source,
    StreamError,
    StreamRefused,
    Utterance,
    analyze_file,
    connect,
    models,
    stream,
)
from glrf_client.parameters import StreamParameters
from tests.chaos.proxy import Proxy
from tests.synthetic import opus_packets, voice, write_model


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny.onnx")
    # One segment a batch: batches of other sizes may round otherwise in the last bits.
    with local_server({"GLRF_MODEL_DIR": str(folder), "GLRF_MAX_BATCH": "1"}) as server:
        yield server.url


async def run(url: str, chunks: list[bytes | Flush], **parameters) -> list[Event]:
    return [event async for event in stream(url, chunks, **parameters)]


async def test_file_and_stream_agree(url: str, tmp_path: Path) -> None:
    samples = np.stack([voice(32_000), voice(32_000, seed=1)], axis=1)
    path = tmp_path / "call.wav"
    soundfile.write(path, samples, 8_000, subtype="FLOAT")
    data = samples.astype("<f4").tobytes()
    chunks: list[bytes | Flush] = [data[at : at + 1600] for at in range(0, len(data), 1600)]
    events = await run(
        url, chunks, encoding="pcm_f32le", sample_rate=8_000, channels=2, roles=["a", "b"]
    )
    result = await analyze_file(url, path, roles=["a", "b"])
    for channel in result.channels:
        streamed = [
            event.scores
            for event in events
            if isinstance(event, Segment) and event.channel == channel.channel
        ]
        assert streamed == [segment.scores for segment in channel.segments]
        assert len(streamed) == 3 + 6
    closed = events[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.usage.audio_ms == 8_000
    assert [summary.role for summary in closed.summary] == ["a", "b"]


async def test_half_a_sample_at_the_end_is_told(url: str) -> None:
    events = await run(url, [bytes(64_001)])
    assert [event.code for event in events if isinstance(event, ErrorFrame)] == ["odd_frame"]
    assert isinstance(events[-1], SessionClosed)
    assert events[-1].usage.audio_ms == 2_000


async def test_a_flush_ends_an_utterance(url: str) -> None:
    pcm = (voice(48_000) * 32_767).astype("<i2").tobytes()
    events = await run(url, [pcm[:64_000], FLUSH, pcm[64_000:]], start_offset_ms=10_000)
    spans = [(event.start_ms, event.end_ms) for event in events if isinstance(event, Utterance)]
    assert spans == [(10_000, 12_000), (12_000, 13_000)]


async def test_a_stream_in_any_chunking_is_heard_whole(url: str) -> None:
    events = await run(url, [b"\0", bytes(64_000), b"\0\0\0"])
    assert not [event for event in events if isinstance(event, ErrorFrame)]
    closed = events[-1]
    assert isinstance(closed, SessionClosed)
    assert (closed.usage.audio_ms, closed.usage.dropped_ms) == (2_000, 0)


async def test_an_update_that_is_refused_is_an_event(url: str) -> None:
    async with connect(url) as session:
        await session.update(smoothing="mean")
        await session.update(thresholds={"angry": 2.0})
        await session.close()
        (error,) = [event async for event in session if isinstance(event, ErrorFrame)]

    assert (error.code, error.fatal) == ("bad_parameter", False)


async def test_a_file_in_a_stream_is_fatal(url: str) -> None:
    with pytest.raises(StreamError, match="/v1/files") as fatal:
        await run(url, [b"RIFF" + bytes(100)] * 3)
    assert fatal.value.code == "container_in_stream"
    assert not fatal.value.retryable


@pytest.mark.parametrize(
    "parameters", [{"encoding": "gsm"}, {"sample_rate": 1}, {"endpointing": "magic"}]
)
async def test_a_parameter_that_is_refused(url: str, parameters: dict[str, object]) -> None:
    with pytest.raises(StreamRefused) as refused:
        await run(url, [], **parameters)
    assert refused.value.status == 400
    assert next(iter(parameters)) in str(refused.value)


async def test_a_body_that_is_no_audio(url: str) -> None:
    with pytest.raises(Refused) as refused:
        await analyze_file(url, b"these are only words")
    assert refused.value.status in (415, 422)
    assert refused.value.code == "unsupported_container"


async def test_models(url: str) -> None:
    assert [model.name for model in await models(url)] == ["tiny"]


async def test_leaving_early_leaves_the_server_well(url: str) -> None:
    async with connect(url) as session:
        await session.send(bytes(32_000))
    assert isinstance((await run(url, [bytes(6_400)]))[-1], SessionClosed)


async def test_opus_packets_over_lines_that_break(url: str) -> None:
    """With a flush, stereo, and a packet that is none: one timeline, as over one line."""
    samples = np.stack([voice(48_000 * 8, 48_000), voice(48_000 * 8, 48_000, seed=1)], axis=1)
    packets: list[bytes | Flush] = [*opus_packets(samples, packet_ms=60, application="voip")]
    packets[70:70] = [FLUSH, b"\xfb\x03" + bytes(200), b"\xfb"]
    states: list[str] = []

    def watch(connection: ConnectionState) -> None:
        states.append(connection.state)

    parameters: StreamParameters = {
        "channels": 2,
        "endpointing": "manual",
        "start_offset_ms": 1_500,
        "backoff": Backoff(first_s=0.01, longest_s=0.05, give_up_after_s=30),
        "on_connection": watch,
    }

    async def results(address: str, source: Source) -> list[dict[str, object]]:
        return [
            {k: v for k, v in asdict(event).items() if k not in ("seq", "lag_ms", "session_id")}
            async for event in stream(address, source, **parameters)
            if isinstance(event, (Segment, Utterance, SessionClosed))
        ]

    async def cut(proxy: Proxy) -> None:
        while True:
            await asyncio.sleep(0.9)
            for line in list(proxy.lines):
                line.reset()

    async with asyncio.timeout(60):
        audio = Source(AudioFormat("opus", 48_000, 2), packets)
        unbroken = await results(url, audio)
        assert states == ["live", "closed"]
        async with Proxy(lambda: [int(url.rsplit(":", 1)[1])]) as proxy:
            cutter = asyncio.create_task(cut(proxy))
            # In half of its time.
            broken = await results(proxy.url, audio.paced(lambda: 2 * time.monotonic()))
            cutter.cancel()
        assert states.count("waiting") >= 3
        assert broken == unbroken


@pytest.fixture(scope="module")
def strict_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server that ends faster streams."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny.onnx")
    settings = {"GLRF_MAX_STREAM_SPEED": "20", "GLRF_BURST_S": "40"}
    with local_server({"GLRF_MODEL_DIR": str(folder), **settings}) as server:
        yield server.url


@pytest.mark.parametrize("encoding", ["pcm_s16le", "opus"])
async def test_audio_that_is_there_at_once_is_sent_as_fast_as_the_server_allows(
    strict_url: str, encoding: str
) -> None:
    samples = voice(16_000 * 60)
    audio: list[bytes | Flush] = (
        list(opus_packets(samples, 16_000))
        if encoding == "opus"
        else [np.round(samples * 32767).astype("<i2").tobytes()]
    )
    states: list[ConnectionState] = []
    events = await run(strict_url, audio, encoding=encoding, on_connection=states.append)
    assert [state.state for state in states] == ["live", "closed"]
    closed = events[-1]
    assert isinstance(closed, SessionClosed)
    assert closed.usage.audio_ms == pytest.approx(60_000, abs=200)
