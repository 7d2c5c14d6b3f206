"""Audio that goes to the session in the connection means what it means by the parser's way."""

import contextlib
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
import websockets.sync.client
from websockets.frames import Frame, Opcode

from ser_core.session import StreamSession
from service import connection, wire
from service.connection import StreamConnection, frame_bytes, whole_binary
from service.settings import Settings
from tests.service.running import TIMEOUT_S, RunningServer, pcm, wav
from tests.service.test_stream_bad_input import shake_hands
from tests.synthetic import voice


def _binary(payload: bytes) -> bytes:
    return Frame(Opcode.BINARY, payload).serialize(mask=True)


@pytest.mark.parametrize("n", [0, 1, 125, 126, 127, 3_200, 65_535])
def test_a_whole_message_is_seen_and_unmasked(n: int) -> None:
    payload = bytes(i % 251 for i in range(n))
    data = _binary(payload)
    assert whole_binary(data) == payload
    assert frame_bytes(Frame(Opcode.BINARY, payload)) == len(data)
    assert whole_binary(data + b"\x82") is None
    assert whole_binary(data[:-1]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x82",
        Frame(Opcode.BINARY, b"abc").serialize(mask=False),
        Frame(Opcode.TEXT, b"abc").serialize(mask=True),
        Frame(Opcode.BINARY, b"abc", fin=False).serialize(mask=True),
        Frame(Opcode.CONT, b"abc").serialize(mask=True),
        b"\xc2" + _binary(b"abc")[1:],  # a reserved bit: compressed
        Frame(Opcode.PING, b"abc").serialize(mask=True),
        _binary(bytes(65_536)),
    ],
    ids=[
        "nothing", "half a header", "unmasked", "text", "not the last", "continued", "compressed",
        "ping", "too long",
    ],
)  # fmt: skip
def test_all_else_is_for_the_parser(data: bytes) -> None:
    assert whole_binary(data) is None


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    """One segment at a time: the last digit of a score depends on the batch."""
    return settings.model_copy(update={"max_batch": 1})


def _messages(
    server: RunningServer, writes: list[bytes], pause_s: float = 0.0
) -> list[dict[str, object]]:
    """What a stream says to these writes, its own ids and clocks left out."""
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shake_hands(client, "/v1/stream?endpointing=manual")
        for data in writes:
            client.sendall(data)
            time.sleep(pause_s)
        client.sendall(Frame(Opcode.TEXT, b'{"type": "close"}').serialize(mask=True))
        messages: list[dict[str, object]] = []
        with client.makefile("rb") as reader:
            while (opcode := reader.read(1)) == b"\x81":
                n = reader.read(1)[0]
                n = int.from_bytes(reader.read(2)) if n == 126 else n
                messages.append(json.loads(reader.read(n)))
            assert opcode == b"\x88"
            assert int.from_bytes(reader.read(3)[1:]) == 1000
    kept = [m for m in messages if m["type"] not in {"session.created", "checkpoint"}]
    return [{k: v for k, v in m.items() if k not in {"seq", "session_id", "lag_ms"}} for m in kept]


def test_frames_in_any_pieces_are_the_same_stream(server: RunningServer) -> None:
    audio = pcm(voice(16_000 * 4))
    payloads = [audio[i : i + 3_200] for i in range(0, len(audio), 3_200)]
    frames = [_binary(payload) for payload in payloads]
    expected = _messages(server, frames)
    assert len([m for m in expected if m["type"] == "segment"]) > 5

    rng = random.Random(5)
    whole = b"".join(frames)
    cuts = sorted(rng.sample(range(1, len(whole)), 60))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    # Neither a read that ends behind a frame's header nor a fragmented message is mistaken.
    headers = [piece for frame in frames for piece in (frame[:8], frame[8:])]
    fragmented = [
        Frame(opcode, part, fin=opcode is Opcode.CONT).serialize(mask=True)
        for payload in payloads
        for opcode, part in ((Opcode.BINARY, payload[:100]), (Opcode.CONT, payload[100:]))
    ]
    assert _messages(server, pieces) == expected
    assert _messages(server, headers) == expected
    assert _messages(server, fragmented) == expected


def test_a_payload_that_looks_like_a_frame_is_none(server: RunningServer) -> None:
    inner = _binary(pcm(voice(1_600)))
    header = b"\x82\xff" + len(inner).to_bytes(8) + bytes(4)  # masked by zeros: as it is
    # Paused, so that they are read one by one.
    messages = _messages(server, [header, inner] * 30, pause_s=0.01)
    assert messages == _messages(server, [header + inner] * 30)
    assert messages != _messages(server, [inner] * 30)


def test_a_length_in_more_bytes_than_it_takes_does_not_confuse(server: RunningServer) -> None:
    audio = pcm(voice(16_000 * 3))
    payloads = [audio[i : i + 3_200] for i in range(0, len(audio), 3_200)]
    frames = [_binary(payload) for payload in payloads]
    expected = _messages(server, frames)
    wide = b"\x82\xff" + (3_200).to_bytes(8) + bytes(4)
    mixed = [
        piece
        for index, (payload, frame) in enumerate(zip(payloads, frames, strict=True))
        for piece in ([wide, payload] if index % 3 == 0 else [frame])
    ]
    assert _messages(server, mixed) == expected


