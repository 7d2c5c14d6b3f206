"""A client that keeps its audio until a checkpoint covers it, and goes on over a new connection.

The least that the contract asks of a client; whatever was told twice it drops, and insists that
it was the same.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from ser_core.opus import RATE_HZ, packet_samples

_SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}
#: What belongs to one connection, and not to the stream.
_OF_CONNECTION = ("seq", "lag_ms")
#: The stream keeps this, unless it had to begin anew before its first checkpoint.
_OF_SESSION = "session_id"


class Broken(Exception):
    """The contract was broken: something told twice differs, or came out of turn."""


@dataclass
class Recording:
    """Audio of a stream, its parameters, and the samples at which a flush is sent."""

    data: bytes
    query: dict[str, Any] = field(default_factory=dict)
    flushes: tuple[int, ...] = ()

    @property
    def rate_hz(self) -> int:
        return int(self.query.get("sample_rate", 16_000))

    @property
    def frame_bytes(self) -> int:
        encoding = self.query.get("encoding", "pcm_s16le")
        return _SAMPLE_BYTES[encoding] * int(self.query.get("channels", 1))

    @property
    def duration_s(self) -> float:
        return len(self.data) / self.frame_bytes / self.rate_hz

    def frames(self, first: int, chunk_s: float) -> Iterator[tuple[int, bytes | str]]:
        """Frames from sample `first` on, each with the sample at which it begins."""
        n_chunk = max(1, int(chunk_s * self.rate_hz))
        end = len(self.data) // self.frame_bytes
        flushes = [flush for flush in sorted(self.flushes) if flush >= first]
        for stop in (*flushes, end):
            while first < stop:
                last = min(stop, first + n_chunk)
                yield first, self.data[first * self.frame_bytes : last * self.frame_bytes]
                first = last
            if stop != end or stop in flushes:
                yield stop, '{"type": "flush"}'
        yield end, '{"type": "close"}'


class OpusRecording(Recording):
    """Packets, each one frame; a flush stands before the first that starts at its sample."""

    def __init__(
        self, packets: list[bytes], query: dict[str, Any], flushes: tuple[int, ...] = ()
    ) -> None:
        super().__init__(b"".join(packets), {"encoding": "opus", **query}, flushes)
        self._packets = packets
        self._ends = list(accumulate(map(packet_samples, packets)))

    @property
    def rate_hz(self) -> int:
        return RATE_HZ

    @property
    def duration_s(self) -> float:
        return self._ends[-1] / RATE_HZ

    def frames(self, first: int, chunk_s: float) -> Iterator[tuple[int, bytes | str]]:
        """Packets that start at sample `first` or later."""
        before = 0
        for start, packet in zip((0, *self._ends), self._packets, strict=False):
            if start >= first:
                if any(before < flush <= start for flush in self.flushes):
                    yield start, '{"type": "flush"}'
                yield start, packet
            before = start
        yield self._ends[-1], '{"type": "close"}'


class ResumingClient:
    """One stream over as many connections as it takes; `run` returns when it was closed."""

    def __init__(
        self,
        url: Callable[[], str],
        recording: Recording,
        *,
        chunk_s: float = 0.1,
        speed: float = 0.0,
        retry_s: float = 0.05,
    ) -> None:
        """`url` is asked for each connection; `speed`: audio seconds a second, 0 for at once."""
        self._url = url
        self._recording = recording
        self._chunk_s = chunk_s
        self._speed = speed
        self._retry_s = retry_s
        self._first = 0
        self._token: str | None = None
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._lost_s: float | None = None
        self._is_done = False
        #: What a consumer gets: each event once, in order.
        self.events: list[dict[str, Any]] = []
        self.closed: dict[str, Any] | None = None
        self.n_connections = 0
        self.n_repeated = 0
        self.resumed_after_s: list[float] = []
        self.close_codes: list[int | None] = []

    async def run(self) -> None:
        self._began_s = time.monotonic()
        while not self._is_done:
            try:
                async with connect(
                    self._address(),
                    max_size=None,
                    open_timeout=5,
                    close_timeout=1,
                    ping_interval=None,
                    proxy=None,
                ) as connection:
                    await self._converse(connection)
                    self.close_codes.append(connection.close_code)
            except ConnectionClosed as closed:
                self.close_codes.append(closed.rcvd.code if closed.rcvd else None)
            except (OSError, TimeoutError, InvalidHandshake, InvalidMessage):
                pass  # gone, or not there yet
            if not self._is_done:
                self._lost_s = self._lost_s or time.monotonic()
                await asyncio.sleep(self._retry_s)

    def _address(self) -> str:
        query = dict(self._recording.query)
        if self._token is not None:
            query["resume"] = self._token
        return f"{self._url()}?{urlencode(query)}"

    async def _converse(self, connection: ClientConnection) -> None:
        created = json.loads(await asyncio.wait_for(connection.recv(), 5))
        if created["type"] == "error":
            raise Broken(created["message"])
        self.n_connections += 1
        sender = asyncio.create_task(self._send(connection))
        try:
            await self._listen(connection)
        finally:
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, connection: ClientConnection) -> None:
        for position, frame in self._recording.frames(self._first, self._chunk_s):
            if self._speed:
                due_s = self._began_s + position / self._recording.rate_hz / self._speed
                await asyncio.sleep(max(0, due_s - time.monotonic()))
            await connection.send(frame)

    async def _listen(self, connection: ClientConnection) -> None:
        expected_seq = 1
        # Without a message for so long the line is dead, whatever TCP says.
        with contextlib.suppress(TimeoutError):
            while True:
                message = json.loads(await asyncio.wait_for(connection.recv(), 5))
                if message["seq"] != expected_seq:
                    raise Broken(f"seq {message['seq']} where {expected_seq} was due")
                expected_seq += 1
                self._take(message)
                if self._is_done:
                    with contextlib.suppress(ConnectionClosed, TimeoutError):
                        await asyncio.wait_for(connection.recv(), 2)
                    return

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "checkpoint":
                self._token = message["token"]
                offset_ms = int(self._recording.query.get("start_offset_ms", 0))
                n, rest = divmod(
                    (message["resume_from_ms"] - offset_ms) * self._recording.rate_hz, 1000
                )
                if rest:
                    raise Broken(f"{message['resume_from_ms']} ms is between two samples")
                self._first = n
            case "segment" | "utterance" | "warning":
                self._tell({k: v for k, v in message.items() if k not in _OF_CONNECTION})
            case "session.closed":
                self.closed = {k: v for k, v in message.items() if k not in _OF_CONNECTION}
                self._is_done = True
            case "error" if message["fatal"] and not message["retryable"]:
                raise Broken(message["message"])

    def _tell(self, event: dict[str, Any]) -> None:
        key = _key(event)
        if key in self._known:
            self.n_repeated += 1
            if without_session([self._known[key]]) != without_session([event]):
                raise Broken(f"told twice, and differently: {self._known[key]} and {event}")
            return
        if self._lost_s is not None:
            self.resumed_after_s.append(time.monotonic() - self._lost_s)
            self._lost_s = None
        self._known[key] = event
        self.events.append(event)


def _key(event: dict[str, Any]) -> tuple[Any, ...]:
    """What the contract lets a client know an event by."""
    match event["type"]:
        case "segment":
            return ("segment", event["channel"], event["index"])
        case "utterance":
            return ("utterance", event["channel"], event["utterance_id"], event["end_ms"])
        case _:
            return (event["type"], event["channel"], event["code"])


def without_session(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """To compare two streams: all but the id, which differs between them."""
    return [{k: v for k, v in event.items() if k != _OF_SESSION} for event in events]
