"""What a client can do wrong on a stream. A good session runs beside each, and never notices."""

import asyncio
import json
import socket

import numpy as np
import pytest
from fastapi import WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from service.registry import ModelRegistry
from service.settings import Settings
from service.stream import Stream
from tests.service.running import (
    TIMEOUT_S,
    FailingBackend,
    GatedBackend,
    RunningServer,
    Transcript,
    converse,
    good_session_beside,
    listen,
    pcm,
    until,
    wav,
)
from tests.synthetic import voice


async def talk_badly(
    server: RunningServer, frames: list[bytes | str], query: str = ""
) -> Transcript:
    async with good_session_beside(server.stream_url):
        return await converse(server.stream_url + query, frames)


@pytest.mark.parametrize(
    ("query", "code", "named"),
    [
        ("?sample_rat=8000", "bad_parameter", "unknown parameter 'sample_rat'"),
        ("?sample_rate=1", "bad_parameter", "sample_rate=1 "),
        ("?sample_rate=fast", "bad_parameter", "sample_rate='fast'"),
        ("?sample_rate=192000", "bad_parameter", "sample_rate=192000"),
        ("?sample_rate=8000&sample_rate=16000", "bad_parameter", "'sample_rate' is given twice"),
        ("?channels=1024", "bad_parameter", "channels=1024"),
        ("?channels=0", "bad_parameter", "channels=0"),
        ("?encoding=gsm", "unsupported_encoding", "'gsm'"),
        ("?encoding=mp3", "unsupported_encoding", "'mp3'"),
        ("?roles=customer,agent", "bad_parameter", "roles names 2 channels"),
        ("?roles=customer:on", "bad_parameter", "'customer:on'"),
        ("?roles=agent:off", "bad_parameter", "every channel off"),
        ("?model=other", "bad_parameter", "model='other'"),
        ("?endpoint_silence_ms=99", "bad_parameter", "endpoint_silence_ms"),
        ("?endpointing=off&endpoint_silence_ms=700", "bad_parameter", "belongs to endpointing=vad"),
        ("?endpointing=magic", "bad_parameter", "endpointing='magic' is not known"),
        ("?smoothing=median", "bad_parameter", "smoothing='median' is not known"),
        ("?hysteresis=1.5", "bad_parameter", "hysteresis=1.5 is out of range"),
        ("?baseline_ms=500", "bad_parameter", "a baseline of 0.5 s is out of range"),
        ("?baseline_ms=5000&endpointing=off", "bad_parameter", "baseline with endpointing=off"),
        ("?min_dwell_ms=70000", "bad_parameter", "min_dwell of 70 s is out of range"),
        ("?rules=angry>0.7", "bad_parameter", "'angry>0.7' is not a rule"),
        ("?rules=bored>=0.7:10s", "bad_parameter", "the model has no label 'bored'"),
        ("?partial=perhaps", "bad_parameter", "partial='perhaps'"),
        ("?start_offset_ms=-1", "bad_parameter", "start_offset_ms='-1'"),
    ],
)
def test_parameters_are_refused_by_name_before_the_upgrade(
    server: RunningServer, query: str, code: str, named: str
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        asyncio.run(converse(server.stream_url + query, []))
    response = caught.value.response
    problem = json.loads(response.body)
    assert response.status_code == problem["status"] == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["X-Request-ID"] == problem["request_id"]
    assert problem["code"] == code
    assert named in problem["detail"]
    assert problem["remedy"]


async def test_another_path(server: RunningServer) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await converse(server.stream_url + "s", [])
    response = caught.value.response
    problem = json.loads(response.body)
    assert (response.status_code, problem["code"]) == (404, "not_found")
    assert response.headers["X-Request-ID"] == problem["request_id"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("flush", "not JSON"),
        ("", "not JSON"),
        ("[" * 5000, "not JSON"),
        ('"flush"', "not understood"),
        ("[]", "not understood"),
        ("{}", "type is none of"),
        ('{"type": 7}', "type is none of"),
        ('{"type": "reset"}', "type is none of flush, update, keepalive, close"),
        ('{"type": "flush", "now": true}', "unknown field 'now'"),
        ('{"type": "update", "smoothing": 3}', "smoothing"),
        ('{"type": "update", "speed": 3}', "unknown field 'speed'"),
    ],
)
async def test_a_bad_message_ends_the_stream(server: RunningServer, text: str, named: str) -> None:
    transcript = await converse(server.stream_url, [text], close=False)
    assert transcript.close_code == 4400
    assert transcript.error["code"] == "bad_message"
    assert named in transcript.error["message"]
    assert transcript.error["fatal"]
    assert not transcript.error["retryable"]
    types = [message["type"] for message in transcript.messages]
    assert types == ["session.created", "checkpoint", "error"]


