"""How a live session tells a webhook: its events are handed over one after the other."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

#: Events of one session that may wait for a store that takes none.
MAX_WAITING = 64
#: From one attempt to hand an event over to the next.
RETRY_S = 0.5

log = logging.getLogger(__name__)


class Relay:
    """Hands one session's events to `deliver` in their order, while the session goes on.

    `deliver` returns when an event is safe; `session_id` and `seq` tell events apart.
    What is not taken within `patience_s`, or finds `MAX_WAITING` before it, is lost: it is logged,
    and `on_lost` is called.
    """

    def __init__(
        self,
        deliver: Callable[[dict[str, Any]], Awaitable[None]],
        patience_s: float,
        on_lost: Callable[[], None],
    ) -> None:
        self._deliver = deliver
        self._patience_s = patience_s
        self._on_lost = on_lost
        self._waiting: deque[dict[str, Any]] = deque()
        self._task: asyncio.Task[None] | None = None

    def put(self, event: dict[str, Any]) -> None:
        """Never waits."""
        if len(self._waiting) >= MAX_WAITING:
            self._lose(event, f"{MAX_WAITING} wait already")
            return
        self._waiting.append(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._hand_over())

    async def finish(self) -> None:
        """After the last event: waits until all are taken, for `patience_s` at most."""
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=self._patience_s)
        self._task.cancel()
        await asyncio.wait({self._task})
        for event in self._waiting:
            self._lose(event, "the session has ended")

    async def _hand_over(self) -> None:
        while self._waiting:
            event = self._waiting[0]
            cause = await self._failure(event)
            if cause is not None:
                self._lose(event, f"{type(cause).__name__}: {cause}")
            self._waiting.popleft()

    async def _failure(self, event: dict[str, Any]) -> Exception | None:
        """Hands one event over, again and again if need be; what was in the way for too long."""
        cause: Exception | None = None
        try:
            async with asyncio.timeout(self._patience_s):
                while True:
                    try:
                        await self._deliver(event)
                        return None
                    except Exception as error:
                        cause = error
                    await asyncio.sleep(RETRY_S)
        except TimeoutError as error:
            return cause or error

    def _lose(self, event: dict[str, Any], cause: str) -> None:
        self._on_lost()
        log.error("session %s: a webhook could not be told: %s", event["session_id"], cause)
