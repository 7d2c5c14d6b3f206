"""A stream through the Python client, in real time, and how long its outages were."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

from glrf_client import (
    FLUSH,
    Backoff,
    ConnectionState,
    Flush,
    SessionCreated,
    StreamRefused,
    Unreachable,
    stream,
)
from tests.service.resuming import Recording

#: What belongs to one connection or one session, and not to what was heard.
_OF_CONNECTION = ("seq", "lag_ms", "session_id")

_OPEN_AGAIN_S = 0.2


class SdkStream:
    """One recording streamed by `glrf_client.stream`; `run` returns when it was closed."""

    def __init__(self, url: Callable[[], str], recording: Recording, *, speed: float = 0.0) -> None:
        """`speed`: audio seconds a second, 0 for at once."""
        self._url = url
        self._recording = recording
        self._speed = speed
        self._lost_s: float | None = None
        self._is_live = False
        #: What the consumer gets, without what belongs to one connection.
        self.events: list[dict[str, Any]] = []
        self.n_connections = 0
        #: From the loss of a connection, as the client saw it, to the next result; and how many
        #: connections were lost until then.
        self.resumptions: list[tuple[float, int]] = []
        self._n_lost = 0

    async def run(self) -> None:
        """The client tries a first connection once, so whoever opens a stream asks again."""
        while True:
            try:
                return await self._run()
            except (StreamRefused, Unreachable):
                if self.n_connections:
                    raise
                await asyncio.sleep(_OPEN_AGAIN_S)

    async def _run(self) -> None:
        events = stream(
            self._url(),
            self._chunks(),
            **self._recording.query,
            on_connection=self._watch,
            # A car's assistant would rather ask too often than wait.
            backoff=Backoff(first_s=0.1, longest_s=1.0, give_up_after_s=300.0),
        )
        async for event in events:
            if isinstance(event, SessionCreated):
                continue
            if self._lost_s is not None:
                self.resumptions.append((time.monotonic() - self._lost_s, self._n_lost))
                self._lost_s, self._n_lost = None, 0
            self.events.append({k: v for k, v in asdict(event).items() if k not in _OF_CONNECTION})

    def _watch(self, connection: ConnectionState) -> None:
        if connection.state == "live":
            self.n_connections += 1
            self._is_live = True
        elif connection.state == "waiting":
            if self._lost_s is None:
                self._lost_s = time.monotonic()
            # A try that did not come through is no other loss.
            self._n_lost += self._is_live
            self._is_live = False

    async def _chunks(self) -> AsyncIterator[bytes | Flush]:
        began_s, rate_hz = time.monotonic(), self._recording.rate_hz
        for position, frame in self._recording.frames(0, 0.1):
            if self._speed:
                due_s = began_s + position / rate_hz / self._speed
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            if isinstance(frame, bytes):
                yield frame
            elif "flush" in frame:
                yield FLUSH
