import asyncio
import contextlib
import gc
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ser_core.labels import LABELS
from ser_core.smoothing import DEFAULT_HOLDS, DEFAULT_SMOOTHING
from service.registry import ModelRegistry
from service.settings import Settings
from service.stream import Stream
from tests.service.running import (
    TIMEOUT_S,
    GatedBackend,
    RunningServer,
    Transcript,
    assert_same_document,
    assert_scores_near,
    chunks,
    converse,
    listen,
    pcm,
    until,
)
from tests.synthetic import opus_packets, voice


async def talk(server: RunningServer, frames: Sequence[bytes | str], query: str = "") -> Transcript:
    return await converse(server.stream_url + query, frames)


async def test_a_stream_from_first_to_last_message(server: RunningServer) -> None:
    transcript = await talk(server, chunks(pcm(voice(16_000 * 3)), 3200))
    kinds = [message["type"] for message in transcript.messages]
    assert "checkpoint" in kinds
    kinds = [kind for kind in kinds if kind != "checkpoint"]
    assert kinds == ["session.created", *["segment"] * 6, "utterance", "session.closed"]
    created, closed = transcript.messages[0], transcript.messages[-1]
    assert created["config"] == {
        "encoding": "pcm_s16le",
        "sample_rate": 16000,
        "channels": 1,
        "roles": [{"channel": 0, "role": None, "scored": True}],
        "endpointing": "vad",
        "endpoint_silence_ms": 700,
        "detector": "energy",
        "smoothing": DEFAULT_SMOOTHING,
        "hysteresis": DEFAULT_HOLDS[DEFAULT_SMOOTHING].hysteresis,
        "min_dwell_ms": round(DEFAULT_HOLDS[DEFAULT_SMOOTHING].min_dwell_s * 1000),
        "baseline_ms": 0,
        "rules": [],
        "partial": True,
        "start_offset_ms": 0,
        "on_overload": "close",
    }
    assert (created["model"]["name"], len(created["model"]["sha256"])) == ("tiny", 64)
    assert created["limits"] == {
        "max_frame_bytes": 2**20,
        "max_sessions": 100,
        "send_timeout_ms": 10_000,
        "idle_timeout_ms": 60_000,
        "max_session_ms": 14_400_000,
        "max_speed": 20.0,
        "burst_ms": 300_000,
    }
    left = datetime.fromisoformat(created["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=3, minutes=59) < left <= timedelta(hours=4)
    segments = transcript.of("segment")
    assert [s["partial"] for s in segments] == [True] * 3 + [False] * 3
    assert [(s["start_ms"], s["end_ms"]) for s in segments] == [
        (0, 800),
        (0, 1200),
        (0, 1600),
        (0, 2000),
        (400, 2400),
        (800, 2800),
    ]
    assert all(isinstance(s["lag_ms"], int) and 0 <= s["lag_ms"] < 5000 for s in segments)
    assert closed["usage"] == {
        "audio_ms": 3000,
        "speech_ms": 3000,
        "segments": 6,
        "dropped_ms": 0,
    }
    assert closed["summary"][0]["label"] == transcript.of("utterance")[0]["label"]
    assert closed["reason"] == "client_closed"
    assert transcript.close_code == 1000


async def test_any_chunking_tells_the_same(server: RunningServer) -> None:
    data = pcm(voice(16_000 * 3))
    small, large = await talk(server, chunks(data, 642)), await talk(server, [data])
    assert_same_document(small.events, large.events)


async def test_the_lag_of_a_stream_that_is_not_live_is_not_watched(server: RunningServer) -> None:
    observed = server.metric("glrf_lag_seconds_count")
    transcript = await talk(server, [pcm(voice(16_000 * 6))])
    assert len(transcript.of("segment")) > 10
    assert server.metric("glrf_lag_seconds_count") == observed
    segments = (await talk(server, [pcm(voice(16_000))])).of("segment")
    assert segments
    assert server.metric("glrf_lag_seconds_count") == observed + len(segments)


async def test_flush_ends_an_utterance(server: RunningServer) -> None:
    second = pcm(voice(16_000))
    transcript = await talk(server, [second, '{"type": "flush"}', second, '{"type":"keepalive"}'])
    utterances = transcript.of("utterance")
    assert [(u["start_ms"], u["end_ms"]) for u in utterances] == [(0, 1000), (1000, 2000)]
    assert all(u["is_final"] for u in utterances)


async def test_endpointing_off_tells_the_result_so_far(server: RunningServer) -> None:
    second = pcm(voice(16_000))
    transcript = await talk(server, [second, '{"type": "flush"}', second], "?endpointing=off")
    utterances = transcript.of("utterance")
    assert [(u["end_ms"], u["is_final"]) for u in utterances] == [(1000, False), (2000, True)]
    assert {u["utterance_id"] for u in utterances} == {"0-0"}


async def test_roles_and_a_channel_that_is_off(server: RunningServer) -> None:
    stereo = pcm(np.stack([voice(32_000), voice(32_000, pitch_hz=90)], axis=1))
    transcript = await talk(server, [stereo], "?channels=2&roles=customer,agent:off")
    assert {(s["channel"], s["role"]) for s in transcript.of("segment")} == {(0, "customer")}
    assert transcript.messages[0]["config"]["roles"] == [
        {"channel": 0, "role": "customer", "scored": True},
        {"channel": 1, "role": "agent", "scored": False},
    ]
    assert transcript.messages[-1]["usage"]["audio_ms"] == 2000
    assert [s["role"] for s in transcript.messages[-1]["summary"]] == ["customer"]


async def test_start_offset_shifts_all_times(server: RunningServer) -> None:
    transcript = await talk(server, [pcm(voice(16_000))], "?start_offset_ms=90000")
    assert transcript.of("utterance")[0]["start_ms"] == 90_000
    assert transcript.of("segment")[0]["end_ms"] == 90_800


async def test_narrowband_audio_is_warned_of(server: RunningServer) -> None:
    transcript = await talk(server, [bytes(8000)], "?encoding=mulaw&sample_rate=8000")
    assert transcript.messages[1]["code"] == "narrowband_audio"


async def test_an_update_that_changes_nothing_is_taken(server: RunningServer) -> None:
    update = json.dumps({"type": "update", "smoothing": "mean", "endpointing": "vad"})
    transcript = await talk(server, [update, pcm(voice(16_000))])
    assert not transcript.of("error")
    assert transcript.of("utterance")


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"smoothing": "median"}, "smoothing='median' is not known"),
        ({"hysteresis": -1}, "hysteresis=-1 is out of range"),
        ({"smoothing": "ema", "min_dwell_ms": 10**6}, "min_dwell of 1000 s is out of range"),
        ({"endpointing": "magic"}, "endpointing='magic'"),
        ({"endpointing": "off"}, "endpointing cannot be changed"),
        ({"smoothing": "ema", "endpointing": "off"}, "endpointing cannot be changed"),
        ({"thresholds": {"angry": 1.5}}, "angry=1.5 is out of range"),
        ({"smoothing": "ema", "thresholds": {"bored": 0.5}}, "no label 'bored'"),
    ],
)
async def test_an_update_that_is_not_available_changes_nothing(
    server: RunningServer, option: dict[str, object], named: str
) -> None:
    audio = pcm(voice(16_000 * 3))
    transcript = await talk(server, [json.dumps({"type": "update", **option}), audio])
    assert named in transcript.error["message"]
    assert (transcript.error["code"], transcript.error["fatal"]) == ("bad_parameter", False)
    assert transcript.close_code == 1000
    undisturbed = await talk(server, [audio])
    assert_same_document(transcript.events, undisturbed.events)


