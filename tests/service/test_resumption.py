"""A stream goes on over another connection, at another replica, as if nothing had happened."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from pydantic import SecretStr
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from ser_core.features import Float32
from service import resumption
from service.auth import SUBPROTOCOL
from service.checkpoint import CheckpointSeal, StreamState
from service.settings import Settings
from tests.service.asgi_stream import Application, AsgiStream
from tests.service.resuming import OpusRecording, Recording, ResumingClient, without_session
from tests.service.running import (
    TIMEOUT_S,
    RunningServer,
    Transcript,
    chunks,
    converse,
    listen,
    pcm,
    until,
)
from tests.synthetic import opus_packets, voice, write_model

KEY = "one key for all replicas of 32 bytes and more"


@pytest.fixture(scope="module")
def shared(settings: Settings) -> Settings:
    # One segment a batch: batches of other sizes may round otherwise in the last bits.
    return settings.model_copy(update={"checkpoint_keys": SecretStr(KEY), "max_batch": 1})


@pytest.fixture(scope="module")
def replicas(shared: Settings) -> Iterator[tuple[RunningServer, RunningServer]]:
    with RunningServer(shared) as one, RunningServer(shared) as other:
        yield one, other


def _both(n_samples: int) -> Float32:
    voices = [voice(n_samples, 48_000, seed=seed) for seed in (0, 3)]
    return np.stack(voices, axis=1)


def _with_bad_ones(packets: list[bytes]) -> list[bytes]:
    for at in range(50, len(packets), 60):
        packets[at:at] = [b"\xfb\x03" + bytes(200)]  # 60 ms
    return packets


RECORDINGS = {
    "mono": Recording(pcm(voice(16_000 * 7)), {}, (50_000,)),
    "a call": Recording(
        pcm(np.stack([voice(8_000 * 8, 8_000), voice(8_000 * 8, 8_000, seed=3)], axis=1)),
        {"sample_rate": 8_000, "channels": 2, "roles": "customer,agent", "start_offset_ms": 5_000},
        (30_000, 30_000),
    ),
    "44.1 kHz": Recording(
        pcm(voice(44_100 * 7, 44_100)), {"sample_rate": 44_100, "partial": "false"}, (123_457,)
    ),
    "one utterance": Recording(
        pcm(voice(11_025 * 7, 11_025)), {"sample_rate": 11_025, "endpointing": "off"}, (40_001,)
    ),
    "Opus": OpusRecording(
        _with_bad_ones(opus_packets(voice(48_000 * 8, 48_000))),
        {"start_offset_ms": 5_000},
        (120_000,),
    ),
    "an Opus call": OpusRecording(
        opus_packets(_both(48_000 * 8), packet_ms=60, application="voip", b="24000"),
        {"channels": 2, "roles": "customer,agent:off", "endpointing": "manual"},
        (100_000, 200_000),
    ),
    "Opus off the whole milliseconds": OpusRecording(
        opus_packets(voice(1_000, 48_000), packet_ms=2.5)[:1]
        + opus_packets(voice(48_000 * 7, 48_000), packet_ms=20),
        {"endpointing": "off"},
    ),
}


class CuttingClient(ResumingClient):
    """Drops its connection after every second checkpoint."""

    n_checkpoints = 0

    def _take(self, message: dict[str, Any]) -> None:
        super()._take(message)
        if message["type"] == "checkpoint":
            self.n_checkpoints += 1
            if self.n_checkpoints % 2 == 0:
                raise ConnectionResetError


@pytest.mark.parametrize("name", RECORDINGS)
async def test_a_stream_that_is_cut_again_and_again(
    replicas: tuple[RunningServer, RunningServer], name: str
) -> None:
    recording = RECORDINGS[name]
    urls = [server.stream_url for server in replicas]
    unbroken = ResumingClient(lambda: urls[0], recording, chunk_s=0.1)
    async with asyncio.timeout(TIMEOUT_S):
        await unbroken.run()
        # Each connection goes to the other replica.
        cut = CuttingClient(lambda: urls[cut.n_connections % 2], recording, chunk_s=0.1, speed=8)
        await cut.run()
    assert unbroken.n_connections == 1
    assert cut.n_connections > 1
    assert without_session(cut.events) == without_session(unbroken.events)
    assert cut.closed is not None
    assert unbroken.closed is not None
    assert without_session([cut.closed]) == without_session([unbroken.closed])
    assert len({event["session_id"] for event in cut.events}) == 1


class ShyClient(ResumingClient):
    """Drops its connection after the first message that it can go on from."""

    def _take(self, message: dict[str, Any]) -> None:
        super()._take(message)
        if message["type"] == "checkpoint" and self.n_connections == 1:
            assert self._first == 0
            assert not [event for event in self.events if event["type"] != "warning"]
            raise ConnectionResetError


@pytest.mark.parametrize("name", RECORDINGS)
async def test_a_stream_that_was_lost_before_it_was_heard_goes_on(
    replicas: tuple[RunningServer, RunningServer], name: str
) -> None:
    recording = RECORDINGS[name]
    urls = [server.stream_url for server in replicas]
    unbroken = ResumingClient(lambda: urls[0], recording)
    shy = ShyClient(lambda: urls[shy.n_connections], recording)

    before = replicas[1].metric("glrf_sessions_resumed_total")
    async with asyncio.timeout(TIMEOUT_S):
        await unbroken.run()
        await shy.run()
    assert shy.n_connections == 2
    assert replicas[1].metric("glrf_sessions_resumed_total") == before + 1
    assert without_session(shy.events) == without_session(unbroken.events)
    assert len({event["session_id"] for event in shy.events}) == 1


@pytest.mark.parametrize("query", ["", "partial=false", "partial=false&channels=2"])
def test_a_second_of_audio_never_goes_by_without_a_checkpoint(
    shared: Settings, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """Also while there is nothing else to tell, as where an utterance has just begun."""
    chunk_s, now_s = 0.125, 0.0  # the clock is the audio that was sent
    clock = SimpleNamespace(time=time.time, monotonic=lambda: now_s)
    monkeypatch.setattr("service.resumption.time", clock)
    pauses = [np.zeros(12_000 + n * 1_100, np.float32) for n in range(10)]
    samples = np.concatenate([part for pause in pauses for part in (pause, voice(9_600))])
    n_channels = 2 if "channels=2" in query else 1
    data = pcm(np.stack([np.roll(samples, n * 9_000) for n in range(n_channels)], axis=1))

    def n_checkpoints(stream: AsgiStream) -> int:
        return sum(message["type"] == "checkpoint" for message in stream.messages)

    async def hear(application: Application) -> None:
        nonlocal now_s
        stream = AsgiStream(application.app, query)
        await stream.greeted()
        n_told, told_s = 0, 0.0
        for chunk in chunks(data, round(chunk_s * 32_000) * n_channels):
            now_s += chunk_s
            stream.send(chunk)
            await until(lambda: not stream.n_untaken)
            if now_s >= told_s + 1:  # it comes now, without more audio
                await until(lambda n=n_told: n_checkpoints(stream) > n)
            if n_checkpoints(stream) > n_told:
                n_told, told_s = n_checkpoints(stream), now_s
        stream.leave()
        await stream.ended()

    with Application(shared) as application:
        application.run(hear(application))


@pytest.mark.parametrize("name", ["a call", "Opus"])
async def test_checkpoints_come_once_a_second_and_are_small(
    replicas: tuple[RunningServer, RunningServer], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in a quarter of the time."""
    monkeypatch.setattr(resumption, "INTERVAL_S", resumption.INTERVAL_S / 4)
    transcript = await _paced(replicas[0].stream_url, RECORDINGS[name], speed=4)
    checkpoints = transcript.of("checkpoint")
    assert len(checkpoints) >= 4
    assert max(len(checkpoint["token"]) for checkpoint in checkpoints) < 1_800
    ends = [message["type"] for message in transcript.messages]
    assert ends.index("checkpoint") < ends.index("segment") + 4


