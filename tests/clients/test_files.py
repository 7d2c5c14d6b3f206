"""REST calls against a scripted server on loopback."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from glrf_client import (
    BadServerMessage,
    ClientError,
    Refused,
    Unreachable,
    analyze_file,
    cancel_job,
    job,
    job_result,
    models,
    wait_for_job,
)
from glrf_client.rest import request
from tests.service.webhooks.receiver import certificate

CONTRACT = Path(__file__).parents[2] / "clients" / "contract"


class Server(ThreadingHTTPServer):
    """Gives one answer to everything, and keeps the last request."""

    answer: tuple[int, bytes] = (200, b"{}")
    request_line = ""
    body = b""

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server_port}/v1/stream"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.request_line = self.requestline
        self.server.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, content = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("is_path", [True, False])
async def test_a_file_by_path_and_by_bytes(server: Server, tmp_path: Path, is_path: bool) -> None:
    audio = bytes(range(256)) * 600
    path = tmp_path / "speech.wav"
    path.write_bytes(audio)
    server.answer = (200, (CONTRACT / "rest.files.json").read_bytes())
    result = await analyze_file(
        server.url, path if is_path else audio, roles=["customer", "agent:off"]
    )
    assert result.channels[0].utterances[0].label == "angry"
    (turn,) = result.channels[0].turning_points
    assert (turn.from_label, turn.to_label, turn.lasted_ms) == ("neutral", "angry", 6400)
    assert result.call is not None
    assert result.call.overlap is None
    assert [part.channels[0].label for part in result.call.arc] == ["neutral", "angry"]
    assert result.run is not None
    assert result.run.config["smoothing"] == "viterbi"
    assert server.body == audio
    assert server.request_line.startswith("POST /v1/files?roles=customer%2Cagent%3Aoff ")


async def test_a_file_that_grows_while_it_is_sent_is_sent_as_it_was(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recording that is still being written, for example."""
    server.answer = (200, (CONTRACT / "rest.files.json").read_bytes())
    path = tmp_path / "call.wav"
    path.write_bytes(b"a" * 100_000)
    seen = path.stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: seen)
    with path.open("ab") as file:
        file.write(b"b" * 5000)
    await analyze_file(server.url, path)
    assert server.body == b"a" * 100_000


async def test_a_file_that_shrinks_while_it_is_sent(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(b"a" * 100_000)
    seen = path.stat()
    path.write_bytes(b"a" * 500)
    monkeypatch.setattr(Path, "stat", lambda *_, **__: seen)
    with pytest.raises(OSError, match="became shorter"):
        await analyze_file(server.url, path)


async def test_models(server: Server) -> None:
    server.answer = (200, (CONTRACT / "rest.models.json").read_bytes())
    assert [model.name for model in await models(server.url)] == ["glrf"]
    assert server.request_line.startswith("GET /v1/models ")


@pytest.mark.parametrize("call", [job, wait_for_job, job_result, cancel_job])
@pytest.mark.parametrize("job_id", ["", ".", "..", "../../livez", "a/result"])
async def test_the_id_of_a_job_leads_nowhere_else(
    server: Server, call: Callable[..., Coroutine[Any, Any, object]], job_id: str
) -> None:
    with pytest.raises(ClientError, match="is no job's id"):
        await call(server.url, job_id)
    assert server.request_line == ""


async def test_the_id_of_a_job_is_quoted(server: Server) -> None:
    server.answer = (404, b"")
    with pytest.raises(Refused, match="404"):
        await job(server.url, "a?b#c%2e d")
    assert server.request_line.startswith("GET /v1/jobs/a%3Fb%23c%252e%20d ")


async def test_a_refusal(server: Server) -> None:
    server.answer = (422, (CONTRACT / "rest.problem.json").read_bytes())
    with pytest.raises(Refused, match="422") as refused:
        await analyze_file(server.url, b"x")
    assert refused.value.code == "bad_parameter"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"models": 1}'])
async def test_an_answer_that_is_none(server: Server, body: bytes) -> None:
    server.answer = (200, body)
    with pytest.raises(BadServerMessage):
        await models(server.url)
    with pytest.raises(BadServerMessage):
        await analyze_file(server.url, b"x")


async def test_an_answer_that_takes_for_ever() -> None:
    """Its bytes come, each well within the time that all of them have."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)

    async def ask(call: Callable[..., Awaitable[object]], *arguments: object) -> None:
        async with (
            await asyncio.start_server(trickle, "127.0.0.1", 0) as server,
            asyncio.timeout(20),
        ):
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(Unreachable, match=r"within 0\.5 s"):
                await call(url, *arguments, timeout_s=0.5)

    await ask(models)
    await ask(analyze_file, b"x" * 200_000)


async def test_the_sending_may_take_longer_than_the_answer(server: Server) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x"
            await asyncio.sleep(0.4)

    headers = {"Content-Length": "4"}
    await request(
        "POST",
        f"http://127.0.0.1:{server.server_port}",
        timeout_s=1.3,
        headers=headers,
        content=slow(),
    )
    assert server.body == b"xxxx"


class TestCertificates:
    @pytest.fixture
    def pem(self, server: Server, tmp_path: Path) -> Path:
        pem = certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        return pem

    async def test_of_a_private_ca(
        self, server: Server, pem: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url = server.url.replace("ws:", "wss:")
        with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await models(url)
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        server.answer = 200, b'{"models": []}'
        assert await models(url) == []

    @pytest.mark.parametrize("content", [None, b"no PEM"])
    async def test_that_cannot_be_read(
        self, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
    ) -> None:
        named = tmp_path / "ca.pem"
        if content is not None:
            named.write_bytes(content)
        monkeypatch.setenv("SSL_CERT_FILE", str(named))
        with pytest.raises(Unreachable, match=r"ca\.pem cannot be read: .*SSL_CERT_FILE"):
            await models(server.url)


async def test_no_server() -> None:
    with pytest.raises(Unreachable):
        await models("ws://127.0.0.1:1")


async def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        await analyze_file("ws://127.0.0.1:1", "no-such-file.wav")
