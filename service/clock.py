"""Sample indices to the milliseconds of the wire, and back."""

import math


class Clock:
    """Sample indices of one stream to milliseconds, shifted by `start_offset_ms`."""

    def __init__(self, rate_hz: int, start_offset_ms: int = 0) -> None:
        self._rate_hz = rate_hz
        self._offset_ms = start_offset_ms

    def at_ms(self, position_samples: int) -> int:
        """A position on the stream's timeline."""
        return self._offset_ms + self.length_ms(position_samples)

    def before_ms(self, position_samples: int) -> int:
        """The last whole millisecond at or before a position that is a whole sample too.

        Every 44.1 kHz client cuts its audio at the same sample then, however it rounds.
        """
        step_ms = 1000 // math.gcd(self._rate_hz, 1000)
        return self._offset_ms + position_samples * 1000 // self._rate_hz // step_ms * step_ms

    def position_of(self, at_ms: int) -> int:
        """The sample at a time that `before_ms` gave."""
        return (at_ms - self._offset_ms) * self._rate_hz // 1000

    def length_ms(self, n_samples: int) -> int:
        """A duration."""
        return round(n_samples * 1000 / self._rate_hz)
