"""What one key may take: requests, streams and files at a time, seconds of audio.

Counted in this process (`limits`' memory storage), or in all workers of this server together: with
N replicas a key may have up to N times as much.
"""

import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from ser_core.errors import LimitReached, TooLarge, Unavailable
from service.auth import Caller
from service.settings import Settings
from service.shared import Shared

#: Of one session at a time, those that were asked to end included.
_MAX_CONNECTIONS = 16


@dataclass(frozen=True)
class _Kind:
    """What a key may have a number of at a time, and how one more is refused."""

    plural: str
    remedy: str
    code: str

    def refusal(self, limit: int) -> LimitReached:
        return LimitReached(
            f"this key may have {limit} {self.plural} at a time",
            remedy=f"{self.remedy}, or ask the operator for more",
            code=self.code,
        )


_STREAMS = _Kind("streams", "close one", code="session_quota")
_FILES = _Kind("files", "send the next when one is done", code="file_quota")


@dataclass
class _SessionPlace:
    """One of a caller's places, and how many connections hold it."""

    place: contextlib.ExitStack
    n_connections: int = 0


class Quotas:
    """The counters of one service, by caller; a key's own limits win over the settings'."""

    def __init__(self, settings: Settings, shared: Shared | None = None) -> None:
        self._settings = settings
        self._shared = shared
        self._storage = MemoryStorage() if shared is None else SharedStorage(shared)
        self._limiter = SlidingWindowCounterRateLimiter(self._storage)
        self._n_held: Counter[str] = Counter()
        self._places: dict[tuple[str, str], _SessionPlace] = {}

    async def count_request(self, caller: Caller) -> None:
        """Raises `LimitReached` (`rate_limited`)."""
        limit = caller.limits.requests_per_minute or self._settings.key_requests_per_minute
        if limit is None:
            return
        item = RateLimitItemPerMinute(limit)
        if not await self._limiter.hit(item, "requests", caller.id):
            raise LimitReached(
                f"this key may make {limit} requests a minute",
                remedy="wait, or ask the operator for more",
                code="rate_limited",
                retry_after_s=await self._wait_s(item, "requests", caller),
            )

    def has_place(self, caller: Caller, session_id: str) -> bool:
        """Whether a connection of that session, hanging perhaps, holds one of the places.

        It may be at another worker. Raises `Unavailable`.
        """
        if (caller.id, session_id) in self._places:
            return True
        return self._shared is not None and self._shared.is_held(caller.id, session_id)

    @contextlib.contextmanager
    def session(self, caller: Caller, session_id: str) -> Iterator[None]:
        """Holds one of the caller's streams; raises `LimitReached` (`session_quota`).

        All connections of a session hold one place together, at whatever worker they are: who
        goes on with a stream need not wait until the line that went dead is given up.
        """
        key = (caller.id, session_id)
        if key not in self._places:
            place = contextlib.ExitStack()
            limit = caller.limits.sessions or self._settings.key_sessions
            place.enter_context(self._place(_STREAMS, caller.id, session_id, limit))
            self._places[key] = _SessionPlace(place)
        held = self._places[key]
        if held.n_connections >= _MAX_CONNECTIONS:
            raise LimitReached(
                f"this session has {held.n_connections} connections already",
                remedy="close them; one is enough",
                code="session_quota",
            )
        held.n_connections += 1
        try:
            yield
        finally:
            held.n_connections -= 1
            if not held.n_connections:
                del self._places[key]
                held.place.close()

    @contextlib.contextmanager
    def file(self, caller: Caller) -> Iterator[None]:
        """Holds one of the caller's files, come in as it may; raises `LimitReached` (`file_quota`).

        So that one key's uploads on a slow line leave places to the others.
        """
        limit = caller.limits.files or self._settings.key_files
        if limit is None:
            yield
            return
        with self._place(_FILES, f"files of {caller.id}", uuid.uuid4().hex, limit):
            yield

    @contextlib.contextmanager
    def _place(self, kind: _Kind, name: str, holder: str, limit: int | None) -> Iterator[None]:
        if self._shared is not None:
            with contextlib.ExitStack() as place:
                try:
                    is_held = place.enter_context(self._shared.place(name, holder, limit))
                except Unavailable:
                    if limit is not None:
                        raise
                    is_held = True  # nothing is counted: it is only that no other worker knows
                if limit is not None and not is_held:
                    raise kind.refusal(limit)
                yield
            return
        if limit is not None and self._n_held[name] >= limit:
            raise kind.refusal(limit)
        self._n_held[name] += 1
        try:
            yield
        finally:
            self._n_held[name] -= 1
            if not self._n_held[name]:
                del self._n_held[name]

    def audio_limit(self, caller: Caller) -> int | None:
        """Seconds of audio an hour; `None` where the caller's audio is not counted."""
        return caller.limits.audio_s_per_hour or self._settings.key_audio_s_per_hour

    async def check_audio(self, caller: Caller, n_s: int) -> None:
        """Raises what charging these seconds would, and charges nothing.

        Raises `TooLarge` besides, for more than the caller may send in any hour.
        """
        limit = self.audio_limit(caller)
        if limit is None:
            return
        if n_s > limit:
            raise TooLarge(
                f"the audio has {n_s} s, and this key may send {limit} s an hour",
                remedy="send it in parts, an hour apart, or ask the operator for more",
            )
        item = RateLimitItemPerHour(limit)
        if not await self._limiter.test(item, "audio", caller.id, cost=n_s):
            raise await self._exhausted(item, caller, n_s)

    async def charge_audio(self, caller: Caller, n_s: int) -> None:
        """Takes seconds of the caller's audio; raises `LimitReached` (`quota_exhausted`)."""
        limit = self.audio_limit(caller)
        if limit is None:
            return
        item = RateLimitItemPerHour(limit)
        if not await self._limiter.hit(item, "audio", caller.id, cost=n_s):
            raise await self._exhausted(item, caller, n_s)

    async def _exhausted(self, item: RateLimitItem, caller: Caller, n_s: int) -> LimitReached:
        return LimitReached(
            f"this key may send {item.amount} s of audio an hour",
            remedy="wait, or ask the operator for more",
            code="quota_exhausted",
            retry_after_s=await self._wait_s(item, "audio", caller, n_s),
        )

    async def _wait_s(self, item: RateLimitItem, what: str, caller: Caller, cost: int = 1) -> float:
        """Seconds until so much is free, should nothing else be taken.

        The limiter counts this window's hits whole and the last one's by the share of it that the
        sliding window still holds, so what was taken becomes free at an even rate. It rounds down.
        """
        window_s = item.get_expiry()
        previous, previous_left_s, current, current_left_s = await self._storage.get_sliding_window(
            item.key_for(what, caller.id), window_s
        )
        room = item.amount - cost + 0.999
        if current <= room:
            wait_s = previous_left_s - (room - current) * window_s / max(1, previous)
        else:
            wait_s = current_left_s - room * window_s / current
        return max(1.0, wait_s)


class SharedStorage(MemoryStorage):
    """`limits`' storage with its counters in what the workers share."""

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self._shared = shared

    async def get(self, key: str) -> int:
        """A counter's value."""
        return self._shared.count(key)

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Adds, and gives the new value."""
        return self._shared.add(key, amount, expiry)

    async def decr(self, key: str, amount: int = 1) -> int:
        """Takes back what was added a moment ago."""
        return self._shared.add(key, -amount, 0.0)