async def _paced(url: str, recording: Recording, speed: float) -> Transcript:
    async with connect(f"{url}?{urlencode(recording.query)}") as connection:
        listening = asyncio.create_task(listen(connection))
        began_s = time.monotonic()
        for position, frame in recording.frames(0, 0.4):
            if position > 4.8 * recording.rate_hz:
                break
            due_s = began_s + position / recording.rate_hz / speed
            await asyncio.sleep(max(0, due_s - time.monotonic()))
            await connection.send(frame)
        await connection.send('{"type": "close"}')
        return await listening


async def test_what_bad_packets_took_is_counted_once(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    recording = RECORDINGS["Opus"]
    client = CuttingClient(lambda: replicas[0].stream_url, recording, speed=8)
    await client.run()
    assert client.n_connections > 1
    assert client.closed is not None
    assert client.closed["usage"]["dropped_ms"] == 60 * 6


def _token(url: str, query: dict[str, Any] | None = None) -> tuple[str, int]:
    """Of a stream that has heard 3 s, and where it goes on."""
    transcript = asyncio.run(converse(f"{url}?{urlencode(query or {})}", [pcm(voice(48_000))] * 2))
    last = transcript.of("checkpoint")[-1]
    return last["token"], last["resume_from_ms"]


def _resume(url: str, **query: Any) -> Transcript:
    return asyncio.run(converse(f"{url}?{urlencode(query)}", []))


def test_the_token_alone_is_enough(replicas: tuple[RunningServer, RunningServer]) -> None:
    token, _ = _token(replicas[0].stream_url, {"partial": "false", "roles": "guest"})
    before = replicas[1].metric("glrf_sessions_resumed_total")
    transcript = _resume(replicas[1].stream_url, resume=token)
    assert transcript.close_code == 1000
    (created,) = transcript.of("session.created")
    assert created["seq"] == 0
    assert created["config"]["partial"] is False
    assert created["config"]["roles"][0]["role"] == "guest"
    assert replicas[1].metric("glrf_sessions_resumed_total") == before + 1


def _assert_rejected(transcript: Transcript, code: str) -> None:
    assert [message["type"] for message in transcript.messages] == ["error"]
    error = transcript.error
    assert (error["code"], error["fatal"], error["retryable"]) == (code, True, False)
    assert transcript.close_code == 4404


def test_another_parameter_than_the_streams(replicas: tuple[RunningServer, RunningServer]) -> None:
    url = replicas[0].stream_url
    token, _ = _token(url, {"partial": "false"})
    assert _resume(url, resume=token, partial="false").close_code == 1000
    transcript = _resume(url, resume=token, partial="true")
    _assert_rejected(transcript, "checkpoint_other_config")
    assert "partial" in transcript.error["message"]


@pytest.mark.parametrize(
    "given",
    [
        {"sample_rate": 16_000, "model": "tiny"},
        {"endpoint_silence_ms": 700},
        {"hysteresis": 0, "min_dwell_ms": 0},
        {"smoothing": "viterbi", "channels": 1},
    ],
)
def test_parameters_that_mean_the_streams(
    replicas: tuple[RunningServer, RunningServer], given: dict[str, Any]
) -> None:
    token, _ = _token(replicas[0].stream_url)
    assert _resume(replicas[1].stream_url, resume=token, **given).close_code == 1000


@pytest.mark.parametrize(
    "given", [{"sample_rate": 8_000}, {"endpoint_silence_ms": 701}, {"hysteresis": 0.5}]
)
def test_parameters_that_mean_another_stream(
    replicas: tuple[RunningServer, RunningServer], given: dict[str, Any]
) -> None:
    token, _ = _token(replicas[0].stream_url)
    _assert_rejected(
        _resume(replicas[1].stream_url, resume=token, **given), "checkpoint_other_config"
    )


def test_a_stream_that_goes_on_has_a_checkpoint_at_once(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    token, resume_from_ms = _token(replicas[0].stream_url)
    for _ in range(3):  # cut again each time, before any audio
        transcript = _resume(replicas[1].stream_url, resume=token)
        checkpoint = transcript.of("checkpoint")[0]
        assert transcript.messages.index(checkpoint) == 1
        assert checkpoint["resume_from_ms"] == resume_from_ms
        assert checkpoint["token"] != token
        token = checkpoint["token"]


@pytest.mark.parametrize("token", ["x", "A" * 200, "A" * 5_000])
def test_a_forged_token(replicas: tuple[RunningServer, RunningServer], token: str) -> None:
    code = "checkpoint_other_version" if len(token) == 200 else "checkpoint_forged"
    _assert_rejected(_resume(replicas[0].stream_url, resume=token), code)
    assert replicas[0].metric("glrf_refusals_total", code=code) >= 1


async def test_a_browser_can_read_why_it_cannot_go_on(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    """It fails a connection that takes none of the subprotocols it offered (WHATWG WebSockets)."""
    token = replicas[0].http.post("/v1/tokens").json()["token"]
    offered = [Subprotocol(SUBPROTOCOL), Subprotocol(f"glrf.token.{token}")]
    url = f"{replicas[0].stream_url}?resume=x"
    async with asyncio.timeout(TIMEOUT_S), connect(url, subprotocols=offered) as connection:
        spoken, transcript = connection.subprotocol, await listen(connection)
    assert spoken == SUBPROTOCOL
    _assert_rejected(transcript, "checkpoint_forged")


def test_another_key_and_another_model(
    replicas: tuple[RunningServer, RunningServer], shared: Settings, tmp_path: Path
) -> None:
    token, _ = _token(replicas[0].stream_url)
    write_model(tmp_path / "tiny.onnx", seed=5)
    strange_model = shared.model_copy(update={"model_dir": tmp_path})
    strange_key = shared.model_copy(update={"checkpoint_keys": None})
    for settings, code in (
        (strange_model, "checkpoint_other_model"),
        (strange_key, "checkpoint_unknown_key"),
    ):
        with RunningServer(settings) as server:
            _assert_rejected(_resume(server.stream_url, resume=token), code)


def test_expired_and_of_another_state(replicas: tuple[RunningServer, RunningServer]) -> None:
    url = replicas[0].stream_url
    seal = CheckpointSeal([KEY.encode()])
    state = seal.open(_token(url)[0], 0)
    _assert_rejected(_resume(url, resume=seal.seal(state, 0)), "checkpoint_expired")
    strange = StreamState(**{**_fields(state), "session": {"channels": []}})
    token = seal.seal(strange, 2**40)
    _assert_rejected(_resume(url, resume=token), "checkpoint_other_version")


def _fields(state: StreamState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in StreamState.__slots__}


@pytest.mark.parametrize("query", ["", "?encoding=opus"])
async def test_a_silent_stream_keeps_its_checkpoint_fresh(shared: Settings, query: str) -> None:
    frames = opus_packets(voice(48_000, 48_000)) if query else [pcm(voice(16_000))]
    settings = shared.model_copy(update={"checkpoint_ttl_s": 0.6})

    with RunningServer(settings) as server:
        async with asyncio.timeout(TIMEOUT_S), connect(server.stream_url + query) as connection:
            for frame in frames:
                await connection.send(frame)
            messages = []
            with contextlib.suppress(TimeoutError):
                while True:
                    text = await asyncio.wait_for(connection.recv(), 0.5)
                    messages.append(json.loads(text))
            await connection.send('{"type": "keepalive"}')
            messages.append(json.loads(await connection.recv()))
    old, new = [message for message in messages if message["type"] == "checkpoint"][-2:]
    assert messages[-1] == new
    assert new["resume_from_ms"] == old["resume_from_ms"]
    assert new["token"] != old["token"]


async def test_a_line_that_goes_dead_again_and_again_locks_nobody_out(
    replicas: tuple[RunningServer, RunningServer],
) -> None:
    url = replicas[0].stream_url
    async with asyncio.timeout(TIMEOUT_S), contextlib.AsyncExitStack() as stack:
        dead = [await stack.enter_async_context(connect(url))]
        _, checkpoint = [json.loads(await dead[0].recv()) for _ in range(2)]
        token = checkpoint["token"]
        for _ in range(6):  # none of them is ever closed
            dead.append(await stack.enter_async_context(connect(f"{url}?resume={token}")))
            assert json.loads(await dead[-1].recv())["type"] == "session.created"
        last = dead.pop()
        ended = [await listen(connection) for connection in dead[:3]]
        await last.send('{"type": "close"}')
        told = await listen(last)
    for transcript in ended:
        assert (transcript.error["code"], transcript.close_code) == ("session_quota", 4429)
    assert told.close_code == 1000
