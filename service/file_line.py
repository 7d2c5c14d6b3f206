"""The line of `POST /v1/files`: recordings that come in or wait, and the few that are analysed."""

import asyncio
from types import TracebackType
from typing import Self

from ser_core.errors import Overloaded
from service.metrics import Metrics


class FileLine:
    """At most `n_analysed` at a time, first come, first served, with `n_waiting` before them.

    An upload takes no turn of those that are whole, however slow its line is.
    """

    def __init__(
        self, n_analysed: int, n_waiting: int, max_wait_s: float, metrics: Metrics
    ) -> None:
        self.n_waiting = 0
        self.n_analysed = 0
        self.max_waiting = n_waiting
        self.max_wait_s = max_wait_s
        self.turns = asyncio.Semaphore(n_analysed)
        metrics.files.set_function(lambda: self.n_analysed)
        metrics.files_waiting.set_function(lambda: self.n_waiting)

    def join(self) -> "Place":
        """A place at the end; raises `Overloaded` where that is too far back."""
        if self.n_waiting >= self.max_waiting:
            raise Overloaded(
                f"{self.max_waiting} files come in or wait already",
                remedy="try again later, or elsewhere; /v1/jobs takes what can wait",
            )
        return Place(self)


class Place:
    """One recording's, to be used as a context: first among those that wait."""

    def __init__(self, line: FileLine) -> None:
        self._line = line
        self._has_turn = False

    def __enter__(self) -> Self:
        self._line.n_waiting += 1
        return self

    async def turn(self) -> None:
        """Waits to be analysed; raises `Overloaded` where that takes too long."""
        line = self._line
        try:
            async with asyncio.timeout(line.max_wait_s):
                await line.turns.acquire()
        except TimeoutError as error:
            raise Overloaded(
                f"other files were analysed for {line.max_wait_s:g} s",
                remedy="try again later, or elsewhere; /v1/jobs takes what can wait",
            ) from error
        self._has_turn = True
        line.n_waiting -= 1
        line.n_analysed += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._has_turn:
            self._line.n_analysed -= 1
            self._line.turns.release()
        else:
            self._line.n_waiting -= 1
