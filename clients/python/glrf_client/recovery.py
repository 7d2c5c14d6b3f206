"""Which ending of a connection another try can mend, and when to try; when silence is an ending."""

import math
from typing import Final

from glrf_client.backoff import Backoff
from glrf_client.errors import (
    ClientError,
    Refused,
    StreamClosed,
    StreamError,
    StreamRefused,
    TimelineLost,
    Unreachable,
)

#: Close codes after which the stream goes on where no `error` says whether: left, lost, failed,
#: restarting, overloaded, a bad gateway, idle, longest session reached, too fast.
_RESUMED_CODES: Final = frozenset({1001, 1006, 1011, 1012, 1013, 1014, 4408, 4410, 4429})
#: The checkpoint is unknown, forged or expired.
LOST_CODE: Final = 4404
#: Statuses of a refusal that pass by themselves.
_PASSING_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
#: A server that says "later" without a time means at least this.
_LATER_S: Final = 5.0
#: A server that ends has told what it can by then; the rest is told elsewhere.
_MAX_DRAIN_S: Final = 2.0


def is_mendable(error: ClientError) -> bool:
    """Whether to reconnect. The server's own word, where it gave one, is followed."""
    match error:
        case TimelineLost():
            return False
        case StreamError():
            return error.retryable
        case StreamClosed():
            return error.code in _RESUMED_CODES
        case StreamRefused():
            return error.status in _PASSING_STATUSES
        case _:
            return isinstance(error, Unreachable)


def is_repeatable(error: Unreachable | Refused) -> bool:
    """Whether to make a request over HTTP again: nobody answered, or the refusal passes."""
    if isinstance(error, Unreachable):
        return True
    return error.retry_after_s is not None or error.status in _PASSING_STATUSES


def not_before_s(error: ClientError) -> float | None:
    """Seconds that the server asked to wait (`retry_after_ms`, `Retry-After`, or 4429 alone)."""
    match error:
        case StreamError(retry_after_ms=int(wait_ms)):
            return wait_ms / 1000
        case StreamError(close_code=4429) | StreamClosed(code=4429):
            return _LATER_S
        case Refused():
            return error.retry_after_s
        case _:
            return None


class Outage:
    """The time that a stream is without a connection of use, over all tries to get one.

    Without I/O: times in seconds are those of the caller's clock.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._began_s = 0.0
        self._opened_at_s: float | None = None
        self._is_over = True
        self.n_tries = 0

    def opened(self, now_s: float) -> None:
        """There is a connection, which may be of no use."""
        self._opened_at_s = now_s

    def over(self) -> None:
        """The connection was of use: its end begins another outage."""
        self._is_over = True

    def next_try_s(self, error: ClientError, now_s: float, *, is_stalled: bool) -> float | None:
        """Seconds to wait after `error` before another try; `None` when no try can help.

        A connection that stood for long was of use, but for one that `is_stalled`.
        """
        opened_at_s, self._opened_at_s = self._opened_at_s, None
        has_stood = opened_at_s is not None and now_s - opened_at_s > self._backoff.longest_s
        if self._is_over or (has_stood and not is_stalled):
            self._is_over, self.n_tries, self._began_s = False, 0, now_s
        passed_s = now_s - self._began_s
        wait_s = self._backoff.next_try_s(self.n_tries, passed_s, not_before_s(error))
        if wait_s is None or not is_mendable(error):
            return None
        self.n_tries += 1
        return wait_s


class Watch:
    """Of one connection. Without I/O: times in seconds are those of the caller's clock."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._owed_since_s: float | None = None
        self._leave_at_s = math.inf
        #: Whether it was found lost for its silence.
        self.is_stalled = False

    def heard(self) -> None:
        """A message came."""
        self._owed_since_s = None

    def drain(self, deadline_ms: int, now_s: float) -> None:
        """The server ends, in `deadline_ms` at the latest."""
        self._leave_at_s = now_s + min(deadline_ms / 1000, _MAX_DRAIN_S)

    def check(self, is_owed: bool, now_s: float) -> None:
        """Raises `StreamClosed` when the stream has to go on over another connection."""
        if now_s >= self._leave_at_s:
            raise StreamClosed(1012, "the server is ending")
        if self._owed_since_s is None or not is_owed:
            self._owed_since_s = now_s
        elif now_s - self._owed_since_s >= self._stall_s:
            self.is_stalled = True
            raise StreamClosed(1006, f"the server owed an answer for {self._stall_s:g} s")
