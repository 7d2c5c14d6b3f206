"""uvicorn's connections, with what an application cannot do through ASGI.

A WebSocket whose send buffer is full can be ended, and a client that still sends can read why it
was refused. A connection on which no request comes is ended, too.
"""

import asyncio
import logging
import socket
from asyncio import BaseTransport
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import State

try:
    from websockets.speedups import apply_mask
except ImportError:  # a build without its C extension
    from websockets.utils import apply_mask

#: In the place of uvicorn's own, for its line for each handshake holds the query string. Not one of
#: its children: uvicorn sets their levels anew at start.
_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)

#: Kernel buffer of what a client has not read: some minutes of results, and no more.
SEND_BUFFER_BYTES = 64 * 1024
#: Time for the last words to be read before the connection is cut.
LINGER_S = 2.0

#: Frames of any kind that a client may send at once, and then a second: more wait, and by TCP the
#: client. Frames of 10 ms that an outage held back come ten times as fast as they were spoken.
FRAMES_AT_ONCE, FRAMES_HZ = 5_000, 1_000
#: What the parser is given at a time: some hundred frames, where they are as small as can be.
_PIECE_BYTES = 2048
#: Frames after which the event loop has a turn with others: that are parsed, and that are taken.
_TURN, _TURN_TAKEN = 64, 32

#: Time for the head of a request to arrive, and for what comes of a body after its answer. Bodies
#: that are waited for have limits of their own.
HEAD_S = 20.0

_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class RequestConnection(H11Protocol):
    """One HTTP connection. Who does not bring a request's head in time is answered 408, and left.

    So is, without an answer, who has one and still sends its body. Between requests uvicorn's own,
    shorter time for a kept connection holds until bytes come.
    """

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
            self._await_head()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_S, self._leave)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _leave(self) -> None:
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE:
            self.transport.write(_TOO_SLOW)
        self.transport.close()


