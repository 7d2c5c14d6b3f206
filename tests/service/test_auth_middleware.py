"""Keys, tokens and limits through a real server."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from service.keys import KeyLimits, new_key, write_keys
from service.settings import Settings
from service.tokens import Tokens
from tests.service.running import TIMEOUT_S, RunningServer, Transcript, chunks, listen, pcm, wav
from tests.synthetic import opus_packets, voice

KEY, KEPT = new_key("kiosk")
LIMITED_KEY, LIMITED = new_key(
    "limited", KeyLimits(sessions=1, requests_per_minute=50, audio_s_per_hour=5)
)
SINGLE_KEY, SINGLE = new_key("single", KeyLimits(files=1))
BEARER = {"Authorization": f"Bearer {KEY}"}
ORIGIN = "https://app.example"
SECRET = "s" * 32


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    write_keys(path, [KEPT, LIMITED, SINGLE])
    return path


@pytest.fixture(scope="module")
def locked(settings: Settings, path: Path) -> Iterator[RunningServer]:
    """A server with keys, and the finest log there is."""
    with RunningServer(changed(settings, path, jobs_dir=path.parent / "jobs")) as running:
        yield running


def changed(settings: Settings, path: Path, **others: Any) -> Settings:
    values = {
        **settings.model_dump(),
        "api_keys_file": path,
        "token_keys": SECRET,
        "allowed_origins": ORIGIN,
        "log_level": "debug",
        **others,
    }
    return Settings(**values)


async def refusal(url: str, **options: Any) -> httpx.Response:
    """The problem that a stream is refused with, before its upgrade."""
    async with asyncio.timeout(TIMEOUT_S):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, **options)
        answer = refused.value.response
        headers = list(answer.headers.raw_items())
        return httpx.Response(
            answer.status_code, headers=headers, content=bytes(answer.body or b"")
        )


async def talked(url: str, frames: list[bytes | str], **options: Any) -> Transcript:
    async with asyncio.timeout(TIMEOUT_S), connect(url, **options) as client:
        listening = asyncio.create_task(listen(client))
        with contextlib.suppress(Exception):
            for frame in frames:
                await client.send(frame)
        return await listening


CLOSE = '{"type": "close"}'


def test_rest_needs_a_key(locked: RunningServer) -> None:
    for method, route in (("GET", "/v1/models"), ("POST", "/v1/files"), ("GET", "/metrics")):
        answer = locked.http.request(method, route)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthenticated"
        assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
    assert locked.http.get("/v1/models", headers=BEARER).status_code == 200
    assert locked.http.get("/metrics", headers=BEARER).status_code == 200
    assert locked.http.get("/livez").status_code == 200
    answer = locked.http.post("/v1/files", headers=BEARER, content=wav(voice(32_000)))
    assert answer.status_code == 200


async def test_a_stream_needs_a_key(locked: RunningServer) -> None:
    answer = await refusal(locked.stream_url)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "unauthenticated"
    transcript = await talked(
        locked.stream_url, [pcm(voice(16_000)), CLOSE], additional_headers=BEARER
    )
    assert transcript.close_code == 1000


async def test_a_browser_streams_with_a_token_once(locked: RunningServer) -> None:
    preflight = locked.http.options(
        "/v1/tokens",
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == ORIGIN
    answer = locked.http.post("/v1/tokens", headers={**BEARER, "Origin": ORIGIN})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    token = answer.json()["token"]
    assert answer.json()["expires_in_ms"] == 60_000
    browser: dict[str, Any] = {
        "subprotocols": ["glrf.v1", f"glrf.token.{token}"],
        "origin": ORIGIN,
    }
    async with asyncio.timeout(TIMEOUT_S), connect(locked.stream_url, **browser) as client:
        await client.recv()
        assert client.subprotocol == "glrf.v1"
    assert (await refusal(locked.stream_url, **browser)).json()["code"] == "unauthenticated"
    assert locked.http.post("/v1/tokens").status_code == 401


async def test_a_token_of_another_replica_is_good(locked: RunningServer) -> None:
    token = Tokens((SECRET.encode(),), 60.0).issue(KEPT.id)
    browser: dict[str, Any] = {"subprotocols": ["glrf.v1", f"glrf.token.{token}"]}
    assert (await talked(locked.stream_url, [CLOSE], **browser)).close_code == 1000


async def test_pages_of_other_origins_are_refused(locked: RunningServer) -> None:
    evil = {"Origin": "https://evil.example"}
    answer = locked.http.get("/v1/models", headers={**BEARER, **evil})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
    assert "Access-Control-Allow-Origin" not in answer.headers
    answer = await refusal(locked.stream_url, additional_headers={**BEARER, **evil})
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")


async def test_a_page_of_our_own_needs_no_list(server: RunningServer) -> None:
    own = f"http://127.0.0.1:{server.port}"
    assert server.http.get("/v1/models", headers={"Origin": own}).status_code == 200
    assert (await talked(server.stream_url, [CLOSE], origin=own)).close_code == 1000
    answer = await refusal(server.stream_url, origin="https://evil.example")
    assert answer.status_code == 403


def test_who_comes_through_a_proxy_is_not_this_machine(server: RunningServer) -> None:
    answer = server.http.get("/v1/models", headers={"X-Forwarded-For": "192.0.2.1"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_loopback")


async def test_a_key_has_its_share_and_no_more(locked: RunningServer) -> None:
    bearer = {"Authorization": f"Bearer {LIMITED_KEY}"}
    async with asyncio.timeout(TIMEOUT_S):
        async with connect(locked.stream_url, additional_headers=bearer) as client:
            await client.recv()
            with pytest.raises(InvalidStatus) as refused:
                await connect(locked.stream_url, additional_headers=bearer)
            answer = refused.value.response
            assert json.loads(answer.body)["code"] == "session_quota"
            assert "Retry-After" in answer.headers
    assert answer.status_code == 429
    locked.wait_until(lambda: locked.metric("glrf_sessions") == 0)

    answer = locked.http.post("/v1/files", headers=bearer, content=wav(voice(16_000 * 6)))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")  # and is not charged
    audio = chunks(pcm(voice(16_000 * 4)), 32_000)
    transcript = await talked(locked.stream_url, [*audio, CLOSE], additional_headers=bearer)
    assert transcript.close_code == 1000
    transcript = await talked(locked.stream_url, [*audio, CLOSE], additional_headers=bearer)
    assert transcript.close_code == 4429
    assert transcript.error["code"] == "quota_exhausted"
    assert transcript.error["retry_after_ms"] > 60_000
    answer = locked.http.post("/v1/files", headers=bearer, content=wav(voice(32_000)))
    assert (answer.status_code, answer.json()["code"]) == (429, "quota_exhausted")
    statuses = [locked.http.get("/v1/models", headers=bearer).status_code for _ in range(51)]
    assert statuses[-1] == 429
    assert locked.http.get("/v1/models", headers=BEARER).status_code == 200
    assert locked.metric("glrf_refusals_total", code="session_quota") == 1
    assert locked.metric("glrf_refusals_total", code="quota_exhausted") == 2


@pytest.mark.parametrize(("slow", "other"), [("files", "jobs"), ("jobs", "files")])
def test_a_slow_upload_takes_places_of_its_own_key_alone(
    locked: RunningServer, slow: str, other: str
) -> None:
    def post(path: str, key: str) -> httpx.Response:
        bearer = {"Authorization": f"Bearer {key}"}
        return locked.http.post(f"/v1/{path}", headers=bearer, content=wav(voice(16_000)))

    begun = (
        f"POST /v1/{slow} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SINGLE_KEY}\r\n"
        "Content-Length: 5000\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", locked.port), TIMEOUT_S) as client:
        client.sendall(begun.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100")  # its body is waited for
        for path in (slow, other):
            refused = post(path, SINGLE_KEY)
            assert (refused.status_code, refused.json()["code"]) == (429, "file_quota")
            assert "Retry-After" in refused.headers
            assert post(path, KEY).is_success
    locked.wait_until(lambda: post(slow, SINGLE_KEY).is_success)


async def test_keys_come_and_go_without_a_restart(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key, kept = new_key("short-lived")
    bearer = {"Authorization": f"Bearer {key}"}
    with RunningServer(changed(settings, path)) as server:
        assert server.http.get("/v1/models").status_code == 401
        assert server.http.get("/v1/models", headers=bearer).status_code == 401
        write_keys(path, [kept])
        assert server.http.get("/v1/models", headers=bearer).status_code == 200
        async with (
            asyncio.timeout(TIMEOUT_S),
            connect(server.stream_url, additional_headers=bearer) as client,
        ):
            await client.send(pcm(voice(16_000)))
            created = json.loads(await client.recv())
            segment = json.loads(await client.recv())
            write_keys(path, [])
            transcript = await listen(client)
            transcript.messages[:0] = [created, segment]
        assert transcript.close_code == 4401
        assert transcript.error["code"] == "unauthenticated"
        assert server.http.get("/v1/models", headers=bearer).status_code == 401


def test_no_secret_is_logged(path: Path, model_dir: Path) -> None:
    """Not at the finest level either, nor of what is refused."""
    environment = {
        **os.environ,
        "GLRF_PORT": "0",
        "GLRF_DEVICE": "cpu",
        "GLRF_JOBS_WORKERS": "0",
        "GLRF_LOG_LEVEL": "debug",
        "GLRF_MODEL_DIR": str(model_dir),
        "GLRF_API_KEYS_FILE": str(path),
        "GLRF_TOKEN_KEYS": SECRET,
    }
    command = [sys.executable, "-c", "from service.start import run; run()"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            said = ""
            while not (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            url = found[1]
            stream_url = url.replace("http", "ws") + "/v1/stream"
            token = httpx.post(f"{url}/v1/tokens", headers=BEARER).json()["token"]
            browser: dict[str, Any] = {"subprotocols": ["glrf.v1", f"glrf.token.{token}"]}
            assert asyncio.run(talked(stream_url, [CLOSE], **browser)).close_code == 1000
            assert asyncio.run(refusal(stream_url, **browser)).status_code == 401
            wrong = {"Authorization": f"Bearer x{KEY}"}
            assert asyncio.run(refusal(stream_url, additional_headers=wrong)).status_code == 401
            assert httpx.get(f"{url}/v1/models?key={KEY}", headers=BEARER).status_code == 400
        finally:
            process.send_signal(signal.SIGTERM)
            said += process.stderr.read()
    assert "session" in said
    assert KEY not in said
    assert token not in said
    assert SECRET not in said
    assert KEPT.sha256 not in said


async def test_streams_end_that_are_too_fast_idle_or_too_long(settings: Settings) -> None:
    strict = settings.model_copy(
        update={"max_stream_speed": 1.0, "burst_s": 3.0, "idle_timeout_s": 0.5, "max_session_s": 2}
    )
    with RunningServer(strict) as server:
        fast = await talked(server.stream_url, [*chunks(pcm(voice(16_000 * 30)), 32_000), CLOSE])
        assert (fast.close_code, fast.error["code"]) == (4429, "too_fast")
        packets = opus_packets(voice(48_000 * 30, 48_000))
        fast = await talked(f"{server.stream_url}?encoding=opus", [*packets, CLOSE])
        assert (fast.close_code, fast.error["code"]) == (4429, "too_fast")
        idle = await talked(server.stream_url, [pcm(voice(16_000))])
        assert (idle.close_code, idle.error["code"]) == (4408, "idle")
        assert idle.of("segment")
        async with asyncio.timeout(TIMEOUT_S), connect(server.stream_url) as client:
            listening = asyncio.create_task(listen(client))
            began_s = time.monotonic()
            await client.send(pcm(voice(16_000)))
            while not listening.done():
                with contextlib.suppress(Exception):
                    await client.send('{"type": "keepalive"}')
                await asyncio.sleep(0.1)
            assert time.monotonic() - began_s > 1.5
            transcript = await listening
        assert (transcript.close_code, transcript.error["code"]) == (4410, "session_expired")
        assert transcript.error["retryable"]
        assert transcript.of("segment")


async def test_a_refusal_is_logged_with_its_route_and_whose_it_was(
    locked: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service.app")
    before = locked.metric("glrf_http_requests_total", route="/metrics", method="GET", status="401")
    locked.http.get("/metrics", headers={"Authorization": "Bearer wrong"})
    locked.http.get("/nothing", headers={"Authorization": "Bearer wrong"})
    for headers, path in (({}, "stream"), (BEARER, "stream?nonsense=1"), (BEARER, "streams")):
        url = locked.stream_url.replace("stream", path)
        with pytest.raises(InvalidStatus):
            await connect(url, additional_headers=headers)
    ours = [record.getMessage() for record in caplog.records if record.name == "service.app"]
    told = [message.partition(" (request ")[0] for message in ours]
    assert [re.sub(r", in .* s$", "", line) for line in told] == [
        "GET /metrics: 401",
        "GET other: 404",
        "WebSocket /v1/stream: 401, refused",
        "WebSocket /v1/stream: 400 of kiosk, refused",
        "WebSocket other: 404 of kiosk, refused",
    ]
    after = locked.metric("glrf_http_requests_total", route="/metrics", method="GET", status="401")
    assert after == before + 1
    assert "nonsense" not in "".join(ours)
