"""Tracks whose chunks come each with its own time, put on one timeline.

    timeline = Timeline(n_tracks=2)
    at = timeline.time_of(track, stamp)
    timeline.place(track, at, data)     # in any order, within `HOLD_SAMPLES`
    audio = timeline.ready()            # interleaved, without gaps; what did not come is silence

Time is a sample index from the start of the stream, at 8 kHz; samples are mu-law bytes (G.711).

What comes late now and then is dropped. A track that is late as a whole, for its clock is behind
the other's or drifts away from it, is moved: it has an offset to its stamps from then on.
"""

from bisect import insort
from collections import deque
from typing import Final

#: mu-law of zero.
SILENCE: Final = b"\xff"
#: How long a chunk is waited for that others have overtaken: 0.2 s.
HOLD_SAMPLES: Final = 1600
#: A chunk this near to its track's end (10 ms) follows it: times are in milliseconds, and jitter.
SNAP_SAMPLES: Final = 80
#: A track is late as a whole when so much of it (1 s) was behind the track that is ahead ...
STEADY_SAMPLES: Final = 8000
#: ... by at least 20 ms, and by the same up to 0.4 s: it does not catch up.
BEHIND_SAMPLES: Final = 160
SPREAD_SAMPLES: Final = 2 * HOLD_SAMPLES


class Timeline:
    """What is held of each track; `n_late` samples came too late to be placed."""

    def __init__(self, n_tracks: int) -> None:
        self._tracks = [_Track() for _ in range(n_tracks)]
        self._given = 0
        self.n_late = 0

    @property
    def end(self) -> int:
        """Where the track that is ahead ends."""
        return max(self._given, *(track.end for track in self._tracks))

    def time_of(self, track: int, stamp: int) -> int:
        """Where a chunk belongs that its track says is at `stamp`."""
        return stamp + self._tracks[track].offset

    def is_leap(self, at: int) -> bool:
        """Whether a chunk at `at` leaves a gap on all tracks that is not worth waiting in."""
        return at > self.end + HOLD_SAMPLES

    def leap(self, at: int) -> tuple[bytes, int]:
        """All that is held, and how many samples of silence follow it up to a chunk at `at`."""
        rest = self.rest()
        n_missing = at - HOLD_SAMPLES - self._given
        self._given += n_missing
        return rest, n_missing

    def place(self, track: int, at: int, data: bytes) -> int:
        """Puts a chunk that is no leap in its place; what comes too late of it is dropped.

        A chunk that is late with all its track moves the track, and itself with it. Returns by how
        much later: 0 but for these.
        """
        place = self._tracks[track]
        place.note(self.end - at - len(data), len(data))
        if 0 < place.end >= self._given and abs(at - place.end) <= SNAP_SAMPLES:
            at = place.end
        n_moved = place.move() if at < self._given else 0
        at += n_moved
        n_late = min(len(data), max(0, self._given - at))
        self.n_late += n_late
        if n_late < len(data):
            place.put(at + n_late, data[n_late:], self._given)
        return n_moved

    def ready(self) -> bytes:
        """What is there of all tracks, or old enough to be taken as lost; interleaved."""
        whole = min(max(self._given, track.whole) for track in self._tracks)
        return self._take(max(whole, self.end - HOLD_SAMPLES))

    def rest(self) -> bytes:
        """All that is held, interleaved; the shorter track is filled with silence."""
        return self._take(self.end)

    def _take(self, until: int) -> bytes:
        n_samples = until - self._given
        if n_samples <= 0:
            return b""
        n_tracks = len(self._tracks)
        taken = bytearray(n_samples * n_tracks)
        for index, track in enumerate(self._tracks):
            taken[index::n_tracks] = track.take(n_samples, until)
        self._given = until
        return bytes(taken)


class _Track:
    """One track from what was given of it on: `whole` up to where it has no hole."""

    def __init__(self) -> None:
        self.end = self.whole = 0
        self.offset = 0
        self._lately: deque[tuple[int, int]] = deque()  # chunks: samples behind, samples long
        self._n_lately = 0
        self._held = bytearray()
        self._beyond: list[tuple[int, int]] = []  # chunks behind a hole: from, to

    def note(self, n_behind: int, n_samples: int) -> None:
        """So many samples came, and end `n_behind` before the track that is ahead does.

        However long it is, one chunk does not speak for its track.
        """
        if not n_samples:
            return
        n_samples = min(n_samples, STEADY_SAMPLES // 2)
        self._lately.append((n_behind, n_samples))
        self._n_lately += n_samples
        while self._n_lately - self._lately[0][1] >= STEADY_SAMPLES:
            self._n_lately -= self._lately.popleft()[1]

    def move(self) -> int:
        """Puts the track level with the one ahead if it is late as a whole; by how much."""
        least = min((n_behind for n_behind, _ in self._lately), default=0)
        most = max((n_behind for n_behind, _ in self._lately), default=0)
        is_steady = self._n_lately >= STEADY_SAMPLES and most - least <= SPREAD_SAMPLES
        if not is_steady or least < BEHIND_SAMPLES:
            return 0
        self._lately.clear()
        self._n_lately = 0
        self.offset += least
        return least

    def put(self, at: int, data: bytes, given: int) -> None:
        start, stop = at - given, at + len(data)
        self._held.extend(SILENCE * (start - len(self._held)))
        self._held[start : start + len(data)] = data
        self.end = max(self.end, stop)
        insort(self._beyond, (at, stop))
        self._close_holes(given)

    def take(self, n_samples: int, until: int) -> bytes:
        head = bytes(self._held[:n_samples])
        del self._held[:n_samples]
        self._close_holes(until)
        return head + SILENCE * (n_samples - len(head))

    def _close_holes(self, given: int) -> None:
        self.whole = max(self.whole, given)
        while self._beyond and self._beyond[0][0] <= self.whole:
            self.whole = max(self.whole, self._beyond.pop(0)[1])