class StreamConnection(WebSocketsSansIOProtocol):
    """One WebSocket connection. Offers `glrf.drop` and `glrf.write` in the scope's extensions.

    The application may put two functions there: `glrf.too_large` gives the last message, and the
    reason of the close, for a frame that is refused unread; `glrf.hear` takes a binary message in
    the place of `receive`, and says whether it did. It is asked where no other message waits.
    """

    _is_lingering = False
    _pong = b""  # an answer that waits for room in the send buffer
    _n_unparsed = 0  # bytes that the parser was given of a frame that is not whole
    _unread = memoryview(b"")  # what came, and is not for the parser yet
    _reading: asyncio.TimerHandle | None = None  # when the parser is given more of it
    _is_moving = False
    _n_taken = 0
    _extensions: Mapping[str, Any] = MappingProxyType({})

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self._n_left, self._left_s = FRAMES_AT_ONCE, self.loop.time()
        self.logger = _log
        # For debugging, websockets would log all headers of a handshake, keys included.
        self.conn.logger, self.conn.debug = _log, False
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: dict[str, Any] = self.scope["extensions"]  # type: ignore[assignment]
            extensions |= {"glrf.drop": self.drop, "glrf.write": self.write}
            self._extensions = extensions

    # Audio comes as one small frame at a time. Where a read is just that, it goes to the
    # application as it is: parser, queue and task would cost more than what is done with it.

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        if self._unread:  # uvicorn reads on for a close
            self._unread = memoryview(bytes(self._unread) + data)
            self.transport.pause_reading()
            return
        if self._n_unparsed == 0 and not self.frames and self._can_be_heard and self._n_left > 0:
            audio = whole_binary(data)
            if audio is not None and self._extensions["glrf.hear"](audio):
                self._n_left -= 1
                return
        self._unread = memoryview(data)
        self._read_on()

    # One client must not hold up the others by frames that are small and many: the parser gets
    # what came in pieces, while the application takes them, and no faster than `FRAMES_HZ`.

    def _read_on(self) -> None:
        """Gives the parser what it may have now; what is left has its time, or its `receive`."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        n_turn = 0
        while self._unread:
            if self.transport.is_closing() or self._is_lingering:
                self._unread = memoryview(b"")
                return
            if not self.queue.empty() and not self.close_sent:
                self.transport.pause_reading()  # until `receive` comes for more
                return
            wait_s = 0.0 if n_turn >= _TURN else self._wait_s()
            if n_turn >= _TURN or wait_s:
                self.transport.pause_reading()
                self._read_later(wait_s)
                return
            piece, self._unread = self._unread[:_PIECE_BYTES], self._unread[_PIECE_BYTES:]
            n_before = self._n_left
            self._parse(bytes(piece))
            n_turn += n_before - self._n_left
            self._is_moving = True
        if not self.read_paused:
            self.transport.resume_reading()

    def _wait_s(self) -> float:
        """Until the client may send more frames."""
        if self._n_left > 0:
            return 0.0
        now_s = self.loop.time()
        n_more = int((now_s - self._left_s) * FRAMES_HZ)
        self._n_left, self._left_s = min(FRAMES_AT_ONCE, self._n_left + n_more), now_s
        return 0.0 if self._n_left > 0 else (_TURN - self._n_left) / FRAMES_HZ

    def _read_later(self, wait_s: float = 0.0) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(wait_s, self._read_on)

    def _parse(self, data: bytes) -> None:
        self._n_unparsed += len(data)
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_complete:
            self._refuse_handshake()

    async def receive(self) -> Any:
        self._n_taken += 1
        if self._n_taken % _TURN_TAKEN == 0:
            await asyncio.sleep(0)  # before there is a message, which no audio may overtake
        message = await super().receive()
        if self._unread:
            self.transport.pause_reading()
            if self.queue.empty():
                self._read_later()
        return message

    def _refuse_handshake(self) -> None:
        """Answers a request that websockets does not read: a line of 8 KiB, 129 headers.

        uvicorn takes no notice of it, and its own end would break on such a connection.
        """
        self.handshake_complete = self.close_sent = True
        answer = b"".join(self.conn.data_to_send())  # 414 and 431 come from websockets
        self.transport.write(answer or _BAD_REQUEST)
        self.transport.close()

    def handle_events(self) -> None:
        # Zero again where a frame has just ended; of lengths that are not as short as they can be
        # (RFC 6455, section 5.2, forbids them) it never is, and all goes through the parser.
        self._n_left -= len(self.conn.events)
        for event in self.conn.events:
            self._n_unparsed = (
                self._n_unparsed - frame_bytes(event) if isinstance(event, Frame) else 0
            )
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "bytes" and self._can_be_heard:
            audio = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
            if self._extensions["glrf.hear"](audio):
                self.frames = []
                return
        if self.curr_msg_data_type == "text":
            self.frames = [_as_utf8(b"".join(self.frames))]
        super().send_receive_event_to_app()

    @property
    def _can_be_heard(self) -> bool:
        return "glrf.hear" in self._extensions and not self.close_sent and self.queue.empty()

    def write(self, text: bytes) -> bool:
        """Sends a text message, unless the connection is not open or its buffer full."""
        # It is open from the handshake to the first close frame, whichever side sends it.
        is_open = self.handshake_complete and self.conn.state is State.OPEN
        if not is_open or self.transport.is_closing() or not self.writable.is_set():
            return False
        self.conn.send_text(text)
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def drop(self, text: str, code: int) -> None:
        """Queues one last message and the close behind what is unread, and soon cuts the line."""
        if self.disconnected or self.close_sent:
            return
        self.conn.send_text(text.encode())
        self.conn.send_close(code)
        self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        self._abort_in(LINGER_S)

    # A client that does not read fills the send buffer. It gets no more pongs into it, and no end
    # waits until it is empty, which it never lets happen.

    def handle_ping(self) -> None:
        pongs = self.conn.data_to_send()
        if self.writable.is_set() or self.conn.state is not State.OPEN:  # a close is with them
            self.transport.write(b"".join(pongs))
        elif pongs:
            self._pong = pongs[-1]  # enough for all before it (RFC 6455, section 5.5.3)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._pong and self.conn.state is State.OPEN:
            self.transport.write(self._pong)
        self._pong = b""

    def keepalive_timeout(self) -> None:
        if self._unread and self._is_moving and self.ping_timeout is not None:
            # The pong may be behind what has to wait.
            self._is_moving = False
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
            return
        super().keepalive_timeout()
        self._abort_in(LINGER_S)

    async def run_asgi(self) -> None:
        await super().run_asgi()
        # With a timer for the client's own close `send` has seen to it.
        if self.close_timer is None and self.transport.get_write_buffer_size():
            self._abort_in(LINGER_S)

    def _abort_in(self, delay_s: float) -> None:
        self.loop.call_later(delay_s, self.transport.abort)

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body":
            # uvicorn would log an error for each handshake that ends in a refusal.
            self.handshake_complete = self.close_sent
        if message["type"] == "websocket.close":
            self._abort_in(self.close_timeout + LINGER_S)
            self._read_later()  # the client's own close may be behind what it sent

    def handle_parser_exception(self) -> None:
        # The close frame says what was wrong (1009: too large). Closing the socket now, with the
        # rest of the frame unread, would make TCP reset it before the client has read that.
        assert self.conn.close_sent is not None
        self._is_lingering = True
        self.close_sent = True
        close = {"code": self.conn.close_sent.code, "reason": self.conn.close_sent.reason}
        last_words = self.conn.data_to_send()
        tell = self.scope.get("extensions", {}).get("glrf.too_large")
        if close["code"] == CloseCode.MESSAGE_TOO_BIG and tell is not None:
            text, close["reason"] = tell()  # type: ignore[operator]
            frames = (
                Frame(Opcode.TEXT, text.encode()),
                Frame(Opcode.CLOSE, Close(close["code"], close["reason"]).serialize()),
            )
            last_words = [frame.serialize(mask=False) for frame in frames]
        self.queue.put_nowait({"type": "websocket.disconnect", **close})  # type: ignore[typeddict-item]
        self.transport.write(b"".join(last_words))
        self.transport.resume_reading()
        # With a timer set, uvicorn leaves the socket open when the application has ended.
        self.close_timer = self.loop.call_later(LINGER_S, self.transport.abort)


def whole_binary(data: bytes) -> bytes | None:
    """The payload, if data is one whole binary message of a client (RFC 6455, section 5.2).

    `None` for all else, and for messages of 64 KiB and more.
    """
    if len(data) < 6 or data[0] != 0x80 | Opcode.BINARY or not data[1] & 0x80:
        return None
    n, head = data[1] & 0x7F, 6
    if n == 127:
        return None
    if n == 126:
        n, head = int.from_bytes(data[2:4]), 8
    if len(data) != head + n:
        return None
    return apply_mask(data[head:], data[head - 4 : head])


def _as_utf8(text: bytes) -> bytes:
    """The text, or what is no JSON: the session says what is wrong, where uvicorn would not."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}".encode()
    return text


def frame_bytes(frame: Frame) -> int:
    """How long a client's frame is on the wire, its length told in as few bytes as can be."""
    n = len(frame.data)
    return 6 + n + (0 if n < 126 else 2 if n < 1 << 16 else 8)
