"""Gathers segments of all sessions into batches: bounded, and never on the event loop.

Threads take their batches themselves, so that no batch waits for a turn of a busy event loop: it
is asked once a batch, to hand out the answers. A batch is what queued while the one before it ran,
up to `max_batch`. Where segments come so densely that company is to be expected, the oldest waits
for it, at most `max_wait_s`; else nobody does, and an idle service answers one segment as fast as
it can. Sessions take turns, so that one which sends fast keeps no other waiting.
"""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Self

import numpy as np

from ser_core.errors import Overloaded, Restarting, SerError
from ser_core.features import Float32
from service.inference.backend import Backend
from service.inference.fair_queue import FairQueue

#: Weight of the newest gap between two segments in their mean.
GAP_WEIGHT = 0.05
#: What threads have for what has queued, once everybody who waited has left.
_JOIN_S = 5.0
#: From one look to the next whether a network that failed answers again.
PROBE_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scored:
    """One segment's logits, float32 `(n_labels,)`, and what they cost."""

    logits: Float32
    queue_s: float
    inference_s: float
    batch_size: int


@dataclass(frozen=True, slots=True, eq=False)
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
        # What threads and event loop share; each operation on them is atomic. There is a call for
        # every segment that waits, and there may be more: who finds nothing waits for the next.
        self._queue = FairQueue[_Waiting](lambda waiting: waiting.future.done())
        self._calls: SimpleQueue[None] = SimpleQueue()
        self._running: set[asyncio.Future[Scored]] = set()
        self._began_s = [math.inf] * n_workers  # each thread's batch, while it runs
        self._failing_since_s: float | None = None
        self._probing: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._threads: list[threading.Thread] = []

    @property
    def n_queued(self) -> int:
        """Segments that wait; those of clients that left count until their turn comes."""
        return len(self._queue)

    @property
    def oldest_wait_s(self) -> float:
        """How long the next segment to be scored has waited."""
        waiting = self._queue.next()
        return 0.0 if waiting is None else time.perf_counter() - waiting.since_s

    @property
    def longest_run_s(self) -> float:
        """How long the oldest of the batches that run has run."""
        return max(0.0, time.perf_counter() - min(self._began_s))

    @property
    def failing_s(self) -> float:
        """How long ago the network failed on a batch, if it has on each one since; else 0."""
        if self._failing_since_s is None:
            return 0.0
        return time.perf_counter() - self._failing_since_s

    def start(self) -> None:
        """Starts the threads, whose answers come on the running event loop."""
        loop = asyncio.get_running_loop()
        self._threads = [
            # Daemons, so that one that hangs in its device does not keep a process alive.
            threading.Thread(target=self._work, args=(loop, n), name=f"inference_{n}", daemon=True)
            for n in range(self._n_workers)
        ]
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Scores what has queued, then ends; later segments are refused.

        A thread that hangs in its device is left there after a while.
        """
        self._is_stopping = True
        if self._probing is not None:
            self._probing.cancel()
        for _ in self._threads:
            self._calls.put(None)
        deadline_s = time.monotonic() + _JOIN_S
        for thread in self._threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline_s - time.monotonic()))
            if thread.is_alive():
                log.error("%s does not come back from its device, and is left", thread.name)

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
        futures = self.submit_all([features])
        if not futures:
            raise self.overloaded()
        return futures[0]

    def submit_all(
        self, segments: Sequence[Float32], flow: Hashable = None
    ) -> "list[asyncio.Future[Scored]]":
        """Queues several segments at once, so that an idle thread takes them as one batch.

        The first of them, where there is no room for all: as many as there are futures. Segments
        of one `flow`, a session or a file, take turns with those of all others. Raises
        `Restarting` after `stop`.
        """
        if self._is_stopping:
            raise Restarting("the service is shutting down", remedy="connect again")
        if len(self._queue) + len(segments) > self._max_queued:
            self._queue.drop_over()
        loop, now_s = asyncio.get_running_loop(), time.perf_counter()
        waiting = [
            _Waiting(features, now_s, loop.create_future())
            for features in segments[: max(0, self._max_queued - len(self._queue))]
        ]
        for _ in waiting:
            self._gap_s += GAP_WEIGHT * (min(1.0, now_s - self._last_s) - self._gap_s)
            self._last_s = now_s
        self._queue.put(waiting, flow)
        for _ in waiting:
            self._calls.put(None)
        return [one.future for one in waiting]

    def overloaded(self) -> Overloaded:
        """What to raise where a segment found no room."""
        return Overloaded(
            f"{self._max_queued} segments wait for inference already",
            remedy="try again later, or add replicas",
        )

    def withdraw(self, future: "asyncio.Future[Scored]") -> bool:
        """Takes a segment back, unless its batch already runs."""
        return future not in self._running and future.cancel()

    # ---- in the threads

    def _work(self, loop: asyncio.AbstractEventLoop, index: int) -> None:
        try:
            self.backend.enter_thread()
        except Exception:
            log.exception(
                "an inference thread is not prepared: its first batches are slow, or fail"
            )
        while True:
            self._calls.get()
            self._gather()
            batch = self._take()
            if batch:
                self._began_s[index] = time.perf_counter()
                self._score(batch, loop)
                self._began_s[index] = math.inf
            elif self._is_stopping and not self._queue:
                return

    def _gather(self) -> None:
        """Lets a batch fill until its oldest has waited `max_wait_s`, if more are expected."""
        left_s = self._max_wait_s - self.oldest_wait_s
        if (
            left_s > 0
            and self._gap_s < self._max_wait_s
            and 0 < len(self._queue) < self._max_batch
            and not self._is_stopping
        ):
            time.sleep(left_s)

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while len(batch) < self._max_batch and (waiting := self._queue.take()) is not None:
            batch.append(waiting)
        return batch

    def _score(self, batch: list[_Waiting], loop: asyncio.AbstractEventLoop) -> None:
        self._running.update(waiting.future for waiting in batch)
        began_s = time.perf_counter()
        try:
            logits = self.backend.score(np.stack([waiting.features for waiting in batch]))
        except Exception as error:
            answer = partial(self._fail, batch, error)
        else:
            inference_s = time.perf_counter() - began_s
            answer = partial(self._answer, batch, logits, began_s, inference_s)
        with contextlib.suppress(RuntimeError):  # the loop was closed without `stop`
            loop.call_soon_threadsafe(self._settle, batch, answer)

    # ---- on the event loop again

    def _settle(self, batch: list[_Waiting], answer: Callable[[], None]) -> None:
        # Not before: what is scored and not yet answered must not be withdrawn.
        self._running.difference_update(waiting.future for waiting in batch)
        answer()

    def _answer(
        self, batch: list[_Waiting], logits: Float32, began_s: float, inference_s: float
    ) -> None:
        self._failing_since_s = None
        if self._on_batch is not None:
            self._on_batch(len(batch), inference_s)
        for waiting, row in zip(batch, logits, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(
                    Scored(row, began_s - waiting.since_s, inference_s, len(batch))
                )

    def _fail(self, batch: list[_Waiting], cause: Exception) -> None:
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
        if self._failing_since_s is None:
            self._failing_since_s = time.perf_counter()
        if not self._is_stopping and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        """Asks a network that failed until it answers, for clients may be sent elsewhere."""
        features = self.backend.spec.self_test_features()[0]
        while self._failing_since_s is not None:
            await asyncio.sleep(PROBE_S)
            with contextlib.suppress(SerError):
                await self.submit(features)