async def test_an_update_holds_from_the_next_segment_on(server: RunningServer) -> None:
    """Wherever the network is with the segments before it."""
    first, rest = pcm(voice(16_000 * 2)), pcm(voice(16_000 * 2, seed=5))
    update = {"type": "update", "smoothing": "mean", "thresholds": dict.fromkeys(LABELS, 1.0)}
    transcript = await talk(server, [first, json.dumps(update), rest], "?smoothing=ema")
    assert not transcript.of("error")
    segments = transcript.of("segment")
    assert [s["abstain"] for s in segments] == [None] * 4 + ["uncertain"] * 5
    unchanged = (await talk(server, [first, rest], "?smoothing=ema")).of("segment")
    always_mean = (await talk(server, [first, rest], "?smoothing=mean")).of("segment")
    for i, segment in enumerate(segments):
        like = (unchanged if i < 4 else always_mean)[i]
        assert_scores_near(segment["smoothed"]["scores"], like["smoothed"]["scores"], 2e-6)


async def test_updates_in_any_number_leave_room_for_audio(settings: Settings) -> None:
    update = json.dumps({"type": "update", "hysteresis": 0.1})
    with RunningServer(settings.model_copy(update={"max_untold_events": 2})) as server:
        transcript = await talk(server, [pcm(voice(16_000)), *[update] * 50, pcm(voice(16_000))])
    assert transcript.close_code == 1000
    assert len(transcript.of("segment")) == 4


