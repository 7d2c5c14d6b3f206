"""REST calls against a scripted server on loopback."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from glrf_client import BadServerMessage, Refused, Unreachable, analyze_file, models

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
def test_a_file_by_path_and_by_bytes(server: Server, tmp_path: Path, is_path: bool) -> None:
    audio = bytes(range(256)) * 600
    path = tmp_path / "speech.wav"
    path.write_bytes(audio)
    server.answer = (200, (CONTRACT / "rest.files.json").read_bytes())
    result = asyncio.run(
        analyze_file(server.url, path if is_path else audio, roles=["customer", "agent:off"])
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


def test_models(server: Server) -> None:
    server.answer = (200, (CONTRACT / "rest.models.json").read_bytes())
    assert [model.name for model in asyncio.run(models(server.url))] == ["glrf"]
    assert server.request_line.startswith("GET /v1/models ")


def test_a_refusal(server: Server) -> None:
    server.answer = (422, (CONTRACT / "rest.problem.json").read_bytes())
    with pytest.raises(Refused, match="422") as refused:
        asyncio.run(analyze_file(server.url, b"x"))
    assert refused.value.code == "bad_parameter"


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"models": 1}'])
def test_an_answer_that_is_none(server: Server, body: bytes) -> None:
    server.answer = (200, body)
    with pytest.raises(BadServerMessage):
        asyncio.run(models(server.url))
    with pytest.raises(BadServerMessage):
        asyncio.run(analyze_file(server.url, b"x"))


def test_no_server() -> None:
    with pytest.raises(Unreachable):
        asyncio.run(models("ws://127.0.0.1:1"))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(analyze_file("ws://127.0.0.1:1", "no-such-file.wav"))
