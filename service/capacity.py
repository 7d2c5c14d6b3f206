"""How much the service can carry, by what its own segments cost it.

A stream costs inference, in the batcher's threads, and the event loop's time for all else. With
D segments a second of all admitted streams, the load is

    D * max(inference_s / n_workers, loop_s, process_s / n_cpus)

where `inference_s` is a segment's share of its batch in the size that is best, `loop_s` the CPU
time of the event loop's thread a segment, and `process_s` that of all threads: whichever is the
narrow place.
"""

import os
import time
from typing import NamedTuple

from ser_core.errors import Overloaded

#: Weight of a new measurement: the estimate follows some fifty of them.
WEIGHT = 0.02
#: Before so many measurements the estimate says nothing: the first ones meet cold caches.
MIN_MEASURED = 20
#: Weight of a new window of CPU time: the estimate follows some ten of them.
CPU_WEIGHT = 0.1
#: The shortest such window, and the longest, in seconds.
MIN_WINDOW_S, WINDOW_S = 1.0, 5.0


def n_cpus() -> int:
    """CPU cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


class CpuClocks(NamedTuple):
    """CPU seconds of the event loop's thread and of the process, and `time.monotonic`."""

    loop_s: float
    process_s: float
    now_s: float

    @classmethod
    def read(cls) -> "CpuClocks":
        """As they stand now; to be called on the event loop."""
        return cls(time.thread_time(), time.process_time(), time.monotonic())


class _Mean:
    """An exponentially weighted mean, a plain one while there are few values."""

    def __init__(self, weight: float = WEIGHT) -> None:
        self._weight = weight
        self.value = 0.0
        self.n_values = 0

    def accept(self, value: float) -> None:
        self.n_values += 1
        self.value += (value - self.value) * max(self._weight, 1 / self.n_values)

    def accept_at_most(self, bound: float) -> None:
        """Takes what a value is known not to exceed: it can lower the mean, never raise it."""
        if self.n_values and bound < self.value:
            self.accept(bound)


class Capacity:
    """Expected load of the admitted streams; 1 is all that was measured to be possible."""

    def __init__(
        self, max_load: float, max_queue_wait_s: float, n_workers: int = 1, n_cpus: float = 1.0
    ) -> None:
        self._max_load = max_load
        self._max_queue_wait_s = max_queue_wait_s
        self._n_workers = n_workers
        self._batch_s: dict[int, _Mean] = {}
        self._n_cpus = n_cpus
        self._loop_s, self._process_s = _Mean(CPU_WEIGHT), _Mean(CPU_WEIGHT)
        self._window: CpuClocks | None = None  # how they stood when it began
        self._n_sent = 0  # in it
        self._demand = 0.0

    def segment_sent(self) -> None:
        """A segment's result was sent to a stream."""
        self._n_sent += 1

    def batch_scored(self, n_segments: int, inference_s: float) -> None:
        """What a batch took in its thread."""
        self._batch_s.setdefault(n_segments, _Mean()).accept(inference_s)

    def cpu_used(self, clocks: CpuClocks) -> None:
        """How the clocks stand; to be told a few times a second, on the event loop.

        A window of few segments says only what one costs at most: an idle service has its own work.
        So one stream alone mends an estimate from when the service had other work.

        What else the process does, files for one, counts as if its streams cost it.
        """
        since = self._window or clocks
        length_s = clocks.now_s - since.now_s
        is_enough = self._n_sent >= MIN_MEASURED and length_s >= MIN_WINDOW_S
        if not (is_enough or length_s > WINDOW_S or since is clocks):
            return
        if self._n_sent:
            for mean, used_s in (
                (self._loop_s, clocks.loop_s - since.loop_s),
                (self._process_s, clocks.process_s - since.process_s),
            ):
                take = mean.accept if is_enough else mean.accept_at_most
                take(used_s / self._n_sent)
        self._window, self._n_sent = clocks, 0

    def load(self, demand: float = 0.0) -> float:
        """Expected load with `demand` segments a second more than now."""
        total = self._demand + demand
        return total * max(
            self._inference_s() / self._n_workers,
            self._loop_s.value,
            self._process_s.value / self._n_cpus,
        )

    def _inference_s(self) -> float:
        """Seconds a segment in the size of batch that is best: a full service fills its batches."""
        return min(
            (
                mean.value / n_segments
                for n_segments, mean in self._batch_s.items()
                if mean.n_values >= MIN_MEASURED
            ),
            default=0.0,
        )

    def check(self, demand: float, oldest_wait_s: float, *, is_resumed: bool = False) -> None:
        """Raises `Overloaded` when a stream of `demand` segments a second would be too much.

        The first stream is always admitted, or a wrong estimate would never be mended. One that
        goes on was admitted before: it is refused only where segments stand still.
        """
        if oldest_wait_s > self._max_queue_wait_s:
            raise Overloaded(
                f"segments wait {oldest_wait_s:.1f} s for inference already",
                remedy="try again later, or elsewhere",
                # Somebody listens to one that goes on, and what stands still may be over soon.
                retry_after_s=1.0 if is_resumed else 5.0,
            )
        if is_resumed or not self._max_load or not self._demand:
            return
        load = self.load(demand)
        if load > self._max_load:
            raise Overloaded(
                f"one more stream would take {load:.0%} of the measured capacity",
                remedy="try again later, or elsewhere",
                retry_after_s=5.0,
            )

    def take(self, demand: float) -> None:
        """Counts a stream in."""
        self._demand += demand

    def release(self, demand: float) -> None:
        """Counts a stream out."""
        # Rounding must not leave a trace of a stream that has gone.
        self._demand = max(0.0, self._demand - demand) if self._demand - demand > 1e-6 else 0.0
