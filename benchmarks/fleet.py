"""Many live streams from one thread, as cheap for the sender as can be.

A client library would cost more than the server it measures. So frames are masked once and sent by
all streams, replies are cut out of the bytes and kept as they are, and one `epoll` loop keeps
time: each stream's chunk goes out when its last sample has been spoken, whatever the server does.
"""

import base64
import os
import select
import socket
import struct
import time
from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np

from ser_core.errors import SerError

CHUNK_S = 0.1
_TEXT, _PING, _PONG = 0x1, 0x9, 0xA
_MASK = b"\x5a\xc3\x99\x17"
_READ_BYTES = 1 << 16
_FINISH_S = 30.0


class Refused(SerError):
    """The server did not take a stream, or ended one."""


def masked(opcode: int, payload: bytes) -> bytes:
    """One final client frame (RFC 6455, section 5.2)."""
    n = len(payload)
    if n < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | n)
    elif n < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, n)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, n)
    key = np.frombuffer((_MASK * (n // 4 + 1))[:n], np.uint8)
    return head + _MASK + (np.frombuffer(payload, np.uint8) ^ key).tobytes()


def audio_frames(pcm: bytes, chunk_bytes: int) -> list[bytes]:
    """Whole chunks of the audio as masked binary frames."""
    n_chunks = len(pcm) // chunk_bytes
    return [masked(0x2, pcm[i * chunk_bytes : (i + 1) * chunk_bytes]) for i in range(n_chunks)]


@dataclass
class LiveStream:
    """One connection. `offset` is its place in the audio; `answers` are its replies' payloads.

    `due_s[k]` is when the chunk k was due, and `received_s` when each answer came, both by
    `time.monotonic`.
    """

    offset: int
    connection: socket.socket
    is_open: bool = False
    is_over: bool = False
    n_sent: int = 0
    due_s: array = field(default_factory=lambda: array("d"))
    answers: list[bytes] = field(default_factory=list)
    received_s: array = field(default_factory=lambda: array("d"))
    unread: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)


class Fleet:
    """Streams of the same audio, each from a place of its own, looped without an end.

    The address is the server's, `http://HOST:PORT`; `query` the stream's parameters. A frame holds
    `chunk_s` of audio, sent at `speed` times real time. `lateness_s` collects how late the sender
    itself was: where that grows, the figures are of the sender.
    """

    def __init__(
        self,
        url: str,
        query: str,
        frames: Sequence[bytes],
        offsets: Sequence[int],
        *,
        speed: float = 1.0,
        chunk_s: float = CHUNK_S,
    ) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._query = query
        self._period_s = chunk_s / speed
        self._frames = frames
        self._offsets = offsets
        self._epoll = select.epoll()
        self._by_fd: dict[int, LiveStream] = {}
        self._due: deque[tuple[float, LiveStream]] = deque()
        self.streams: list[LiveStream] = []
        self.lateness_s = array("d")
        self.n_blocked = 0

    def close(self) -> None:
        """Ends all connections without a word."""
        self.drop(len(self.streams))
        self._epoll.close()

    def drop(self, n: int) -> None:
        """Ends the newest n streams without a word."""
        for stream in self.streams[len(self.streams) - n :]:
            self._forget(stream)
        del self.streams[len(self.streams) - n :]
        self._due = deque(entry for entry in self._due if not entry[1].is_over)

    def open(self, n: int, *, timeout_s: float = 60.0) -> None:
        """Adds n streams while the others go on. Raises `Refused`."""
        for _ in range(n):
            stream = self._connect()
            deadline_s = time.monotonic() + timeout_s
            while not stream.is_open:
                if time.monotonic() > deadline_s:
                    raise Refused("the server does not answer", remedy="ask for fewer streams")
                self._turn(deadline_s)
            self._start(stream)

    def play(self, duration_s: float) -> None:
        """Sends and receives for so long. Raises `Refused` when the server ends a stream."""
        end_s = time.monotonic() + duration_s
        while time.monotonic() < end_s:
            self._turn(end_s)

    def finish(self) -> None:
        """Says `close` on all streams and waits for their last words, not for ever."""
        self._due.clear()
        for stream in self.streams:
            self._send(stream, masked(_TEXT, b'{"type":"close"}'))
        end_s = time.monotonic() + _FINISH_S
        while time.monotonic() < end_s and not all(stream.is_over for stream in self.streams):
            self._turn(end_s, is_ending=True)

    def _connect(self) -> LiveStream:
        offset = self._offsets[len(self.streams) % len(self._offsets)]
        try:
            connection = socket.create_connection(self._address, timeout=10)
        except OSError as error:
            raise Refused(f"no connection: {error}", remedy="see the server's log") from error
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET /v1/stream?{self._query} HTTP/1.1\r\nHost: {self._address[0]}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        connection.setblocking(False)
        stream = LiveStream(offset, connection)
        self.streams.append(stream)
        self._by_fd[connection.fileno()] = stream
        self._epoll.register(connection.fileno(), select.EPOLLIN)
        return stream

    def _start(self, stream: LiveStream) -> None:
        """Its chunks end at moments that no other stream shares."""
        # The golden ratio spreads any number of streams evenly.
        share = len(self.streams) * 0.6180339887 % 1
        now_s = time.monotonic()
        grid_s = (now_s // self._period_s + share) * self._period_s
        if grid_s < now_s:
            grid_s += self._period_s
        entry = (grid_s, stream)
        # The queue is in order of time, and each stream comes once in a chunk's time.
        index = len(self._due)
        while index and self._due[index - 1][0] > grid_s:
            index -= 1
        self._due.insert(index, entry)

    def _turn(self, until_s: float, *, is_ending: bool = False) -> None:
        """Sends what is due, then reads what came, sleeping until one or the other."""
        now_s = time.monotonic()
        while self._due and self._due[0][0] <= now_s:
            due_s, stream = self._due.popleft()
            self._due.append((due_s + self._period_s, stream))
            self.lateness_s.append(now_s - due_s)
            stream.due_s.append(due_s)
            self._send(stream, self._frames[(stream.offset + stream.n_sent) % len(self._frames)])
            stream.n_sent += 1
        next_s = min(self._due[0][0], until_s) if self._due else until_s
        timeout_s = max(0.0, next_s - time.monotonic())
        for fd, mask in self._epoll.poll(timeout_s):
            stream = self._by_fd.get(fd)
            if stream is None:
                continue
            if mask & select.EPOLLOUT:
                self._flush(stream)
            if mask & ~select.EPOLLOUT:
                self._receive(stream, is_ending=is_ending)

    def _send(self, stream: LiveStream, frame: bytes) -> None:
        if stream.unsent:
            stream.unsent += frame
            return
        n = self._written(stream, frame)
        if n < len(frame):
            self.n_blocked += 1
            stream.unsent += frame[n:]
            self._epoll.modify(stream.connection.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, stream: LiveStream) -> None:
        n = self._written(stream, stream.unsent)
        del stream.unsent[:n]
        if not stream.unsent:
            self._epoll.modify(stream.connection.fileno(), select.EPOLLIN)

    def _written(self, stream: LiveStream, data: bytes | bytearray) -> int:
        try:
            return stream.connection.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Refused(f"a stream broke: {error}", remedy="see the server's log") from error

    def _receive(self, stream: LiveStream, *, is_ending: bool) -> None:
        try:
            data = stream.connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        now_s = time.monotonic()
        stream.unread += data
        if not stream.is_open:
            self._shake_hands(stream)
        if stream.is_open:
            self._cut(stream, now_s)
        if not data:
            self._forget(stream)
            if not is_ending:
                last = bytes(stream.answers[-1][:300]) if stream.answers else b"nothing"
                raise Refused(f"the server ended a stream and said {last!r}", remedy="see its log")

    def _shake_hands(self, stream: LiveStream) -> None:
        head, found, rest = bytes(stream.unread).partition(b"\r\n\r\n")
        if not found:
            return
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        if " 101 " not in status + " ":
            raise Refused(f"the server said {status}", remedy="ask for fewer streams")
        stream.unread = bytearray(rest)
        stream.is_open = True

    def _cut(self, stream: LiveStream, now_s: float) -> None:
        """Takes whole frames (RFC 6455, section 5.2; a server's are not masked)."""
        data, at = stream.unread, 0
        while len(data) >= at + 2:
            opcode, n = data[at] & 0x0F, data[at + 1]
            begin = at + 2
            if n == 126:
                if len(data) < at + 4:
                    break
                n, begin = int.from_bytes(data[at + 2 : at + 4]), at + 4
            elif n == 127:
                if len(data) < at + 10:
                    break
                n, begin = int.from_bytes(data[at + 2 : at + 10]), at + 10
            if len(data) < begin + n:
                break
            payload = bytes(data[begin : begin + n])
            at = begin + n
            if opcode == _TEXT:
                stream.answers.append(payload)
                stream.received_s.append(now_s)
            elif opcode == _PING:
                self._send(stream, masked(_PONG, payload))
        del data[:at]

    def _forget(self, stream: LiveStream) -> None:
        if stream.is_over:
            return
        stream.is_over = True
        self._epoll.unregister(stream.connection.fileno())
        del self._by_fd[stream.connection.fileno()]
        stream.connection.close()
