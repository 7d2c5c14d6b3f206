"""What open and new streams meet when the service is behind."""

import asyncio
import json

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ser_core.features import Float32
from service.registry import ModelRegistry
from service.settings import Settings
from tests import synthetic
from tests.service.running import (
    TIMEOUT_S,
    GatedBackend,
    RunningServer,
    converse,
    listen,
    pcm,
    until,
)
from tests.synthetic import voice


async def test_a_stream_that_is_behind_drops_its_oldest_and_says_so(settings: Settings) -> None:
    backend = GatedBackend()
    small = settings.model_copy(update={"max_untold_events": 4, "max_batch": 1})
    with RunningServer(small, ModelRegistry([backend])) as server:
        url = server.stream_url + "?on_overload=drop_oldest"
        async with asyncio.timeout(TIMEOUT_S), connect(url) as client:
            listening = asyncio.create_task(listen(client))
            await client.send(pcm(voice(16_000 * 8)))
            await until(lambda: server.metric("glrf_audio_seconds_total", source="stream"))
            await until(lambda: server.metric("glrf_dropped_segments_total"))  # while open
            await asyncio.sleep(0.5)
            backend.gate.set()
            await client.send('{"type": "close"}')
            transcript = await listening
    assert transcript.close_code == 1000
    [late] = transcript.of("warning")
    assert (late["code"], late["channel"]) == ("late", 0)
    segments = transcript.of("segment")
    n_dropped = 19 - len(segments)  # 8 s have 19 segments
    assert n_dropped > 0
    assert transcript.of("session.closed")[0]["usage"]["dropped_ms"] == 400 * n_dropped
    hops = [(segment["end_ms"] - 800) // 400 for segment in segments]
    assert [segment["index"] for segment in segments] == hops  # what is missing has one too
    assert segments[-1]["end_ms"] == 8000
    assert server.metric("glrf_dropped_segments_total") == n_dropped


async def test_while_segments_wait_no_new_stream_is_admitted(settings: Settings) -> None:
    backend = GatedBackend()
    strict = settings.model_copy(update={"max_batch": 1, "max_queue_wait_s": 0.2})
    with RunningServer(strict, ModelRegistry([backend])) as server:
        async with asyncio.timeout(TIMEOUT_S), connect(server.stream_url) as client:
            await client.send(pcm(voice(16_000 * 3)))
            await until(lambda: server.metric("glrf_queued_segments") > 1)
            await asyncio.sleep(0.3)
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.stream_url)
            answer = refused.value.response
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
            assert json.loads(answer.body)["code"] == "overloaded"
            backend.gate.set()
            await until(lambda: server.metric("glrf_queued_segments") == 0)
            async with connect(server.stream_url) as other:
                await other.recv()


async def test_a_stream_whose_segment_is_refused_is_told_so(settings: Settings) -> None:
    backend = GatedBackend()
    narrow = settings.model_copy(update={"max_batch": 1, "max_queued_segments": 1})
    with RunningServer(narrow, ModelRegistry([backend])) as server:
        async with (
            asyncio.timeout(TIMEOUT_S),
            connect(server.stream_url) as first,
            connect(server.stream_url) as second,
        ):
            one, other = np.split(voice(16_000 + 3_200), [12_800])
            await first.send(pcm(one))  # is scored
            await until(lambda: backend.n_begun == 1)
            await first.send(pcm(other))  # waits
            await until(lambda: server.metric("glrf_queued_segments") == 1)
            listening = asyncio.create_task(listen(second))
            for _ in range(10):
                await second.send(pcm(voice(1_600)))
            transcript = await listening
            backend.gate.set()
    assert transcript.close_code == 1013
    [error] = transcript.of("error")
    assert (error["code"], error["fatal"], error["retryable"]) == ("overloaded", True, True)
    assert server.metric("glrf_refusals_total", code="internal_error") == 0


async def test_a_batch_that_hangs_beside_others_is_noticed_and_its_stream_goes_elsewhere(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HangsOnce(GatedBackend):
        def score(self, features: Float32) -> Float32:
            self.n_begun += 1
            if self.n_begun == 1:
                assert self.gate.wait(TIMEOUT_S)
            return synthetic.logits(features)

    monkeypatch.setattr("service.runtime.STUCK_S", 0.1)
    monkeypatch.setattr("service.pump._TICK_S", 0.01)
    backend = HangsOnce()
    two = settings.model_copy(update={"max_batch": 1, "n_workers": 2, "max_untold_events": 2})
    with RunningServer(two, ModelRegistry([backend])) as server:
        # The reader waits for room, and does not see that more comes, or that nobody is there.
        transcript = await converse(server.stream_url, [pcm(voice(16_000 * 4))])
        assert (transcript.error["code"], transcript.error["retryable"]) == ("not_ready", True)
        assert transcript.close_code == 1013
        answer = server.http.get("/readyz")
        assert (answer.status_code, server.metric("glrf_queued_segments")) == (503, 0)
        assert "a batch has run for" in answer.json()["detail"]
        backend.gate.set()
        server.wait_until(lambda: server.http.get("/readyz").status_code == 200)
        transcript = await converse(server.stream_url, [pcm(voice(16_000 * 4))])
        assert transcript.close_code == 1000
