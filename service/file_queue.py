"""The queue of `POST /v1/files`: recordings that come in or wait, and the few that are analysed."""

import asyncio
import contextlib
from collections import deque
from types import TracebackType
from typing import Self

from ser_core.errors import Overloaded, Restarting
from service.metrics import Metrics

_REMEDY = "try again later, or elsewhere; /v1/jobs takes what can wait"


class FileQueue:
    """At most `max_analysed` at a time, first come, first served, with `max_waiting` before them.

    An upload takes no turn of those that are whole, however slow its connection is.
    """

    def __init__(
        self, max_analysed: int, max_waiting: int, max_wait_s: float, metrics: Metrics
    ) -> None:
        self.n_waiting = 0
        self.n_analysed = 0
        self._max_analysed = max_analysed
        self._max_waiting = max_waiting
        self._max_wait_s = max_wait_s
        self._calls: deque[tuple[Ticket, asyncio.Future[None]]] = deque()
        self._is_closed = False
        metrics.files.set_function(lambda: self.n_analysed)
        metrics.files_waiting.set_function(lambda: self.n_waiting)

    @property
    def is_full(self) -> bool:
        """Whether one more is refused."""
        return self.n_waiting >= self._max_waiting

    def join(self) -> "Ticket":
        """A ticket for the end of the queue; raises `Overloaded` where that is too far back."""
        if self.is_full:
            raise Overloaded(f"{self._max_waiting} files come in or wait already", remedy=_REMEDY)
        return Ticket(self)

    def close(self) -> None:
        """Nobody waits any more, and those that do are told so; who finds room is analysed."""
        self._is_closed = True
        for _, call in self._calls:
            if not call.done():
                call.set_exception(_restarting())

    async def wait_for(self, ticket: "Ticket") -> None:
        """Waits until `ticket` is called; raises as `Ticket.turn`."""
        call = asyncio.get_running_loop().create_future()
        self._calls.append((ticket, call))
        self.call()
        if self._is_closed and not call.done():
            call.set_exception(_restarting())
        try:
            async with asyncio.timeout(self._max_wait_s):
                await call
        except TimeoutError as error:
            raise Overloaded(
                f"other files were analysed for {self._max_wait_s:g} s", remedy=_REMEDY
            ) from error
        finally:
            with contextlib.suppress(ValueError):  # it was called
                self._calls.remove((ticket, call))

    def call(self) -> None:
        """Calls whom there is room for."""
        while self._calls and self.n_analysed < self._max_analysed:
            ticket, call = self._calls.popleft()
            if not call.done():
                ticket.begin()
                call.set_result(None)


class Ticket:
    """One recording's place in the queue, to be used as a context: first among those that wait."""

    def __init__(self, queue: FileQueue) -> None:
        self._queue = queue
        self._is_analysed = False

    def __enter__(self) -> Self:
        self._queue.n_waiting += 1
        return self

    async def turn(self) -> None:
        """Waits to be analysed.

        Raises `Overloaded` where that takes too long, and `Restarting` where it will not be.
        """
        await self._queue.wait_for(self)

    def begin(self) -> None:
        """From here on it is analysed, until the context ends."""
        self._is_analysed = True
        self._queue.n_waiting -= 1
        self._queue.n_analysed += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_analysed:
            self._queue.n_analysed -= 1
            self._queue.call()
        else:
            self._queue.n_waiting -= 1


def _restarting() -> Restarting:
    return Restarting("the service is shutting down", remedy="send the file again")
