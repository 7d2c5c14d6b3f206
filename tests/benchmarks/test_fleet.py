"""A stream that breaks is told of as what it is, wherever it breaks."""

import socket
import struct
import time

import pytest

from benchmarks.fleet import Fleet, Refused, audio_frames

HANDSHAKE = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    fleet = Fleet(f"http://127.0.0.1:{port}", "", audio_frames(bytes(3_200), 3_200), [0])
    with pytest.raises(Refused, match="no connection"):
        fleet.open(1)
    fleet.close()


def test_a_reset_while_a_frame_is_half_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        large = audio_frames(bytes(8 << 20), 8 << 20)  # more than the kernel keeps for anybody
        port = listener.getsockname()[1]
        fleet = Fleet(f"http://127.0.0.1:{port}", "", large, [0], chunk_s=0.05)
        stream = fleet._connect()  # pyright: ignore[reportPrivateUsage]
        server, _ = listener.accept()
        server.sendall(HANDSHAKE)
        fleet._start(stream)  # pyright: ignore[reportPrivateUsage]
        fleet.play(0.2)
        assert stream.unsent
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        time.sleep(0.05)
        with pytest.raises(Refused):
            fleet.play(1.0)
        fleet.close()
