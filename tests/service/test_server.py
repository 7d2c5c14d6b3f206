"""The whole process: its start, what it says when it cannot, and its orderly end."""

import asyncio
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from ser_core.errors import SerError
from service import start
from service.address import bound
from service.settings import Settings
from tests.service.running import TIMEOUT_S, Transcript, listen, pcm, wav
from tests.synthetic import voice, write_model

SERVE = [sys.executable, "-W", "error", "-c", "from service.start import run; run()"]


def environment(**settings: str) -> dict[str, str]:
    return {
        **os.environ,
        "GLRF_PORT": "0",
        "GLRF_DEVICE": "cpu",
        "GLRF_JOBS_WORKERS": "0",
        **settings,
    }


@pytest.fixture
def process(model_dir: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        SERVE, env=environment(GLRF_MODEL_DIR=str(model_dir)), stderr=subprocess.PIPE, text=True
    )
    with process:
        yield process
        process.kill()


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError("it never listened")


async def test_sigterm_tells_streams_and_finishes_files(process: subprocess.Popen[str]) -> None:
    port = port_of(process)
    body = wav(voice(16_000 * 3))
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as upload:
        upload.sendall(
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
        )
        upload.sendall(body[: len(body) // 2])
        async with asyncio.timeout(TIMEOUT_S):
            async with connect(f"ws://127.0.0.1:{port}/v1/stream") as client:
                first = json.loads(await client.recv())
                await client.send(pcm(voice(16_000 * 2)))
                told = [first]
                while sum(message["type"] == "segment" for message in told) < 4:
                    told.append(json.loads(await client.recv()))
                process.send_signal(signal.SIGTERM)
                transcript = await listen(client)
                transcript.messages[:0] = told
        assert transcript.close_code == 1012
        assert [s["end_ms"] for s in transcript.of("segment")] == [800, 1200, 1600, 2000]
        assert transcript.messages[-1]["code"] == "restarting"

        upload.sendall(body[len(body) // 2 :])
        answer = b""
        while part := upload.recv(65_536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["channels"][0]["segments"]) == 6
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert "Traceback" not in errors
    assert process.returncode in (0, -signal.SIGTERM)


def test_who_has_no_answer_when_the_time_is_up_is_told_why(model_dir: Path) -> None:
    settings = {"GLRF_MODEL_DIR": str(model_dir), "GLRF_SHUTDOWN_S": "1"}
    with subprocess.Popen(
        SERVE, env=environment(**settings), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            port = port_of(process)
            with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as upload:
                upload.sendall(
                    b"POST /v1/files HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    b"Content-Length: 1000\r\n\r\n"
                )
                assert upload.recv(65_536).startswith(b"HTTP/1.1 100 ")
                process.send_signal(signal.SIGTERM)
                answer = b""
                while part := upload.recv(65_536):
                    answer += part
            _, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "restarting"
    assert "Traceback" not in errors


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_terminal_that_is_closed_is_an_orderly_end(
    model_dir: Path, tmp_path: Path, n_workers: int
) -> None:
    settings = {
        "GLRF_MODEL_DIR": str(model_dir),
        "GLRF_WORKERS": str(n_workers),
        "TMPDIR": str(tmp_path),
    }
    with subprocess.Popen(
        SERVE, env=environment(**settings), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            port = port_of(process)

            async def run() -> Transcript:
                async with asyncio.timeout(TIMEOUT_S):
                    async with connect(f"ws://127.0.0.1:{port}/v1/stream") as client:
                        await client.recv()
                        process.send_signal(signal.SIGHUP)
                        return await listen(client)

            assert asyncio.run(run()).close_code == 1012
            process.communicate(timeout=TIMEOUT_S)
            assert process.returncode == -signal.SIGTERM
            assert not list(tmp_path.glob("glrf-*"))
        finally:
            process.kill()


@pytest.mark.parametrize("n_workers", [1, 2])
def test_workers_of_jobs_end_while_the_server_does(
    model_dir: Path, tmp_path: Path, n_workers: int
) -> None:
    settings = {
        "GLRF_MODEL_DIR": str(model_dir),
        "GLRF_JOBS_DIR": str(tmp_path),
        "GLRF_JOBS_WORKERS": "1",
        "GLRF_WORKERS": str(n_workers),
    }
    body = wav(voice(16_000 * 3))
    with subprocess.Popen(
        SERVE, env=environment(**settings), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            port = port_of(process)
            assert any("scoring jobs" in line for line in process.stderr)
            with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as upload:
                upload.sendall(
                    b"POST /v1/files HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body)
                )
                assert upload.recv(65_536).startswith(b"HTTP/1.1 100 ")
                process.send_signal(signal.SIGTERM)
                assert any("finishing the chunks in hand" in line for line in process.stderr)
                upload.sendall(body)
                assert upload.recv(65_536).startswith(b"HTTP/1.1 200 OK")
            process.communicate(timeout=TIMEOUT_S)
            assert process.returncode in (0, -signal.SIGTERM)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GLRF_MODEL_DIR": "/nowhere"}, r"glrf: model_not_found: .*/nowhere.*GLRF_MODEL_DIR"),
        ({"GLRF_DEVICE": "cuda"}, r"glrf: device_unavailable: CUDA.*; install glrf\[gpu\]"),
        ({"GLRF_PORT": "http"}, r"glrf: bad_parameter: GLRF_PORT='http'"),
        ({"GLRF_PROT": "80"}, r"glrf: bad_parameter: GLRF_PROT is not a setting"),
    ],
)
def test_it_will_not_start_and_says_why_in_one_line(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    write_model(tmp_path / "m.onnx")
    done = subprocess.run(
        SERVE,
        env=environment(**{"GLRF_MODEL_DIR": str(tmp_path), **settings}),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 1
    assert re.match(said, done.stderr)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
def test_an_address_that_cannot_be_had_is_one_line(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SerError, match=f"{host}:{port} cannot be listened on") as refused:
            bound(host, port)
    assert refused.value.code == "address_unusable"
    assert "GLRF_PORT" in refused.value.remedy


async def test_no_query_string_is_logged(process: subprocess.Popen[str]) -> None:
    port = port_of(process)
    async with asyncio.timeout(TIMEOUT_S):
        async with connect(f"ws://127.0.0.1:{port}/v1/stream?roles=jane-doe") as client:
            await client.recv()
        with pytest.raises(InvalidStatus):
            await connect(f"ws://127.0.0.1:{port}/v1/stream?roles=jane-doe&nonsense=1")
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    log = process.stderr.read()
    assert "session" in log
    assert "jane-doe" not in log


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """256 for this process, until it asks for more."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.mark.usefixtures("few_descriptors")
def test_the_limit_of_descriptors_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    start.allow_descriptors(Settings())
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert allowed == 65_536 or allowed == most > 1_000
    assert not caplog.text


@pytest.mark.usefixtures("few_descriptors")
def test_a_limit_of_descriptors_that_is_too_low_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", refused)
        start.allow_descriptors(Settings(max_sessions=1_000))
    assert "may open 256 descriptors, and sessions and files may take 1464" in caplog.text
