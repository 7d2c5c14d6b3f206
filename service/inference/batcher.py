"""Gathers segments of all sessions into batches: bounded, and never on the event loop.

A batch is what queued while the one before it ran, up to `max_batch`. Where segments come so
densely that company is to be expected, the oldest waits for it, at most `max_wait_s`; else nobody
does, and an idle service answers one segment as fast as it can.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np

from ser_core.errors import Overloaded, Restarting, SerError
from ser_core.features import Float32
from service.inference.backend import Backend

#: Weight of the newest gap between two segments in their mean.
GAP_WEIGHT = 0.05

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scored:
    """One segment's logits, float32 `(n_labels,)`, and what they cost."""

    logits: Float32
    queue_s: float
    inference_s: float
    batch_size: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    features: Float32
    since_s: float
    future: asyncio.Future[Scored]


class Batcher:
    """The queue of one model. All methods belong to the event loop that called `start`."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_batch: int = 16,
        max_queued: int = 1024,
        max_wait_s: float = 0.0,
        n_workers: int = 1,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        self.backend = backend
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._max_wait_s = max_wait_s
        self._gap_s = 1.0  # between two segments, a running mean
        self._last_s = 0.0
        self._n_workers = n_workers
        self._on_batch = on_batch
        self._queue: deque[_Waiting] = deque()
        self._running: set[asyncio.Future[Scored]] = set()
        self._is_due = asyncio.Event()
        self._is_stopping = False
        self._workers: list[asyncio.Task[None]] = []
        self._threads: ThreadPoolExecutor | None = None

    @property
    def n_queued(self) -> int:
        """Segments that wait; those of clients that left count until their turn comes."""
        return len(self._queue)

    @property
    def oldest_wait_s(self) -> float:
        """How long the next segment to be scored has waited."""
        return time.perf_counter() - self._queue[0].since_s if self._queue else 0.0

    def start(self) -> None:
        """Starts the workers on the running event loop."""
        self._threads = ThreadPoolExecutor(
            self._n_workers,
            thread_name_prefix="inference",
            initializer=self._enter_thread,
        )
        # Threads begin with their first task: no client is to wait for that.
        all_are_there = threading.Barrier(self._n_workers)
        for _ in range(self._n_workers):
            self._threads.submit(all_are_there.wait)
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._n_workers)]

    def _enter_thread(self) -> None:
        try:
            self.backend.enter_thread()
        except Exception:  # raised here it would close the pool for good
            log.exception(
                "an inference thread is not prepared: its first batches are slow, or fail"
            )

    async def stop(self) -> None:
        """Scores what has queued, then ends; later segments are refused."""
        self._is_stopping = True
        self._is_due.set()
        await asyncio.gather(*self._workers)
        if self._threads is not None:
            self._threads.shutdown()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    def submit(self, features: Float32) -> "asyncio.Future[Scored]":
        """Queues one segment's features `(n_frames, n_mfcc)`; cancel the future to withdraw it.

        Raises `Overloaded` when the queue is full and `Restarting` after `stop`. The future
        raises `SerError` (`inference_failed`) when the network failed on its batch.
        """
        if self._is_stopping:
            raise Restarting("the service is shutting down", remedy="connect again")
        if len(self._queue) >= self._max_queued:
            self._drop_withdrawn()
        if len(self._queue) >= self._max_queued:
            raise Overloaded(
                f"{self._max_queued} segments wait for inference already",
                remedy="try again later, or add replicas",
            )
        future: asyncio.Future[Scored] = asyncio.get_running_loop().create_future()
        now_s = time.perf_counter()
        self._gap_s += GAP_WEIGHT * (min(1.0, now_s - self._last_s) - self._gap_s)
        self._last_s = now_s
        self._queue.append(_Waiting(features, now_s, future))
        self._is_due.set()
        return future

    def withdraw(self, future: "asyncio.Future[Scored]") -> bool:
        """Takes a segment back, unless its batch already runs."""
        return future not in self._running and future.cancel()

    def _drop_withdrawn(self) -> None:
        self._queue = deque(waiting for waiting in self._queue if not waiting.future.done())

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._queue and len(batch) < self._max_batch:
            waiting = self._queue.popleft()
            if not waiting.future.done():
                batch.append(waiting)
        return batch

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                if self._is_stopping:
                    return
                self._is_due.clear()
                await self._is_due.wait()
                continue
            await self._gather()
            batch = self._take()
            if not batch:
                continue
            began_s = time.perf_counter()
            futures = {waiting.future for waiting in batch}
            self._running |= futures
            try:
                logits = await loop.run_in_executor(self._threads, self._score, batch)
            except Exception as error:
                _fail(batch, error)
                continue
            finally:
                self._running -= futures
            inference_s = time.perf_counter() - began_s
            if self._on_batch is not None:
                self._on_batch(len(batch), inference_s)
            for waiting, row in zip(batch, logits, strict=True):
                if not waiting.future.done():
                    waiting.future.set_result(
                        Scored(row, began_s - waiting.since_s, inference_s, len(batch))
                    )

    async def _gather(self) -> None:
        """Lets a batch fill until its oldest has waited `max_wait_s`, if more are expected."""
        left_s = self._max_wait_s - self.oldest_wait_s
        if left_s > 0 and self._gap_s < self._max_wait_s and len(self._queue) < self._max_batch:
            await asyncio.sleep(left_s)

    def _score(self, batch: list[_Waiting]) -> Float32:
        return self.backend.score(np.stack([waiting.features for waiting in batch]))


def _fail(batch: list[_Waiting], cause: Exception) -> None:
    log.error("a batch of %d segments failed", len(batch), exc_info=cause)
    for waiting in batch:
        error = SerError(
            "the network failed on this audio",
            remedy="try again; if it stays, report it to the operator",
            code="inference_failed",
        )
        error.__cause__ = cause
        with contextlib.suppress(asyncio.InvalidStateError):
            waiting.future.set_exception(error)