async def test_text_where_audio_is_due(server: RunningServer) -> None:
    transcript = await talk_badly(server, ["hello, can you hear me?"])
    assert transcript.close_code == 4400
    assert "binary frames" in transcript.error["message"]


@pytest.mark.parametrize(
    ("frame", "code"), [(b"", "empty_frame"), (b"\0", "odd_frame"), (bytes(3201), "odd_frame")]
)
async def test_odd_and_empty_frames_are_ignored_whole(
    server: RunningServer, frame: bytes, code: str
) -> None:
    audio = pcm(voice(16_000))
    transcript = await talk_badly(server, [audio, frame, audio])
    assert (transcript.error["code"], transcript.error["fatal"]) == (code, False)
    assert transcript.close_code == 1000
    usage = transcript.messages[-1]["usage"]
    assert usage["audio_ms"] == 2000
    assert usage["dropped_ms"] == (100 if len(frame) == 3201 else 0)


async def test_half_a_sample_of_stereo(server: RunningServer) -> None:
    transcript = await talk_badly(server, [bytes(6)], "?channels=2")
    assert "not whole samples of 4 bytes" in transcript.error["message"]


@pytest.mark.parametrize("odd", [b"", b"\0"])
async def test_a_container_in_the_stream(server: RunningServer, odd: bytes) -> None:
    transcript = await talk_badly(server, [wav(voice(16_000)) + odd])
    assert transcript.close_code == 4415
    assert transcript.error["code"] == "container_in_stream"
    assert "WAV" in transcript.error["message"]
    assert "/v1/files" in transcript.error["message"]
    assert not transcript.of("segment")


@pytest.mark.parametrize("n_first", [0, 2, 3])
async def test_a_container_in_small_frames(server: RunningServer, n_first: int) -> None:
    data = wav(voice(16_000))
    transcript = await talk_badly(server, [data[:n_first], data[n_first:]])
    assert transcript.close_code == 4415
    assert transcript.of("error")[-1]["code"] == "container_in_stream"


async def test_totals_and_warnings_are_of_the_scored_channels(server: RunningServer) -> None:
    query = "?channels=2&sample_rate=8000&roles=agent:off,customer"
    transcript = await talk_badly(server, [bytes(32_000), bytes(3201)], query)
    assert [w["channel"] for w in transcript.of("warning")] == [1]
    usage = transcript.messages[-1]["usage"]
    assert (usage["audio_ms"], usage["dropped_ms"]) == (1000, 100)
    transcript = await talk_badly(server, [bytes(64_000), bytes(6401)], "?channels=2")
    usage = transcript.messages[-1]["usage"]
    assert (usage["audio_ms"], usage["dropped_ms"]) == (2000, 200)


async def test_a_frame_just_too_large(server: RunningServer) -> None:
    transcript = await talk_badly(server, [bytes(2**20 + 2)])
    assert transcript.close_code == 1009
    assert transcript.error["code"] == "frame_too_large"
    assert "1048576" in transcript.error["message"]


