"""Drives one `StreamSession` with a batcher: segments out, logits in, events in stream order.

Streams and files both use it, each in its own rhythm:

    pump.advance(lambda: session.receive_audio(data), received_s)   # as audio comes
    async for timed in pump.events():                               # as results come
        ...

The session is touched between awaits only, so one task may advance while another tells.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import NamedTuple

from ser_core.errors import NotReady
from ser_core.events import Event, Segment
from ser_core.session import SegmentRequest, StreamSession
from service.inference.batcher import Batcher, Scored

#: Audio of one step: a longer chunk is taken in several, so that none holds the event loop.
STEP_S = 0.4
#: Seconds for one answer: longer than any queue that still moves, and twice what makes the service
#: unready. Each is waited for by itself, so that a time in which the process stood still is one.
_ANSWER_TICKS = 30
_TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a segment's time went. `received_s` is the clock when what completed it came."""

    received_s: float
    features_s: float
    queue_s: float = 0.0
    inference_s: float = 0.0


class TimedEvent(NamedTuple):
    """An event; `timing` is there for segments."""

    event: Event
    timing: Timing | None


class _Mark(NamedTuple):
    """Segments with a `request_id` below `n_cut` (and above the mark before) came in one step."""

    n_cut: int
    received_s: float
    features_s: float


class Pump:
    """One session's way through the batcher.

    `max_untold` bounds the results in the making: `room` waits while there are more, and with it
    the reader of the socket, and by TCP the sender.

    With `drops` a session that is behind gives up its oldest unscored segments in the place of
    waiting: `n_dropped` counts them, and `on_drop` is called for each.
    """

    def __init__(
        self,
        session: StreamSession,
        batcher: Batcher,
        max_untold: int,
        *,
        drops: bool = False,
        on_drop: Callable[[], None] | None = None,
    ) -> None:
        self._session = session
        self._batcher = batcher
        self._max_untold = max_untold
        self._drops = drops
        self._on_drop = on_drop
        self._is_late = False
        self._is_lateness_news = False
        self.n_dropped = 0
        self._in_flight: deque[tuple[int, asyncio.Future[Scored]]] = deque()
        self._marks: deque[_Mark] = deque()
        self._scored: dict[int, Scored] = {}
        self._n_cut = 0
        self._has_more = asyncio.Event()
        self._has_room = asyncio.Event()

    def advance(self, step: Callable[[], None], received_s: float) -> None:
        """Runs one step of the session on what came at `received_s`, and queues its segments.

        Raises what the step raises, and `Overloaded` when the batcher's queue is full.
        """
        began_s = time.perf_counter()
        step()
        self.submit(received_s, time.perf_counter() - began_s)

    def submit(self, received_s: float, features_s: float) -> None:
        """The second half of `advance`, for a step that was run elsewhere in `features_s`."""
        n_new = self._session.n_cut - self._n_cut
        if n_new:
            self._n_cut += n_new
            self._marks.append(_Mark(self._n_cut, received_s, features_s / n_new))
            self._queue(self._session.segments_to_score())
        if self._session.has_news:
            self._has_more.set()

    def _queue(self, requests: list[SegmentRequest]) -> None:
        refused = self._refused(requests)
        if refused and not self._drops:
            raise self._batcher.overloaded()
        while refused and self._drop_oldest():  # which makes room for a newer one
            refused = self._refused(refused)
        for request in refused:
            self._drop(request.id)

    def _refused(self, requests: list[SegmentRequest]) -> list[SegmentRequest]:
        """Queues what there is room for; the rest."""
        futures = self._batcher.submit_all([request.features for request in requests], flow=self)
        self._in_flight += zip((request.id for request in requests), futures, strict=False)
        return requests[len(futures) :]

    def _drop(self, request_id: int) -> None:
        self._session.drop(request_id)
        self.n_dropped += 1
        if self._on_drop is not None:
            self._on_drop()
        self._is_lateness_news = self._is_lateness_news or not self._is_late
        self._is_late = True

    def _drop_oldest(self) -> bool:
        """Whether there was a segment to give up; those of a running batch come soon anyway."""
        for index, (request_id, future) in enumerate(self._in_flight):
            if self._batcher.withdraw(future):
                del self._in_flight[index]
                self._drop(request_id)
                return True
        return False

    @property
    def has_lateness_news(self) -> bool:
        """Whether `take_lateness` has something to tell."""
        return self._is_lateness_news

    def take_lateness(self) -> bool:
        """Whether segments began to be dropped: true once until the session has caught up."""
        is_news, self._is_lateness_news = self._is_lateness_news, False
        return is_news

    @property
    def has_room(self) -> bool:
        """Whether a step may be taken without waiting."""
        return self._session.n_untold < self._max_untold

    async def room(self) -> None:
        """Waits until less than `max_untold` results are in the making, or makes it so."""
        while not self.has_room:
            if self._drops and self._drop_oldest():
                continue
            self._has_room.clear()
            await self._has_room.wait()

    async def more(self) -> None:
        """Waits until a step left something to tell, or `wake`."""
        await self._has_more.wait()
        self._has_more.clear()

    def wake(self) -> None:
        """Ends a wait for more."""
        self._has_more.set()

    async def events(self, leave: int = 0) -> AsyncIterator[TimedEvent]:
        """Events in stream order, until at most `leave` are still in the making.

        Raises `SerError` (`inference_failed`) where the network failed, and `NotReady` where it
        gives no answer.
        """
        while True:
            while self._in_flight and self._in_flight[0][1].done():
                await self._take_answer()
            for event in self._session.events():
                self._has_room.set()
                yield TimedEvent(event, self._timing(event) if isinstance(event, Segment) else None)
            self._has_room.set()  # an update leaves without being told
            if self._session.n_untold <= self._max_untold // 2:
                self._is_late = False
            # A segment that was refused is never told, nor what is behind it.
            if self._session.n_untold <= leave or not self._in_flight:
                return
            await self._take_answer()

    def cancel(self) -> None:
        """Withdraws what was queued: nobody will read it."""
        for _, future in self._in_flight:
            if not future.cancel() and not future.cancelled():
                future.exception()  # looked at, so that asyncio does not report it as lost
        self._in_flight.clear()

    async def _take_answer(self) -> None:
        request_id, future = self._in_flight[0]
        if not future.done():
            await _done(future)
        if future.cancelled():
            return
        scored = future.result()
        self._in_flight.popleft()
        self._scored[request_id] = scored
        self._session.receive_logits(request_id, scored.logits)

    def _timing(self, segment: Segment) -> Timing:
        while self._marks[0].n_cut <= segment.request_id:
            self._marks.popleft()
        mark = self._marks[0]
        scored = self._scored.pop(segment.request_id, None)
        if scored is None:  # silent segments are not scored
            return Timing(mark.received_s, mark.features_s)
        return Timing(mark.received_s, mark.features_s, scored.queue_s, scored.inference_s)


async def _done(future: "asyncio.Future[Scored]") -> None:
    """Waits for an answer or a withdrawal; raises `NotReady` where neither comes.

    Not by awaiting it: a segment dropped meanwhile must not look like our own end.
    """
    for _ in range(_ANSWER_TICKS):
        await asyncio.wait([future], timeout=_TICK_S)
        if future.done():
            return
    raise NotReady(
        "the network does not answer",
        remedy="connect again, or elsewhere, with the last checkpoint",
    )
