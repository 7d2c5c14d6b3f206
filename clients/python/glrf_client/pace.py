"""How fast a server lets audio come; faster ends the stream with 4429."""

import math
from collections.abc import Mapping
from typing import Any, Final

#: Only so much of the server's allowance is used: its clock is not this one.
_SHARE: Final = 0.9
#: What may go before the server has told its limits, and how often to look whether it has.
_UNTOLD_S: Final = 5.0
_POLL_S: Final = 0.02


class Pace:
    """A bucket of `burst_s` seconds of audio that fills at `speed` seconds a second.

    Of one connection, which was opened at `now_s`.
    """

    def __init__(self, now_s: float) -> None:
        self._speed: float | None = None
        self._burst_s = _UNTOLD_S
        self._missing_s = 0.0
        self._since_s = now_s

    def limit(self, limits: Mapping[str, Any]) -> None:
        """Takes `limits` of `session.created`; one without these has no pace."""
        speed, burst_ms = limits.get("max_speed"), limits.get("burst_ms")
        self._speed = self._burst_s = math.inf
        if isinstance(speed, int | float) and isinstance(burst_ms, int | float):
            self._speed, self._burst_s = _SHARE * speed, _SHARE * burst_ms / 1000

    def wait_s(self, audio_s: float, now_s: float) -> float:
        """How long so much audio has to wait yet, at least; 0 when it may go now.

        More than the whole burst goes when the bucket is full.
        """
        if self._speed is None:
            self._since_s = now_s  # the server counts from its greeting on
            return _POLL_S if self._missing_s + audio_s > self._burst_s else 0.0
        if self._speed == math.inf:
            return 0.0
        self._missing_s = max(0.0, self._missing_s - (now_s - self._since_s) * self._speed)
        self._since_s = now_s
        over_s = self._missing_s + min(audio_s, self._burst_s) - self._burst_s
        return max(0.0, over_s) / self._speed

    def sent(self, audio_s: float) -> None:
        """So much audio was written."""
        self._missing_s += audio_s
