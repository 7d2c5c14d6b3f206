"""How much of what was sent has arrived, told by pings among the audio; when a line is dead."""

from typing import Final

from glrf_client.errors import StreamClosed
from glrf_client.format import AudioFormat

#: A ping follows so much audio, or comes so long after it.
_MARK_S: Final = 1.0
#: One comes so often where nothing is sent.
_PING_S: Final = 4.0
#: Nothing that comes for so long while something should ends a line. Long enough for a server that
#: is behind and reads no more for a while.
_QUIET_S: Final = 8.0
#: Audio that may be under way: little enough that pongs to the server's own pings come in time
#: over a slow line, and enough for a fast one that is long.
_UNDER_WAY_S: Final = 4.0


class Flight:
    """Of one connection, whose audio begins at `place` of the stream.

    The buffers along a slow line take minutes of audio, which seems to be sent then. The pong to a
    ping behind it tells that it has arrived. Without I/O: times in seconds are those of the
    caller's clock.
    """

    def __init__(self, audio: AudioFormat, place: int, now_s: float) -> None:
        self._audio = audio
        self._sent = self._marked = place
        #: What the server has, up to this place.
        self.arrived = place
        self._ping_at_s = now_s + _PING_S
        self._is_command_sent = False
        self._n_asked = self._n_answered = 0
        self._quiet_since_s: float | None = None

    def is_full(self, n_places: int) -> bool:
        """Whether audio of such a length has to wait until more has arrived."""
        return self._is_beyond(self.arrived, n_places, _UNDER_WAY_S)

    def is_ping_due(self, n_places: int, now_s: float) -> bool:
        """Whether to ping, before audio of such a length is sent."""
        is_far = self._is_beyond(self._marked, n_places, _MARK_S)
        return self._is_command_sent or is_far or now_s >= self._ping_at_s

    def until_ping_s(self, now_s: float) -> float:
        """How long until a ping is due in any case."""
        return max(0.0, self._ping_at_s - now_s)

    def sent(self, place: int, now_s: float, *, is_command: bool) -> None:
        """All up to `place` was sent, a command last or audio."""
        if self._sent == self._marked:
            self._ping_at_s = min(self._ping_at_s, now_s + _MARK_S)
        self._sent, self._is_command_sent = place, is_command

    def ping(self, now_s: float) -> int:
        """A ping is sent; the place that `answered` takes."""
        self._marked, self._is_command_sent = self._sent, False
        self._ping_at_s = now_s + _PING_S
        self._n_asked += 1
        return self._marked

    def answered(self, place: int) -> None:
        """The pong to the oldest ping has come."""
        self._n_answered += 1
        self.arrived = place
        self.heard()

    def heard(self) -> None:
        """Something came."""
        self._quiet_since_s = None

    def check(self, is_backed_up: bool, now_s: float) -> None:
        """Raises `StreamClosed` where nothing comes while pings or audio wait to get through."""
        is_awaited = is_backed_up or self._n_asked > self._n_answered
        if self._quiet_since_s is None or not is_awaited:
            self._quiet_since_s = now_s
        elif now_s - self._quiet_since_s >= _QUIET_S:
            raise StreamClosed(1006, f"nothing came for {_QUIET_S:g} s")

    def _is_beyond(self, place: int, n_places: int, limit_s: float) -> bool:
        """Whether more than `limit_s` was sent since `place`, with so much more that follows."""
        under_way = self._sent - place
        return under_way > 0 and self._audio.places_s(under_way + n_places) > limit_s
