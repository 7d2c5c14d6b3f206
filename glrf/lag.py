"""How late results are, as a client sees it: audio's last sample sent to the event received."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence


class LagMeter:
    """Remembers when each piece of audio was sent; tells the lag of each event about it.

    It counts from the chunk that held the event's last sample, so network, queues and computing
    are all in it, and the 2 s that a segment is long are not.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_ms: list[float] = []
        self._sent_at_s: list[float] = []
        self._started_at_s: float | None = None
        self.lags_ms: list[float] = []
        self.first_label_ms: float | None = None

    def sent(self, end_ms: float) -> None:
        """Audio up to `end_ms` of the stream is about to be sent."""
        now_s = self._clock()
        if self._started_at_s is None:
            self._started_at_s = now_s
        self._ends_ms.append(end_ms)
        self._sent_at_s.append(now_s)

    def received(self, end_ms: float, *, has_label: bool) -> float | None:
        """An event about audio up to `end_ms` came; its lag in ms, `None` if it wasn't sent."""
        now_s = self._clock()
        if has_label and self.first_label_ms is None and self._started_at_s is not None:
            self.first_label_ms = (now_s - self._started_at_s) * 1000
        index = bisect_left(self._ends_ms, end_ms)
        if index == len(self._ends_ms):
            return None
        lag_ms = (now_s - self._sent_at_s[index]) * 1000
        self.lags_ms.append(lag_ms)
        return lag_ms


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` (0..1) of the values do not exceed; NaN of no values."""
    if not values:
        return float("nan")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
