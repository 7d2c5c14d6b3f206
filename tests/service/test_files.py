import asyncio
import contextlib
import csv
import io
import json
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile as sf

from service import wire
from service.analysis import FileAnalysis, FileLimits
from service.files import LinesResponse
from service.inference.batcher import Batcher
from service.inference.onnx import OnnxBackend
from service.registry import ModelRegistry
from service.requests import FileQuery
from service.settings import Settings
from tests.ser_core.recordings import by_pyav
from tests.service.running import (
    GatedBackend,
    RunningServer,
    assert_same_document,
    until,
    wav,
)
from tests.synthetic import voice

STEREO = np.stack([voice(16_000 * 3), voice(16_000 * 3, pitch_hz=90, seed=1)], axis=1)


def test_the_answer(server: RunningServer) -> None:
    answer = server.http.post("/v1/files", content=wav(voice(16_000 * 3)))
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["X-Request-ID"] == body["request_id"]
    assert list(body) == list(wire.FileResult.model_fields)
    assert body["duration_ms"] == 3000
    (channel,) = body["channels"]
    assert list(channel) == list(wire.ScoredChannel.model_fields)
    assert len(channel["segments"]) == 6
    assert list(channel["segments"][0]) == list(wire.SegmentFields.model_fields)
    assert list(channel["utterances"][0]) == list(wire.UtteranceFields.model_fields)
    assert channel["utterances"][0]["is_final"]
    assert list(channel["summary"]) == ["label", "scores", "time_share", "baseline_end_ms"]
    assert sum(channel["summary"]["time_share"].values()) == pytest.approx(1)


def test_alerts_stand_with_their_channel(server: RunningServer) -> None:
    query = "?roles=customer,agent&smoothing=mean&rules=angry>=0.000001:0.4s"
    body = wav(STEREO)
    answer = server.http.post(f"/v1/files{query}", content=body).json()
    for index, channel in enumerate(answer["channels"]):
        (alert,) = channel["alerts"]
        assert list(alert) == list(wire.AlertFields.model_fields)
        assert (alert["channel"], alert["start_ms"], alert["end_ms"]) == (index, 2000, 2400)
        assert alert["rule"] == "angry>=0.000001:0.4s"
    lines = server.http.post(
        f"/v1/files{query}", content=body, headers={"Accept": "application/x-ndjson"}
    ).text.splitlines()
    told = [json.loads(line) for line in lines]
    assert [line["role"] for line in told if line["type"] == "alert"] == ["customer", "agent"]


def test_multipart_and_raw_bodies_are_the_same(server: RunningServer) -> None:
    body = wav(voice(16_000 * 40))  # 1.3 MB: spooled to disk
    raw = server.http.post("/v1/files", content=body).json()
    form = server.http.post("/v1/files", files={"file": body}).json()
    raw["request_id"] = form["request_id"]
    assert_same_document(raw, form)


def test_a_content_type_in_any_case(server: RunningServer) -> None:
    form = httpx.Request("POST", "http://x", files={"file": wav(voice(8_000))})
    kind = form.headers["Content-Type"].replace("multipart/form-data", "Multipart/Form-Data")
    answer = server.http.post("/v1/files", content=form.read(), headers={"Content-Type": kind})
    assert answer.status_code == 200


def test_another_track_is_told(server: RunningServer) -> None:
    two, one = (by_pyav("mp4", "aac", 44_100, n_tracks=n) for n in (2, 1))
    answer = server.http.post("/v1/files?roles=customer:off,agent", content=two)
    (warning,) = [w for w in answer.json()["warnings"] if w["code"] == "other_tracks"]
    assert warning["channel"] == 1
    assert "2 audio tracks" in warning["message"]
    answer = server.http.post("/v1/files", content=one)
    assert "other_tracks" not in answer.text


@pytest.mark.parametrize("container", ["FLAC", "OGG", "MP3"])
def test_other_containers(server: RunningServer, container: str) -> None:
    file = io.BytesIO()
    sf.write(file, voice(32_000), 16_000, format=container)
    answer = server.http.post("/v1/files", content=file.getvalue())
    assert answer.status_code == 200
    assert answer.json()["channels"][0]["segments"]


def test_a_channel_that_is_off_leaves_one_line(server: RunningServer) -> None:
    answer = server.http.post("/v1/files?roles=customer,agent:off", content=wav(STEREO))
    customer, agent = answer.json()["channels"]
    assert agent == {"channel": 1, "role": "agent", "scored": False}
    assert customer["segments"][0]["role"] == "customer"


def test_partial_segments_can_be_left_out(server: RunningServer) -> None:
    answer = server.http.post("/v1/files?partial=false", content=wav(voice(16_000 * 3)))
    assert [s["partial"] for s in answer.json()["channels"][0]["segments"]] == [False] * 3


