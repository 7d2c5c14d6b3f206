"""What one live session tells, to all who watch it: none of them holds it up.

A watcher that comes late is told first how things stand: how the session began, and the last word
on everything since. One that does not keep up misses segments, which the next ones outdate anyway,
and is let go when even the rest is too much.
"""

import asyncio
from collections import deque
from collections.abc import Iterator

from prometheus_client import Gauge

from ser_core.errors import Overloaded, SlowClient
from service import wire

#: Messages that may wait for one watcher before its segments are skipped: two minutes of them.
MAX_WAITING = 512
#: And before it is let go.
MAX_WAITING_IN_ALL = 2 * MAX_WAITING


class Watcher:
    """One watcher's place. `n_skipped` segments were more than it could take."""

    def __init__(self, so_far: Iterator[wire.Message]) -> None:
        self._waiting: deque[wire.Message] = deque(so_far)
        self._news = asyncio.Event()
        self._news.set()
        self.n_skipped = 0
        self.is_over = False
        self.is_lost = False

    def tell(self, message: wire.Message) -> None:
        """Puts a message behind those that wait, unless there are too many."""
        n_waiting = len(self._waiting)
        if n_waiting >= MAX_WAITING and isinstance(message, wire.SegmentMessage):
            self.n_skipped += 1
        elif n_waiting >= MAX_WAITING_IN_ALL:
            self.is_lost = True
        else:
            self._waiting.append(message)
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self.is_over = True
        self._news.set()

    async def next(self) -> wire.Message | None:
        """The next message, with `seq` as the session had it; `None` at the end.

        Raises `SlowClient` where it has fallen too far behind.
        """
        while not self._waiting:
            if self.is_over or self.is_lost:
                break
            self._news.clear()
            await self._news.wait()
        if self.is_lost:
            raise SlowClient(
                f"more than {MAX_WAITING_IN_ALL} messages were not read",
                remedy="read them as they come, then connect again",
            )
        return self._waiting.popleft() if self._waiting else None


class Broadcast:
    """To the watchers of one session, at most `max_watchers`; `n_watchers` counts all there are."""

    def __init__(self, max_watchers: int, n_watchers: Gauge) -> None:
        self._max_watchers = max_watchers
        self._n_watchers = n_watchers
        self._watchers: set[Watcher] = set()
        self._last: dict[tuple[object, ...], wire.Message] = {}
        self.is_over = False

    def tell(self, message: wire.Message) -> None:
        """To every watcher, at once and without waiting for any."""
        if self.is_over:
            return
        topic = _topic(message)
        if topic is not None:
            self._last.pop(topic, None)  # its place is behind all that is older
            self._last[topic] = message
        for watcher in list(self._watchers):
            watcher.tell(message)
            if watcher.is_lost:
                self.leave(watcher)
        if isinstance(message, wire.SessionClosed):
            self.is_over = True
            for watcher in list(self._watchers):
                watcher.end()
                self.leave(watcher)

    def join(self) -> Watcher:
        """A place, with how things stand; raises `Overloaded` where all are taken."""
        if len(self._watchers) >= self._max_watchers:
            raise Overloaded(
                f"{self._max_watchers} watch this session already",
                remedy="close one, or ask the operator for more (GLRF_MAX_WATCHERS)",
            )
        watcher = Watcher(iter(self._last.values()))
        if self.is_over:
            watcher.end()
        else:
            self._watchers.add(watcher)
            self._n_watchers.inc()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Gives the place up; may be said twice."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)
            self._n_watchers.dec()


def _topic(message: wire.Message) -> tuple[object, ...] | None:
    """What a message has the last word on; `None` where it is of its moment only."""
    match message:
        case wire.SegmentMessage() | wire.UtteranceMessage():
            return message.type, message.channel
        case wire.AlertMessage():
            return message.type, message.channel, message.rule
        case wire.WarningMessage():
            return message.type, message.channel, message.code
        case wire.ErrorMessage():
            return message.type, message.code
        case wire.SessionCreated() | wire.SessionDraining() | wire.SessionClosed():
            return (message.type,)
        case _:
            return None