async def test_a_frame_of_20_mb(server: RunningServer) -> None:
    """Refused by its header: the transport never holds it."""
    refused = server.metric("glrf_refusals_total", code="frame_too_large")
    closed = server.metric("glrf_sessions_closed_total", reason="frame_too_large")
    transcript = await talk_badly(server, [bytes(20_000_000)])
    assert transcript.close_code == 1009
    assert transcript.error["code"] == "frame_too_large"
    assert "at most 1048576 bytes" in transcript.error["message"]
    assert transcript.error["fatal"]
    server.wait_until(lambda: server.metric("glrf_sessions") == 0)
    assert server.metric("glrf_refusals_total", code="frame_too_large") == refused + 1
    assert server.metric("glrf_sessions_closed_total", reason="frame_too_large") == closed + 1


def test_a_refused_client_may_finish_its_frame_and_read_why(server: RunningServer) -> None:
    """One that writes all before it reads: a reset would take its answer away."""
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as client:
        shake_hands(client, "/v1/stream")
        created = client.recv(65_536)
        client.sendall(b"\x82\xff" + (20_000_000).to_bytes(8, "big") + bytes(4) + bytes(20_000_000))
        assert b"session.created" in created
        last_words = client.recv(65_536)
        assert b'"frame_too_large"' in last_words
        assert last_words.endswith((1009).to_bytes(2, "big") + b"frame_too_large")


async def test_nan_samples(server: RunningServer) -> None:
    audio = voice(32_000)
    audio[8000:8100] = np.nan
    audio[9000] = np.inf
    transcript = await talk_badly(server, [audio.tobytes()], "?encoding=pcm_f32le")
    assert [w["code"] for w in transcript.of("warning")] == ["non_finite_samples"]
    assert transcript.close_code == 1000
    for segment in transcript.of("segment"):
        assert all(0 <= score <= 1 for score in segment["scores"].values())


async def test_silence(server: RunningServer) -> None:
    transcript = await talk_badly(server, [bytes(64_000)])
    for segment in transcript.of("segment"):
        assert (segment["label"], segment["abstain"]) == (None, "no_speech")
        assert set(segment["scores"].values()) == {0.0}
    assert len(transcript.of("segment")) == 5
    assert transcript.of("utterance") == []
    assert transcript.messages[-1]["usage"]["speech_ms"] == 0


async def test_a_constant_offset(server: RunningServer) -> None:
    transcript = await talk_badly(server, [pcm(voice(32_000) * 0.5 + np.float32(0.3))])
    assert [w["code"] for w in transcript.of("warning")] == ["dc_offset"]


async def test_nothing_but_an_offset(server: RunningServer) -> None:
    transcript = await talk_badly(server, [pcm(np.full(32_000, 0.5, np.float32))])
    assert {segment["abstain"] for segment in transcript.of("segment")} == {"no_speech"}


async def test_clipping(server: RunningServer) -> None:
    transcript = await talk_badly(server, [pcm(voice(32_000) * 20)])
    assert "clipping" in [w["code"] for w in transcript.of("warning")]
    assert {segment["abstain"] for segment in transcript.of("segment")} == {"clipped"}


async def test_a_client_that_never_reads(settings: Settings) -> None:
    """It is cut off after the time to send; what it left unread stays bounded meanwhile."""
    impatient = settings.model_copy(update={"send_timeout_s": 0.3, "burst_s": 20_000.0})
    with RunningServer(impatient) as server:
        async with good_session_beside(server.stream_url):
            await asyncio.to_thread(send_without_reading, server)
        server.wait_until(lambda: server.metric("glrf_sessions") == 0)
        assert server.metric("glrf_sessions_closed_total", reason="slow_client") == 1
        assert server.metric("glrf_queued_segments") == 0


def shake_hands(client: socket.socket, path: str) -> None:
    """Opens a WebSocket by hand, and reads the answer's head."""
    client.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)