def test_ndjson_is_the_json_line_by_line(server: RunningServer) -> None:
    whole = server.http.post("/v1/files", content=wav(STEREO)).json()
    answer = server.http.post(
        "/v1/files", content=wav(STEREO), headers={"Accept": "application/x-ndjson"}
    )
    assert answer.headers["Content-Type"].startswith("application/x-ndjson")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[-1]["type"] == "summary"
    assert lines[-1]["request_id"] == answer.headers["X-Request-ID"]
    for channel in whole["channels"]:
        for kind in ("segment", "utterance"):
            told = [m for m in lines if m["type"] == kind and m["channel"] == channel["channel"]]
            assert_same_document(told, [{**line, "type": kind} for line in channel[f"{kind}s"]])
        summary = lines[-1]["channels"][channel["channel"]]
        assert_same_document(channel["summary"], {k: summary[k] for k in channel["summary"]})
        assert channel["turning_points"] == summary["turning_points"]
    assert_same_document(lines[-1]["call"], whole["call"])
    assert lines[-1]["run"] == whole["run"]


def test_ndjson_comes_while_the_file_is_scored(settings: Settings) -> None:
    """The first lines arrive while the network has not seen the last segment yet."""
    backend = GatedBackend()
    backend.gate.set()
    with RunningServer(
        settings.model_copy(update={"max_untold_events": 2, "max_batch": 1}),
        ModelRegistry([backend]),
    ) as server:
        headers = {"Accept": "application/x-ndjson"}
        body = wav(voice(16_000 * 60))
        with server.http.stream("POST", "/v1/files", content=body, headers=headers) as answer:
            lines = answer.iter_lines()
            assert json.loads(next(lines))["type"] == "segment"
            backend.gate.clear()
            assert sum(backend.batch_sizes) < 149
            backend.gate.set()
            assert json.loads(list(lines)[-1])["type"] == "summary"


