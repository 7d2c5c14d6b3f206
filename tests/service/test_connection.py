"""Audio that goes to the session in the connection means what it means by the parser's way."""

import json
import random
import socket

import pytest
from websockets.frames import Frame, Opcode

from service.connection import StreamConnection, frame_bytes, whole_binary
from tests.service.running import TIMEOUT_S, RunningServer, pcm
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
)
def test_all_else_is_for_the_parser(data: bytes) -> None:
    assert whole_binary(data) is None


def _told(server: RunningServer, writes: list[bytes]) -> list[dict[str, object]]:
    """What a stream says to these writes, its own ids and clocks left out."""
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        shake_hands(client, "/v1/stream?endpointing=manual")
        for data in writes:
            client.sendall(data)
        client.sendall(Frame(Opcode.TEXT, b'{"type": "close"}').serialize(mask=True))
        received = bytearray()
        while data := client.recv(65_536):
            received += data
    messages: list[dict[str, object]] = []
    while received[0] == 0x81:
        n, begin = received[1], 2
        if n == 126:
            n, begin = int.from_bytes(received[2:4]), 4
        messages.append(json.loads(received[begin : begin + n]))
        del received[: begin + n]
    assert int.from_bytes(received[2:4]) == 1000
    kept = [m for m in messages if m["type"] not in {"session.created", "checkpoint"}]
    return [{k: v for k, v in m.items() if k not in {"seq", "session_id", "lag_ms"}} for m in kept]


def test_frames_in_any_pieces_are_the_same_stream(server: RunningServer) -> None:
    audio = pcm(voice(16_000 * 4))
    payloads = [audio[i : i + 3_200] for i in range(0, len(audio), 3_200)]
    frames = [_binary(payload) for payload in payloads]
    expected = _told(server, frames)
    assert len([m for m in expected if m["type"] == "segment"]) > 5

    rng = random.Random(5)
    whole = b"".join(frames)
    cuts = sorted(rng.sample(range(1, len(whole)), 60))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    # A read that ends behind a frame's header, one that looks like a frame inside of another's
    # payload, a fragmented message, a length told longer than it need be: none is mistaken.
    headers = [piece for frame in frames for piece in (frame[:8], frame[8:])]
    inner = [_binary(frames[0]) for _ in range(2)]
    nested = [piece for frame in inner for piece in (frame[:8], frame[8:])]
    fragmented = [
        Frame(opcode, part, fin=opcode is Opcode.CONT).serialize(mask=True)
        for payload in payloads
        for opcode, part in ((Opcode.BINARY, payload[:100]), (Opcode.CONT, payload[100:]))
    ]
    assert _told(server, pieces) == expected
    assert _told(server, headers) == expected
    assert _told(server, fragmented) == expected
    assert _told(server, nested) == _told(server, [frame[:3] + frame[3:] for frame in inner])


def test_a_length_in_more_bytes_than_it_takes_does_not_confuse(server: RunningServer) -> None:
    audio = pcm(voice(16_000 * 3))
    payloads = [audio[i : i + 3_200] for i in range(0, len(audio), 3_200)]
    frames = [_binary(payload) for payload in payloads]
    expected = _told(server, frames)
    wide = b"\x82\xff" + (3_200).to_bytes(8) + bytes(4)
    mixed = [
        piece
        for index, (payload, frame) in enumerate(zip(payloads, frames, strict=True))
        for piece in ([wide, payload] if index % 3 == 0 else [frame])
    ]
    assert _told(server, mixed) == expected


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
