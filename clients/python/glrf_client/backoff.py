"""How long to wait before the next try: longer each time, at random, and not for ever."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Exponential back-off with full jitter.

    The n-th wait is drawn evenly from 0 to `first_s` x 2^n, at most `longest_s`: clients that
    lost the same server come back spread out. `give_up_after_s` bounds one outage: the last try
    comes so long after its beginning, and not before; 0 never reconnects.
    """

    first_s: float = 0.25
    longest_s: float = 10.0
    give_up_after_s: float = 120.0

    def wait_s(
        self,
        n_tries: int,
        not_before_s: float | None = None,
        draw: Callable[[], float] = random.random,
    ) -> float:
        """Seconds to wait after `n_tries` tries; the server's own `not_before_s` comes on top."""
        ceiling_s = min(self.longest_s, self.first_s * 2 ** min(n_tries, 32))
        return (not_before_s or 0.0) + ceiling_s * draw()

    def next_try_s(
        self, n_tries: int, passed_s: float, not_before_s: float | None = None
    ) -> float | None:
        """`wait_s` when an outage has lasted `passed_s`; `None` when it is time to give up."""
        left_s = self.give_up_after_s - passed_s
        if left_s <= 0 or (not_before_s or 0.0) > left_s:
            return None
        return min(self.wait_s(n_tries, not_before_s), left_s)