def test_a_close_right_behind_the_audio_is_a_client_that_leaves(
    server: RunningServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one read: the segment of the silence is due when the close has been answered already."""
    written: list[bool | Exception] = []
    write = StreamConnection.write

    def recorded(connection: StreamConnection, text: bytes) -> bool:
        try:
            is_written = write(connection, text)
        except Exception as error:
            written.append(error)
            raise
        written.append(is_written)
        return is_written

    monkeypatch.setattr(StreamConnection, "write", recorded)
    left = server.metric("glrf_sessions_closed_total", reason="client_left")
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as client:
        shake_hands(client, "/v1/stream?endpointing=manual")
        client.sendall(_binary(bytes(3_200)))
        server.wait_until(lambda: server.metric("glrf_audio_seconds_total", source="stream") > 0)
        silence = b"".join(_binary(bytes(12_800)) for _ in range(6))
        client.sendall(silence + Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
        while client.recv(65_536):
            pass
    server.wait_until(
        lambda: server.metric("glrf_sessions_closed_total", reason="client_left") == left + 1
    )
    assert written[0] is True  # session.created
    assert written[-1] is False
    assert all(isinstance(is_written, bool) for is_written in written)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/stream?" + "a" * 9_000, "", 414),
        ("/v1/stream", "Cookie: " + "a" * 9_000 + "\r\n", 431),
        ("/v1/stream", "".join(f"X-{n}: 1\r\n" for n in range(130)), 431),
    ],
)
def test_a_handshake_that_is_too_large_is_answered(
    server: RunningServer, path: str, headers: str, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as client:
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"{headers}\r\n".encode()
        )
        answer = b""
        while data := client.recv(65_536):  # to its end: the connection is closed
            answer += data
    assert int(answer.split()[1]) == status


def test_text_that_is_not_utf8_is_told_as_what_is_no_json(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as client:
        shake_hands(client, "/v1/stream")
        client.sendall(Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=True))
        told = b""
        while (4400).to_bytes(2) not in told and (data := client.recv(65_536)):
            told += data
        client.sendall(Frame(Opcode.CLOSE, (4400).to_bytes(2)).serialize(mask=True))
        while data := client.recv(65_536):
            told += data
    assert b'"code":"bad_message"' in told
    assert (4400).to_bytes(2) in told
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.fixture
def hasty(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    """A server that waits 0.3 s for the head of a request."""
    monkeypatch.setattr(connection, "HEAD_S", 0.3)
    with RunningServer(settings) as running:
        yield running


@pytest.mark.parametrize(
    ("before", "head"),
    [
        (b"", b""),
        (b"", b"GET /readyz HTTP/1.1\r\nHos"),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /readyz HTTP/1.1\r\nHos"),
    ],
)
def test_a_head_that_does_not_come_is_not_waited_for(
    hasty: RunningServer, before: bytes, head: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), TIMEOUT_S) as client:
        if before:
            client.sendall(before)
            assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
        client.sendall(head)
        assert client.recv(65_536).startswith(b"HTTP/1.1 408 ")
        assert client.recv(65_536) == b""


def test_a_body_that_was_answered_is_not_taken_for_ever(hasty: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", hasty.port), TIMEOUT_S) as client:
        client.sendall(
            b"POST /v1/files?no=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
        )
        told = client.recv(65_536)
        client.settimeout(0.05)
        deadline_s = time.monotonic() + TIMEOUT_S
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < deadline_s:
                client.sendall(b"x")
                with contextlib.suppress(TimeoutError):
                    data = client.recv(65_536)
                    told += data
                    if not data:
                        break
        assert time.monotonic() < deadline_s
        assert told.startswith(b"HTTP/1.1 400 ")
        assert told.count(b"HTTP/1.1") == 1


def test_bodies_and_streams_may_take_longer_than_heads(hasty: RunningServer) -> None:
    body = wav(voice(32_000))
    with (
        contextlib.closing(HTTPConnection("127.0.0.1", hasty.port, TIMEOUT_S)) as client,
        websockets.sync.client.connect(hasty.stream_url) as stream,
    ):
        for _ in range(2):  # over one connection
            client.putrequest("POST", "/v1/files")
            client.putheader("Content-Length", str(len(body)))
            client.endheaders(body[:1000])
            time.sleep(0.6)
            client.send(body[1000:])
            answer = client.getresponse()
            assert (answer.status, answer.will_close) == (200, False)
            answer.read()
            time.sleep(0.6)
        assert json.loads(stream.recv(timeout=TIMEOUT_S))["type"] == "session.created"
        assert json.loads(stream.recv(timeout=TIMEOUT_S))["type"] == "checkpoint"
        stream.send('{"type": "close"}')
        assert json.loads(stream.recv(timeout=TIMEOUT_S))["type"] == "session.closed"


@contextlib.contextmanager
def _deaf(settings: Settings, **changed: object) -> Iterator[tuple[RunningServer, socket.socket]]:
    """A server with small buffers, and a client that has pinged it until they were full."""
    with (
        RunningServer(settings.model_copy(update=changed)) as server,
        socket.socket() as client,
    ):
        server.wait_until(lambda: server.http.get("/readyz").status_code == 200)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(TIMEOUT_S)
        client.connect(("127.0.0.1", server.port))
        shake_hands(client, "/v1/stream")
        client.sendall(_ping(b"x" * 125) * 4_000)  # 0.5 MB, and the kernel's buffers hold some 0.1
        client.sendall(_ping(b"the last one") + _binary(bytes(3_200)))
        server.wait_until(lambda: server.metric("glrf_audio_seconds_total", source="stream") > 0)
        yield server, client


def _ping(payload: bytes) -> bytes:
    return Frame(Opcode.PING, payload).serialize(mask=True)


def test_a_client_that_does_not_read_gets_no_pongs_beyond_its_buffer(settings: Settings) -> None:
    with _deaf(settings) as (server, client):
        (connection,) = server.streams
        assert not connection.writable.is_set()
        assert connection.transport.get_write_buffer_size() < 150_000
        told = b""
        while b"the last one" not in told:  # the answer to the last comes when it reads again
            told += client.recv(1 << 20)
        assert told.count(b"x" * 125) < 3_000


@pytest.mark.parametrize("end", ["idle", "keepalive"])
def test_the_end_does_not_wait_for_a_client_that_does_not_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(connection, "LINGER_S", 0.1)
    idle_s = 0.5 if end == "idle" else 60.0
    with _deaf(settings, idle_timeout_s=idle_s, send_timeout_s=0.1) as (server, _):
        (stream,) = server.streams
        assert not stream.writable.is_set()
        if end == "keepalive":
            stream.loop.call_soon_threadsafe(stream.keepalive_timeout)
        server.wait_until(lambda: not server.streams)
        server.wait_until(lambda: server.metric("glrf_sessions") == 0)


def test_small_frames_are_read_as_fast_as_they_may_come_and_none_is_lost(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = pcm(voice(16_000 * 2))
    expected = _messages(
        server, [_binary(audio[i : i + 3_200]) for i in range(0, len(audio), 3_200)]
    )
    monkeypatch.setattr(connection, "FRAMES_AT_ONCE", 100)
    monkeypatch.setattr(connection, "FRAMES_HZ", 1_000)
    began_s = time.monotonic()
    frames = [_binary(audio[i : i + 64]) for i in range(0, len(audio), 64)]
    assert len(frames) == 1_000
    assert _messages(server, [b"".join(frames)]) == expected
    assert time.monotonic() - began_s >= 0.88


@pytest.mark.parametrize("kind", ["audio", "text"])
def test_a_flood_of_small_frames_leaves_turns_to_others(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """At most so many frames are taken in one turn of the event loop."""
    n_turns, turns = 0, list[int]()
    receive, parse = StreamSession.receive_audio, wire.parse_command

    def received(session: StreamSession, data: bytes) -> None:
        turns.append(n_turns)
        receive(session, data)

    def parsed(text: str) -> wire.Command:
        turns.append(n_turns)
        return parse(text)

    monkeypatch.setattr(StreamSession, "receive_audio", received)
    monkeypatch.setattr(wire, "parse_command", parsed)
    text = Frame(Opcode.TEXT, b'{"type":"keepalive"}').serialize(mask=True)
    frame = _binary(pcm(voice(1))) if kind == "audio" else text
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as client:
        shake_hands(client, "/v1/stream?endpointing=manual")
        client.sendall(_binary(bytes(3_200)))
        server.wait_until(lambda: len(server.streams) == 1)
        (stream,) = server.streams

        def turn() -> None:
            nonlocal n_turns
            n_turns += 1
            if len(turns) < 3_000:
                stream.loop.call_soon(turn)

        stream.loop.call_soon_threadsafe(turn)
        client.sendall(frame * 3_000)
        server.wait_until(lambda: len(turns) >= 3_000)
    assert max(Counter(turns).values()) <= 2_048 // len(frame) + 64


def test_who_is_made_to_wait_may_answer_a_ping_later(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FRAMES_AT_ONCE", 1)
    monkeypatch.setattr(connection, "FRAMES_HZ", 50)
    with (
        RunningServer(settings) as server,
        socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as client,
    ):
        server.wait_until(lambda: server.http.get("/readyz").status_code == 200)
        shake_hands(client, "/v1/stream")
        (stream,) = server.streams
        client.sendall(_binary(bytes(2)) * 1_000)
        server.wait_until(lambda: server.metric("glrf_audio_seconds_total", source="stream") > 0)
        is_left: list[bool] = []
        for _ in range(2):  # it moved meanwhile, then it did not
            stream.loop.call_soon_threadsafe(stream.keepalive_timeout)
            stream.loop.call_soon_threadsafe(lambda: is_left.append(stream.close_sent))
        server.wait_until(lambda: len(is_left) == 2)
        assert is_left == [False, True]