def test_csv(server: RunningServer) -> None:
    answer = server.http.post("/v1/files", content=wav(STEREO), headers={"Accept": "text/csv"})
    assert answer.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 12
    assert {"channel", "start_ms", "label", "score_angry", "smoothed_label"} <= set(rows[0])


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("*/*", "application/json"),
        ("image/png", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("image/png, text/csv;q=0.5", "text/csv"),
        ("text/vtt", "text/vtt"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
    ],
)
def test_what_the_client_accepts(server: RunningServer, accept: str, expected: str) -> None:
    body = wav(voice(16_000))
    answer = server.http.post("/v1/files", content=body, headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith(expected)


async def test_offline_analysis_is_the_same_document(
    server: RunningServer, model_dir: Path, tmp_path: Path
) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(wav(STEREO, 44_100))
    query = FileQuery(roles="customer,agent")
    backend = OnnxBackend.load(model_dir / "tiny.onnx", "cpu", max_batch=4)
    async with Batcher(backend, max_batch=4) as batcher:
        analysis = FileAnalysis(path, batcher, query)
        offline = analysis.result([line async for line in analysis.lines()])
    result = json.loads(offline.model_dump_json())
    served = server.http.post("/v1/files?roles=customer,agent", content=path.read_bytes()).json()
    result["request_id"] = served["request_id"]
    assert_same_document(result, served)


async def test_a_file_keeps_to_its_share_of_the_queue() -> None:
    backend = GatedBackend()
    async with Batcher(backend, max_batch=1, max_queued=1000) as batcher:
        analysis = FileAnalysis(
            io.BytesIO(wav(voice(16_000 * 60))), batcher, limits=FileLimits(max_untold_events=4)
        )
        lines = analysis.lines()
        first = asyncio.ensure_future(anext(lines))
        await until(lambda: batcher.n_queued >= 3)
        for _ in range(50):
            await asyncio.sleep(0.001)
            # Four, and what one block of a second brings on top.
            assert batcher.n_queued <= 4 + 3
        backend.gate.set()
        await first
        rest = [line async for line in lines]
        assert len(rest) == 149


async def test_files_are_analysed_in_turn(settings: Settings) -> None:
    """One more than may be analysed waits; one more than may wait is refused."""
    backend = GatedBackend()
    narrow = settings.model_copy(update={"max_files": 1, "max_files_waiting": 1})
    body = wav(voice(32_000))
    with RunningServer(narrow, ModelRegistry([backend])) as server:
        async with httpx.AsyncClient(base_url=server.http.base_url, timeout=20) as http:
            first = asyncio.create_task(http.post("/v1/files", content=body))
            await until(lambda: server.metric("glrf_files"))
            second = asyncio.create_task(http.post("/v1/files", content=body))
            await until(lambda: server.metric("glrf_files_waiting"))
            third = await http.post("/v1/files", content=body)
            assert not second.done()
            backend.gate.set()
            first, second = await first, await second
        assert first.status_code == second.status_code == 200
        assert first.json()["channels"] == second.json()["channels"]
        assert (third.status_code, third.json()["code"]) == (503, "overloaded")
        assert third.headers["Retry-After"] == "1"
        server.wait_until(lambda: server.metric("glrf_files") == 0)
        assert server.metric("glrf_files_waiting") == 0
        assert server.http.post("/v1/files", content=wav(voice(16_000))).status_code == 200


async def test_a_file_that_waits_too_long_is_refused(settings: Settings) -> None:
    backend = GatedBackend()
    hasty = settings.model_copy(update={"max_files": 1, "max_file_wait_s": 0.2})
    with RunningServer(hasty, ModelRegistry([backend])) as server:
        async with httpx.AsyncClient(base_url=server.http.base_url, timeout=20) as http:
            first = asyncio.create_task(http.post("/v1/files", content=wav(voice(32_000))))
            await until(lambda: server.metric("glrf_files"))
            second = await http.post("/v1/files", content=wav(voice(32_000)))
            backend.gate.set()
            first = await first
        assert first.status_code == 200
        assert (second.status_code, second.json()["code"]) == (503, "overloaded")
        assert "0.2 s" in second.json()["detail"]
        server.wait_until(lambda: server.metric("glrf_files") == 0)
        assert server.metric("glrf_files_waiting") == 0


def test_slow_uploads_take_no_turn(settings: Settings) -> None:
    narrow = settings.model_copy(update={"max_files": 1})
    backend = GatedBackend()
    backend.gate.set()
    begun = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\nRIFF"
    with RunningServer(narrow, ModelRegistry([backend])) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(begun)
        server.wait_until(lambda: server.metric("glrf_files_waiting") == 3)
        assert server.http.post("/v1/files", content=wav(voice(16_000))).status_code == 200
        assert server.metric("glrf_files") == 0


async def test_a_client_that_leaves_while_its_file_waits_leaves_its_place(
    settings: Settings,
) -> None:
    backend = GatedBackend()
    narrow = settings.model_copy(update={"max_files": 1})
    body = wav(voice(32_000))
    with RunningServer(narrow, ModelRegistry([backend])) as server:
        async with httpx.AsyncClient(base_url=server.http.base_url, timeout=20) as http:
            first = asyncio.create_task(http.post("/v1/files", content=body))
            await until(lambda: server.metric("glrf_files"))
            second = asyncio.create_task(http.post("/v1/files", content=body))
            await until(lambda: server.metric("glrf_files_waiting"))
            second.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await second
            await until(lambda: not server.metric("glrf_files_waiting"))
            assert server.metric("glrf_files") == 1
            backend.gate.set()
            (channel,) = (await first).json()["channels"]
        server.wait_until(lambda: server.metric("glrf_files") == 0)
        assert sum(backend.batch_sizes) == len(channel["segments"])


async def test_files_that_wait_are_told_of_a_restart(settings: Settings) -> None:
    """At once, that they may go elsewhere; the one under way gets its answer."""
    backend = GatedBackend()
    narrow = settings.model_copy(update={"max_files": 1})
    body = wav(voice(32_000))
    with RunningServer(narrow, ModelRegistry([backend])) as server:
        async with httpx.AsyncClient(base_url=server.http.base_url, timeout=20) as http:
            first = asyncio.create_task(http.post("/v1/files", content=body))
            await until(lambda: server.metric("glrf_files"))
            second = asyncio.create_task(http.post("/v1/files", content=body))
            await until(lambda: server.metric("glrf_files_waiting"))
            server.begin_stop()
            second = await second
            assert not first.done()
            backend.gate.set()
            first = await first
        assert first.status_code == 200
        assert (second.status_code, second.json()["code"]) == (503, "restarting")


@pytest.mark.parametrize("n_sent", [0, 3])
async def test_a_place_comes_free_whenever_a_client_stops_reading(n_sent: int) -> None:
    """Also before the answer's head was sent, when no line was asked for yet."""
    is_free = False

    async def freed() -> None:
        nonlocal is_free
        is_free = True

    resources = contextlib.AsyncExitStack()
    resources.push_async_callback(freed)
    n_left = n_sent

    async def send(_message: Any) -> None:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            await asyncio.sleep(60)

    async def lines() -> AsyncGenerator[bytes]:
        while True:
            yield b"{}\n"

    answer = LinesResponse(lines(), 0.05, resources)
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
    async with asyncio.timeout(10):
        await answer(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert is_free


async def test_a_client_that_reads_a_little_now_and_then_is_left() -> None:
    n_sent = 0

    async def send(_message: Any) -> None:
        nonlocal n_sent
        n_sent += 1
        await asyncio.sleep(0.04)

    async def lines() -> AsyncGenerator[bytes]:
        while True:
            yield b"{}\n"

    answer = LinesResponse(lines(), 0.05, contextlib.AsyncExitStack())
    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}}
    async with asyncio.timeout(10):
        await answer(scope, asyncio.Event().wait, send)  # type: ignore[arg-type]
    assert n_sent <= 13  # half a second in all
