"""When a webhook that failed is tried again: soon, then rarely, for more than three days."""

import random
from collections.abc import Callable
from dataclasses import dataclass

#: The longest that a receiver's `Retry-After` can put off an attempt.
MAX_RETRY_AFTER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """Waits between attempts, in seconds; after the last one a message is given up.

    The default is what Standard Webhooks recommends ("Retry schedule"), 76 hours in all. `jitter`
    is the share of a wait that is drawn at random on top, so that what failed together does not
    come back together.
    """

    waits_s: tuple[float, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    jitter: float = 0.2

    def wait_s(
        self,
        n_failed: int,
        retry_after_s: float | None = None,
        draw: Callable[[], float] = random.random,
    ) -> float | None:
        """How long to wait after the `n_failed`th failure (1: the first); `None`: no more.

        At least what the receiver asked for; `draw` gives numbers from 0 to 1.
        """
        if n_failed > len(self.waits_s):
            return None
        wait_s = self.waits_s[n_failed - 1] * (1 + self.jitter * draw())
        return max(wait_s, min(retry_after_s or 0.0, MAX_RETRY_AFTER_S))