async def test_an_alert_comes_once_after_the_segment_that_completed_its_time(
    server: RunningServer,
) -> None:
    labels = ",".join(f"{label}>=0.000001:1s" for label in LABELS)
    query = f"?roles=customer&smoothing=mean&start_offset_ms=1000&rules={labels}"
    transcript = await talk(server, [pcm(voice(16_000 * 5))], query)
    alerts = transcript.of("alert")
    assert {alert["label"] for alert in alerts} == set(LABELS)
    assert len(alerts) == len(LABELS)
    (before,) = [s for s in transcript.of("segment") if s["seq"] == alerts[0]["seq"] - 1]
    for alert in alerts:
        assert (alert["role"], alert["start_ms"], alert["end_ms"]) == ("customer", 3000, 4200)
        assert alert["rule"] == f"{alert['label']}>=0.000001:1s"
        assert alert["score"] == before["smoothed"]["scores"][alert["label"]]
    assert before["end_ms"] == 4200


async def test_a_frame_of_a_megabyte_does_not_hold_the_others(settings: Settings) -> None:
    """131 s of audio in one frame: another session and `/livez` go on meanwhile."""
    patient = settings.model_copy(update={"max_untold_events": 10_000})  # no back-pressure helps
    with RunningServer(patient) as server:
        large, small, n_answers = await interleave(server)
    assert large.messages[-1]["usage"]["audio_ms"] == 131_072
    assert small.close_code == 1000
    assert n_answers > 5


async def interleave(server: RunningServer) -> tuple[Transcript, Transcript, int]:
    url = server.stream_url
    n_answers = 0
    async with httpx.AsyncClient(base_url=server.http.base_url) as http:
        large = asyncio.create_task(
            converse(url + "?encoding=mulaw&sample_rate=8000", [b"\x10" * 2**20])
        )
        small = await converse(url, [pcm(voice(16_000))])
        while not large.done():
            assert (await http.get("/livez")).status_code == 200
            n_answers += 1
        return await large, small, n_answers


async def test_back_pressure_bounds_what_is_in_flight(settings: Settings) -> None:
    backend = GatedBackend()
    bounded = settings.model_copy(update={"max_untold_events": 4, "max_batch": 1})
    with RunningServer(bounded, ModelRegistry([backend])) as server:
        async with asyncio.timeout(TIMEOUT_S):
            conversation = asyncio.create_task(
                converse(
                    f"{server.stream_url}?endpointing=manual",
                    chunks(pcm(voice(16_000 * 60)), 32_000),
                )
            )
            await until(lambda: server.metric("glrf_queued_segments") >= 3)
            for _ in range(20):  # no more comes, however long the network takes
                await asyncio.sleep(0.001)
                assert server.metric("glrf_queued_segments") <= 5
            backend.gate.set()
            transcript = await conversation
    assert len(transcript.of("segment")) == 149
    assert transcript.close_code == 1000


