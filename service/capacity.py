"""How much the service can carry, by what its own segments cost it.

A stream costs inference, in the batcher's threads, and the event loop's time for features and
messages. Either can be the narrow place, so the larger of the two is the load.
"""

from ser_core.errors import Overloaded

#: Weight of a new measurement: the estimate follows some fifty of them.
WEIGHT = 0.02
#: Before so many measurements the estimate says nothing: the first ones meet cold caches.
MIN_MEASURED = 20


class _Mean:
    """An exponentially weighted mean, a plain one while there are few values."""

    def __init__(self) -> None:
        self.value = 0.0
        self.n_values = 0

    def accept(self, value: float) -> None:
        self.n_values += 1
        self.value += (value - self.value) * max(WEIGHT, 1 / self.n_values)


class Capacity:
    """Expected load of the admitted streams; 1 is all that was measured to be possible."""

    def __init__(self, max_load: float, max_queue_wait_s: float, n_workers: int = 1) -> None:
        self._max_load = max_load
        self._max_queue_wait_s = max_queue_wait_s
        self._n_workers = n_workers
        self._batch_s: dict[int, _Mean] = {}
        self._loop_s = _Mean()
        self._demand = 0.0

    def batch_scored(self, n_segments: int, inference_s: float) -> None:
        """What a batch took in its thread."""
        self._batch_s.setdefault(n_segments, _Mean()).accept(inference_s)

    def segment_handled(self, loop_s: float) -> None:
        """What a segment took of the event loop: features and the sending."""
        self._loop_s.accept(loop_s)

    def load(self, demand: float = 0.0) -> float:
        """Expected load with `demand` segments a second more than now."""
        total = self._demand + demand
        return total * max(self._inference_s() / self._n_workers, self._known(self._loop_s))

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

    def _known(self, mean: _Mean) -> float:
        return mean.value if mean.n_values >= MIN_MEASURED else 0.0

    def check(self, demand: float, oldest_wait_s: float, *, is_resumed: bool = False) -> None:
        """Raises `Overloaded` when a stream of `demand` segments a second would be too much.

        The first stream is always admitted, or a wrong estimate would never be mended. One that
        goes on was admitted before: it is refused only where segments stand still.
        """
        if oldest_wait_s > self._max_queue_wait_s:
            raise Overloaded(
                f"segments wait {oldest_wait_s:.1f} s for inference already",
                remedy="try again later, or elsewhere",
                retry_after_s=5.0,
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
