"""Which ending of a connection another try can mend, and when to try."""

from typing import Final

from glrf_client.errors import (
    ClientError,
    StreamClosed,
    StreamError,
    StreamRefused,
    TimelineLost,
    Unreachable,
)

#: Close codes after which nothing helps: done, or the client's own mistake, key or rights.
FINAL_CODES: Final = frozenset({1000, 1009, 4400, 4401, 4403, 4415})
#: Close codes after which the stream goes on: lost, failed, restarting, overloaded, a proxy that
#: lost its server, idle, longest session reached, too fast.
RESUMED_CODES: Final = frozenset({1001, 1006, 1011, 1012, 1013, 1014, 4408, 4410, 4429})
#: The checkpoint is unknown, forged or expired.
LOST_CODE: Final = 4404
#: Statuses of a refused handshake that pass by themselves.
_PASSING_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


def is_mendable(error: ClientError) -> bool:
    """Whether to reconnect. The server's own word, where it gave one, is followed."""
    match error:
        case TimelineLost():
            return False
        case StreamError():
            return error.retryable and error.close_code not in FINAL_CODES
        case StreamClosed():
            return error.code in RESUMED_CODES
        case StreamRefused():
            return error.status in _PASSING_STATUSES
        case _:
            return isinstance(error, Unreachable)


def not_before_s(error: ClientError) -> float | None:
    """Seconds that the server asked to wait (`retry_after_ms`, `Retry-After`)."""
    match error:
        case StreamError(retry_after_ms=int(wait_ms)):
            return wait_ms / 1000
        case StreamRefused():
            return error.retry_after_s
        case _:
            return None