def send_without_reading(server: RunningServer) -> None:
    """Silence costs the server next to nothing, and each 0.4 s of it is a message to the client."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(TIMEOUT_S)
        client.connect(("127.0.0.1", server.port))
        shake_hands(client, "/v1/stream?encoding=mulaw&sample_rate=8000")
        # A masked binary frame of 64 KiB, mask 0: mu-law 0xFF is silence.
        frame = b"\x82\xff" + (65_536).to_bytes(8, "big") + bytes(4) + b"\xff" * 65_536
        try:
            for _ in range(2000):
                client.sendall(frame)
        except ConnectionError:  # cut off, and not just ignored
            return
    raise AssertionError("the server took two hours of audio from a client that never read")


async def test_a_client_that_leaves_mid_segment(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    backend = GatedBackend()
    one_by_one = settings.model_copy(update={"max_batch": 1})
    with RunningServer(one_by_one, ModelRegistry([backend])) as server:
        n_errors = len([r for r in caplog.records if r.levelname == "ERROR"])
        async with asyncio.timeout(TIMEOUT_S):
            client = await connect(server.stream_url)
            await client.send(pcm(voice(16_000 * 3)))
            await until(lambda: backend.n_begun == 1)
            await until(lambda: server.metric("glrf_queued_segments") >= 5)
            client.transport.abort()
            await until(lambda: not server.metric("glrf_sessions"))
        backend.gate.set()
        async with good_session_beside(server.stream_url):
            pass
        # The one segment that was running when the client left, then the good sessions' 9 + 9.
        assert sum(backend.batch_sizes) == 1 + 2 * 9
        assert server.metric("glrf_queued_segments") == 0
        assert server.metric("glrf_sessions_closed_total", reason="client_left") == 1
        assert len([r for r in caplog.records if r.levelname == "ERROR"]) == n_errors


async def test_a_client_that_leaves_during_the_handshake(server: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websock")
    await converse(server.stream_url, [pcm(voice(16_000))])


async def test_a_stream_that_ends_before_it_is_open_is_counted_at_both_ends(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted() -> tuple[float, float]:
        opened = server.metric("glrf_sessions_opened_total", front_end="stream")
        return opened, server.metric("glrf_sessions_closed_total", reason="client_left")

    async def left(_: Stream) -> None:
        raise WebSocketDisconnect(1006)

    server.wait_until(lambda: server.metric("glrf_sessions") == 0)
    n_opened, n_closed = counted()
    monkeypatch.setattr(Stream, "_open", left)
    with pytest.raises(InvalidHandshake):
        await connect(server.stream_url)
    server.wait_until(lambda: server.metric("glrf_sessions") == 0)
    assert counted() == (n_opened + 1, n_closed + 1)


async def test_a_network_that_fails(settings: Settings) -> None:
    with RunningServer(settings, ModelRegistry([FailingBackend()])) as server:
        transcript = await converse(server.stream_url, [pcm(voice(16_000))], close=False)
    assert transcript.close_code == 1011
    assert transcript.error["code"] == "inference_failed"
    assert transcript.error["retryable"]
    assert "accelerator" not in transcript.error["message"]


async def test_shutdown_tells_what_is_scored_then_1012(settings: Settings) -> None:
    with RunningServer(settings) as server:
        async with asyncio.timeout(TIMEOUT_S), connect(server.stream_url) as client:
            listening = asyncio.create_task(listen(client))
            await client.send(pcm(voice(16_000 * 2)))
            await until(lambda: server.metric("glrf_audio_seconds_total", source="stream"))
            server.begin_stop()
            transcript = await listening
    assert transcript.close_code == 1012
    assert transcript.error["code"] == "restarting"
    assert transcript.error["retryable"]
    assert transcript.error["retry_after_ms"] == 1000
    assert [m["type"] for m in transcript.messages][-1] == "error"
