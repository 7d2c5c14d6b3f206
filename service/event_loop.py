"""The event loop's punctuality: how late it is, and what is done once so that it is seldom late."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable

#: Between two looks. What one costs (some 10 us) is a five-thousandth of it.
PERIOD_S = 0.05
#: What a thread that computes in Python may hold the loop up for, each time: Python's own 5 ms
#: add up where the loop yields at every socket and every array.
SWITCH_S = 0.001


def settle() -> None:
    """For a process that begins to serve: called once, when all is loaded.

    What is there now stays to the end. Looking through it for garbage again and again would stop
    the loop for a tenth of a second each time.
    """
    sys.setswitchinterval(SWITCH_S)
    gc.freeze()
    gc.enable()


class StallMeter:
    """Tells `observe` how late the running loop comes to a timer, in seconds, every `PERIOD_S`.

    That is what a message would have waited that came at such a moment, so the percentiles are
    those of the waiting, not of the callbacks' lengths.
    """

    def __init__(self, observe: Callable[[float], object]) -> None:
        self._observe = observe
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins on the running event loop."""
        self._wait(asyncio.get_running_loop())

    def stop(self) -> None:
        """Ends it; it may never have begun."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not by the loop's own clock, which may stand still while the loop works.
        self._due_s = time.perf_counter() + PERIOD_S
        self._timer = loop.call_later(PERIOD_S, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        # A timer may come early by the resolution of the loop's clock.
        self._observe(max(0.0, time.perf_counter() - self._due_s))
        self._wait(loop)
