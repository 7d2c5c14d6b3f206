"""Threads for work that may hang, where it must hold up neither other work nor the process's end.

The event loop's own threads are few, are shared by all that blocks, and are waited for at the end.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """At most `n_threads` daemons, started as they are needed, that work in turn."""

    def __init__(self, name: str, n_threads: int) -> None:
        self._name = name
        self._n_threads = n_threads
        self._n_started = 0
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()

    async def run(self, work: Callable[..., T], *args: Any, patience_s: float | None = None) -> T:
        """What `work` returns or raises, or `TimeoutError` after `patience_s`.

        What has begun by then goes on, and nobody hears of it; what has not never will.
        """
        future: Future[T] = Future()
        self._queue.put((future, partial(work, *args)))
        if self._n_started < self._n_threads:
            name = f"{self._name}_{self._n_started}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
            self._n_started += 1
        patience = asyncio.timeout(patience_s)
        try:
            async with patience:
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if not patience.expired():  # the work's own, such as ETIMEDOUT of a disk
                raise
            raise TimeoutError(f"{self._name}: no answer within {patience_s:g} s") from error

    def _work(self) -> None:
        while True:
            future, work = self._queue.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                answer = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(answer)
            del future, work  # not until the next one comes