async def test_sessions_are_limited(settings: Settings) -> None:
    with RunningServer(settings.model_copy(update={"max_sessions": 1})) as server:
        async with connect(server.stream_url) as socket:
            await socket.recv()
            with pytest.raises(InvalidStatus) as caught:
                await connect(server.stream_url)
            await socket.send('{"type": "close"}')
            await listen(socket)
        response = caught.value.response
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        problem = json.loads(response.body)
        assert problem["code"] == "overloaded"
        assert "1 sessions are taken" in problem["detail"]
        assert server.metric("glrf_refusals_total", code="overloaded") == 1
        server.wait_until(lambda: server.metric("glrf_sessions") == 0)
        assert (await talk(server, [pcm(voice(16_000))])).close_code == 1000


async def test_metrics_come_from_the_results(settings: Settings) -> None:
    with RunningServer(settings) as server:
        frames = [pcm(voice(16_000 * 3)), bytes(16_000 * 2 * 3)]
        segments = (await talk(server, frames)).of("segment")
        silent = sum(segment["abstain"] == "no_speech" for segment in segments)
        assert silent
        server.wait_until(lambda: server.metric("glrf_sessions") == 0)
        assert server.metric("glrf_sessions_closed_total", reason="client_closed") == 1
        assert server.metric("glrf_audio_seconds_total", source="stream") == pytest.approx(6)
        for stage, count in (
            ("features", len(segments)),
            ("send", len(segments)),
            ("queue", len(segments) - silent),
            ("inference", len(segments) - silent),
        ):
            assert server.metric("glrf_stage_seconds_count", stage=stage) == count
        assert server.metric("glrf_batch_segments_sum") == len(segments) - silent
        assert server.metric("glrf_segments_total", label="none", abstain="no_speech") == silent


async def test_opus_packets_are_heard_and_bad_ones_told(server: RunningServer) -> None:
    packets: list[bytes | str] = [*opus_packets(voice(3 * 48_000, 48_000))]
    packets[50:50] = [b"", b"\xfb\x03" + bytes(200)]
    transcript = await talk(server, packets, "?encoding=opus&endpointing=manual")
    assert transcript.messages[0]["config"]["sample_rate"] == 48_000
    assert [error["code"] for error in transcript.of("error")] == ["empty_frame", "bad_packet"]
    assert not any(error["fatal"] for error in transcript.of("error"))
    assert transcript.close_code == 1000
    assert len(transcript.of("segment")) >= 6
    assert transcript.messages[-1]["usage"]["dropped_ms"] == 60


@pytest.mark.parametrize("end", ["close", "leave", "too long a frame", "idle"])
async def test_a_session_that_has_ended_is_out_of_memory_without_a_search_for_garbage(
    settings: Settings, end: str
) -> None:

    impatient = settings.model_copy(update={"idle_timeout_s": 1.0})
    with RunningServer(impatient) as server:
        gc.collect()
        gc.disable()
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                connect(server.stream_url, compression=None) as client,
            ):
                await client.send(pcm(voice(16_000 * 3)))
                while json.loads(await client.recv())["type"] != "segment":
                    pass
                match end:
                    case "close":
                        await client.send('{"type": "close"}')
                    case "leave":
                        client.transport.abort()
                    case "too long a frame":
                        await client.send(bytes(2**20 + 2))
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        await client.recv()
            server.wait_until(lambda: not any(type(x) is Stream for x in gc.get_objects()))
        finally:
            gc.enable()
