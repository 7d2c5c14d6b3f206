"""A scripted server that checkpoints and resumes as the contract says, and breaks when told to.

Its "network" is a checksum: a segment every 0.4 s whose score tells the very bytes it heard, so
audio that is lost, repeated or moved shows in the timeline.
"""

import asyncio
import base64
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

CONTRACT = Path(__file__).parents[2] / "clients" / "contract"
RATE_HZ = 8000
HOP_BYTES = RATE_HZ * 2 * 4 // 10


def golden(name: str, **fields: Any) -> dict[str, Any]:
    return json.loads((CONTRACT / f"server.{name}.json").read_text()) | fields


@dataclass(frozen=True)
class State:
    """What a token holds: all that the stream is at one place."""

    position: int = 0
    n_segments: int = 0
    n_utterances: int = 0
    utterance_start: int = 0
    checksum: int = 0

    def token(self) -> str:
        return base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode()

    @classmethod
    def parse(cls, token: str) -> "State":
        return cls(**json.loads(base64.urlsafe_b64decode(token)))


Break = Callable[[ServerConnection], Awaitable[None]]


@dataclass
class ResumingServer:
    """`breaks[n]` ends the n-th connection once it has sent that many messages."""

    breaks: list[tuple[int, Break]] = field(default_factory=list)
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    #: Handshakes after the first that are not answered in good time.
    n_silent: int = 0
    has_checkpoints: bool = True
    start_offset_ms: int = 0
    queries: list[dict[str, list[str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    commands: list[tuple[int, str]] = field(default_factory=list)
    n_heard_bytes: int = 0
    _is_over: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with serve(
            self._serve, "127.0.0.1", 0, process_request=self._admit, close_timeout=0.1
        ) as server:
            yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
            self._is_over.set()

    async def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.queries and self.n_silent:
            self.n_silent -= 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_over.wait(), 2.0)
        if not self.queries or not self.refusals:
            return None
        status, headers = self.refusals.pop(0)
        response = connection.respond(status, "later")  # type: ignore[arg-type]
        response.headers.update(headers)
        return response

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers.append(dict(connection.request.headers))
        query = parse_qs(urlsplit(connection.request.path).query)
        self.queries.append(query)
        state = State.parse(query["resume"][0]) if "resume" in query else State()
        n_left, end = self.breaks.pop(0) if self.breaks else (1 << 30, None)
        talk = _Talk(connection, self, state, n_left)
        try:
            await talk.run()
        except _Over:
            assert end is not None
            await end(connection)
        except ConnectionClosed:
            return


class _Over(Exception):
    """The connection has sent all that it may."""


class _Talk:
    def __init__(
        self, connection: ServerConnection, server: ResumingServer, state: State, n_left: int
    ) -> None:
        self._connection, self._server, self._state = connection, server, state
        self._n_left, self._seq = n_left, 0
        self._waiting = b""
        # One hop behind: what was told since is told again after a resume.
        self._checkpoint = state

    async def run(self) -> None:
        await self._send("session.created")
        async for message in self._connection:
            if isinstance(message, bytes):
                self._server.n_heard_bytes += len(message)
                await self._hear(message)
                continue
            options = json.loads(message)
            command = options["type"]
            self._server.commands.append((self._state.position + len(self._waiting), command))
            if options.get("hysteresis", 0) > 1:
                await self._send("error", code="bad_parameter", message="hysteresis: out of range")
            if command in ("flush", "close"):
                await self._flush()
            if command == "close":
                await self._send("session.closed")
                return

    async def _hear(self, audio: bytes) -> None:
        self._waiting += audio
        while len(self._waiting) >= HOP_BYTES:
            hop, self._waiting = self._waiting[:HOP_BYTES], self._waiting[HOP_BYTES:]
            await self._score(hop)
            if self._server.has_checkpoints:
                await self._send(
                    "checkpoint",
                    token=self._checkpoint.token(),
                    resume_from_ms=self._ms(self._checkpoint.position),
                )
            self._checkpoint = self._state

    async def _score(self, audio: bytes) -> None:
        state = self._state
        checksum = zlib.crc32(audio, state.checksum)
        end = state.position + len(audio)
        self._state = replace(
            state, position=end, n_segments=state.n_segments + 1, checksum=checksum
        )
        await self._send(
            "segment",
            index=state.n_segments,
            start_ms=self._ms(state.position),
            end_ms=self._ms(end),
            scores={"angry": checksum / 2**32},
            utterance_id=f"0-{state.n_utterances}",
        )

    async def _flush(self) -> None:
        if self._waiting:
            audio, self._waiting = self._waiting, b""
            await self._score(audio)
        state = self._state
        if state.position == state.utterance_start:
            return
        self._state = replace(
            state, n_utterances=state.n_utterances + 1, utterance_start=state.position
        )
        await self._send(
            "utterance",
            utterance_id=f"0-{state.n_utterances}",
            start_ms=self._ms(state.utterance_start),
            end_ms=self._ms(state.position),
            scores={"angry": state.checksum / 2**32},
        )

    def _ms(self, position: int) -> int:
        return self._server.start_offset_ms + position * 1000 // (RATE_HZ * 2)

    async def _send(self, kind: str, **fields: Any) -> None:
        if self._n_left == 0:
            raise _Over
        self._n_left -= 1
        await self._connection.send(json.dumps(golden(kind, seq=self._seq, **fields)))
        self._seq += 1


async def abort(connection: ServerConnection) -> None:
    """The power goes: no close frame, nothing."""
    connection.transport.abort()
    await asyncio.sleep(0)


def closing(code: int) -> Break:
    async def end(connection: ServerConnection) -> None:
        await connection.close(code)

    return end


def failing(code: int, *, retryable: bool, retry_after_ms: int | None = None) -> Break:
    """A fatal error, then its close code."""

    async def end(connection: ServerConnection) -> None:
        frame = golden("error", fatal=True, code="told", retryable=retryable)
        await connection.send(json.dumps(frame | {"retry_after_ms": retry_after_ms}))
        await connection.close(code)

    return end


async def drain(connection: ServerConnection) -> None:
    """Says that it ends, hears what still comes, and ends."""
    await connection.send(json.dumps(golden("session.draining")))
    await asyncio.sleep(0.05)
    await connection.close(1012)


async def hush(connection: ServerConnection) -> None:
    """Stays, hears, answers pings, and says nothing more."""
    async for _ in connection:
        pass


async def drain_for_ever(connection: ServerConnection) -> None:
    """Says that it ends, and does not."""
    await connection.send(json.dumps(golden("session.draining", deadline_ms=100)))
    await hush(connection)
