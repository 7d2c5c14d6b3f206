"""Numbers used once: each is remembered for as long as it could come again, and taken once."""

from collections import deque

from service.shared import Shared


class Full(Exception):
    """As many as may be are remembered: to forget one early would let it be used again."""


class Nonces:
    """Those taken in the last `lifetime_s`, `max_nonces` at most.

    With `shared` none is taken that another process took under the same `prefix`.
    """

    def __init__(
        self,
        lifetime_s: float,
        max_nonces: int,
        shared: Shared | None = None,
        prefix: str = "",
    ) -> None:
        self._lifetime_s = lifetime_s
        self._max_nonces = max_nonces
        self._shared = shared
        self._prefix = prefix
        self._taken: set[str] = set()
        self._order: deque[tuple[float, str]] = deque()  # by the time that they are forgotten

    def take(self, nonce: str, now_s: float) -> bool:
        """Whether it is new, and is taken; raises `Full`, and `Unavailable` as `Shared` does."""
        while self._order and self._order[0][0] < now_s:
            self._forget(self._order.popleft()[1])
        if nonce in self._taken:
            return False
        if len(self._taken) >= self._max_nonces:
            raise Full
        if self._shared is not None and not self._shared.claim(self._prefix + nonce):
            return False
        self._taken.add(nonce)
        self._order.append((now_s + self._lifetime_s, nonce))
        return True

    def _forget(self, nonce: str) -> None:
        self._taken.discard(nonce)
        if self._shared is not None:
            self._shared.forget(self._prefix + nonce)
