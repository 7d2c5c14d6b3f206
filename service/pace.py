"""How fast audio comes: what a stream may send, whether it is live, and its charge to the key."""

import math
import time
from collections.abc import Callable

from ser_core.errors import LimitReached
from service.auth import Caller
from service.quotas import Quotas

#: Audio that may come before its time in a stream that is live: large chunks, a bad line.
_LIVE_AHEAD_S = 2.0
#: Seconds a second up to which a sender's clock may be fast.
_STILL_LIVE = 1.1


class Pace:
    """A token bucket of audio: `burst_s` seconds, refilled at `speed` seconds a second."""

    def __init__(
        self, speed: float, burst_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._speed, self._burst_s, self._clock = speed, burst_s, clock
        self._left_s = burst_s
        self._ahead_s = 0.0
        self._since_s = clock()

    def take(self, audio_s: float) -> None:
        """Raises `LimitReached` (`too_fast`) when the bucket is empty."""
        now_s = self._clock()
        passed_s = now_s - self._since_s
        self._left_s = min(self._burst_s, self._left_s + passed_s * self._speed) - audio_s
        self._ahead_s = max(0.0, self._ahead_s - passed_s * _STILL_LIVE) + audio_s
        self._since_s = now_s
        if self._left_s < 0:
            raise LimitReached(
                f"the audio comes faster than {self._speed:g} times real time, "
                f"beyond {self._burst_s:g} s at once",
                remedy="send it as it is spoken; whole recordings go to POST /v1/files",
                code="too_fast",
                retry_after_s=max(1.0, -self._left_s / self._speed),
            )

    @property
    def is_live(self) -> bool:
        """Whether the audio comes as it is spoken.

        What an outage held back comes at once; that is forgotten in ten times its duration.
        """
        return self._ahead_s <= _LIVE_AHEAD_S


class AudioMeter:
    """Charges one stream or file for its audio, a whole second at a time and in advance."""

    def __init__(self, quotas: Quotas, caller: Caller, pace: Pace | None = None) -> None:
        self._quotas, self._caller, self._pace = quotas, caller, pace
        self._heard_s = 0.0
        self._n_charged_s = 0
        #: Whether the audio is charged to a quota; else `hear_at_once` does all that `hear` does.
        self.is_charged = quotas.audio_limit(caller) is not None

    def hear_at_once(self, audio_s: float) -> None:
        """As `hear`, for a caller whose audio is not counted; raises `LimitReached`."""
        if self._pace is not None:
            self._pace.take(audio_s)

    @property
    def is_live(self) -> bool:
        """Whether the audio comes as it is spoken, and not faster."""
        return self._pace is None or self._pace.is_live

    async def expect(self, audio_s: float) -> None:
        """Refuses at once what is announced to be more than is left, and charges nothing.

        Raises `LimitReached`, or `TooLarge` where it is more than any hour has.
        """
        await self._quotas.check_audio(self._caller, math.ceil(audio_s))

    async def hear(self, audio_s: float, *, is_replay: bool = False) -> None:
        """Counts audio before it is scored; raises `LimitReached`.

        What a stream that goes on is sent again was charged to the connection before.
        """
        if self._pace is not None:
            self._pace.take(audio_s)
        if is_replay:
            return
        self._heard_s += audio_s
        n_new_s = math.ceil(self._heard_s) - self._n_charged_s
        if n_new_s > 0:
            await self._quotas.charge_audio(self._caller, n_new_s)
            self._n_charged_s += n_new_s
