import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.telephony.timeline import (
    HOLD_SAMPLES,
    SILENCE,
    SNAP_SAMPLES,
    STEADY_SAMPLES,
    Timeline,
)

CHUNK = 160  # samples: 20 ms
MARK = 0x80  # where a chunk of `Marked` begins


def data(n: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(n).replace(SILENCE, b"\0")


def test_what_is_whole_is_given_at_once() -> None:
    timeline = Timeline(1)
    timeline.place(0, 0, b"ab")
    assert timeline.ready() == b"ab"
    timeline.place(0, 2, b"c")
    assert timeline.ready() == b"c"
    assert timeline.rest() == b""


def test_tracks_are_interleaved_as_far_as_both_reach() -> None:
    timeline = Timeline(2)
    timeline.place(0, 0, b"abcd")
    assert timeline.ready() == b""
    timeline.place(1, 0, b"xy")
    assert timeline.ready() == b"axby"
    assert timeline.rest() == b"c" + SILENCE + b"d" + SILENCE


def test_a_track_that_stays_away_is_not_waited_for_longer() -> None:
    timeline = Timeline(2)
    audio = data(HOLD_SAMPLES + 100)
    timeline.place(0, 0, audio)
    ready = timeline.ready()
    assert (ready[::2], ready[1::2]) == (audio[:100], SILENCE * 100)
    timeline.place(1, 50, b"x" * 100)
    assert timeline.n_late == 50
    rest = timeline.rest()
    assert (rest[::2], rest[1::2]) == (audio[100:], b"x" * 50 + SILENCE * (HOLD_SAMPLES - 50))


def test_a_chunk_that_was_overtaken_is_put_in_its_place() -> None:
    timeline = Timeline(1)
    timeline.place(0, 0, b"a" * 160)
    timeline.place(0, 320, b"c" * 160)
    assert timeline.ready() == b"a" * 160
    timeline.place(0, 160, b"b" * 160)
    assert timeline.ready() == b"b" * 160 + b"c" * 160
    assert timeline.n_late == 0


def test_a_chunk_that_is_lost_is_silence() -> None:
    timeline = Timeline(1)
    timeline.place(0, 160, b"b" * 160)
    timeline.place(0, 320, b"c" * (HOLD_SAMPLES - 160))
    assert timeline.ready() == SILENCE * 160
    timeline.place(0, 0, b"a" * 160)
    assert (timeline.n_late, timeline.ready()) == (160, b"b" * 160 + b"c" * (HOLD_SAMPLES - 160))


def test_a_time_that_is_off_a_little_leaves_no_hole() -> None:
    timeline = Timeline(1)
    timeline.place(0, 0, b"a" * 160)
    timeline.place(0, 160 + SNAP_SAMPLES, b"b" * 160)
    timeline.place(0, 320 - SNAP_SAMPLES, b"c" * 160)
    assert timeline.ready() == b"a" * 160 + b"b" * 160 + b"c" * 160


def test_a_chunk_that_comes_twice_is_there_once() -> None:
    timeline = Timeline(1)
    for at in (0, 320, 320, 160):
        timeline.place(0, at, bytes([at // 160]) * 160)
    assert timeline.ready() == b"\0" * 160 + b"\1" * 160 + b"\2" * 160


def test_a_leap_gives_what_is_held_and_the_length_of_the_gap() -> None:
    timeline = Timeline(2)
    timeline.place(0, 0, b"a" * 100)
    assert not timeline.is_leap(100 + HOLD_SAMPLES)
    assert timeline.is_leap(101 + HOLD_SAMPLES)
    rest, n_missing = timeline.leap(100_000)
    assert rest[::2] == b"a" * 100
    assert n_missing == 100_000 - HOLD_SAMPLES - 100
    timeline.place(1, 100_000, b"b" * 100)
    rest = timeline.rest()
    assert rest[1::2] == SILENCE * HOLD_SAMPLES + b"b" * 100
    assert rest[::2] == SILENCE * (HOLD_SAMPLES + 100)


@settings(deadline=None)
@given(
    n_tracks=st.integers(1, 2),
    n_chunks=st.integers(1, 60),
    lost=st.sets(st.integers(0, 119), max_size=20),
    seed=st.integers(0, 2**16),
)
def test_any_order_within_the_hold_gives_the_same(
    n_tracks: int, n_chunks: int, lost: set[int], seed: int
) -> None:
    tracks = [data(n_chunks * 160, seed + index) for index in range(n_tracks)]
    chunks = [
        (i * 160, track)
        for i in range(n_chunks)
        for track in range(n_tracks)
        if i * n_tracks + track not in lost
    ]
    expected = [bytearray(SILENCE * len(tracks[0])) for _ in tracks]
    for at, track in chunks:
        expected[track][at : at + 160] = tracks[track][at : at + 160]
    # Nobody is overtaken by more than 4 chunks, 80 ms.
    order = sorted(chunks, key=lambda c: c[0] + random.Random(hash((seed, c))).randrange(640))
    timeline = Timeline(n_tracks)
    audio = b""
    for at, track in order:
        if timeline.is_leap(at):
            held, n_missing = timeline.leap(at)
            audio += held + SILENCE * (n_missing * n_tracks)
        timeline.place(track, at, tracks[track][at : at + 160])
        audio += timeline.ready()
    audio += timeline.rest()
    for index in range(n_tracks):
        got = audio[index::n_tracks]
        assert got == bytes(expected[index][: len(got)])
        assert set(expected[index][len(got) :]) <= {0xFF}
    assert timeline.n_late == 0


# --- a track that is late as a whole


class Marked:
    """Plays numbered chunks to a timeline, and finds out which of them were given."""

    def __init__(self, n_tracks: int = 2) -> None:
        self.timeline = Timeline(n_tracks)
        self.moves: list[tuple[int, int]] = []
        self._n_tracks = n_tracks
        self._audio = bytearray()

    def play(self, chunks: Iterable[tuple[int, int, int]]) -> None:
        """Chunks as (track, stamp, number), in the order in which they come."""
        for track, stamp, number in chunks:
            at = self.timeline.time_of(track, stamp)
            if self.timeline.is_leap(at):
                held, n_missing = self.timeline.leap(at)
                self._audio += held + SILENCE * (n_missing * self._n_tracks)
            number_bytes = bytes(number >> shift & 0x7F for shift in (14, 7, 0))
            data = bytes([MARK]) + number_bytes + b"\x7f" * (CHUNK - 4)
            if n_moved := self.timeline.place(track, at, data):
                self.moves.append((track, n_moved))
            self._audio += self.timeline.ready()
        self._audio += self.timeline.rest()

    def given(self, track: int) -> dict[int, int]:
        """The numbers of a track's chunks that were given with their beginning, and where."""
        audio = bytes(self._audio[track :: self._n_tracks])
        found: dict[int, int] = {}
        at = audio.find(MARK)
        while 0 <= at < len(audio) - 3:
            high, middle, low = audio[at + 1 : at + 4]
            if SILENCE[0] not in (high, middle, low):
                number = high << 14 | middle << 7 | low
                assert number not in found  # nothing is given out twice
                found[number] = at
            at = audio.find(MARK, at + 1)
        assert len(found) * (CHUNK - 4) <= len(audio) - audio.count(SILENCE)
        return found


def in_turns(n_chunks: int, *skews: float, ppm: float = 0) -> Iterable[tuple[int, int, int]]:
    """Tracks whose stamps are off by so many samples; the last track's clock drifts by `ppm`."""
    for number in range(n_chunks):
        for track, skew in enumerate(skews):
            rate = 1 + ppm * 1e-6 * (track == len(skews) - 1)
            yield track, round(number * CHUNK * rate + skew), number


SECOND = STEADY_SAMPLES // CHUNK


@settings(deadline=None)
@given(
    skew=st.integers(0, 1_000_000),
    jitter=st.integers(0, HOLD_SAMPLES // 2),
    is_behind=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_a_constant_skew_costs_a_second_or_two(
    skew: int, jitter: int, is_behind: bool, seed: int
) -> None:
    delay = random.Random(seed).randrange
    n_chunks = 6 * SECOND
    chunks = [
        (number * CHUNK + delay(jitter + 1), (track, stamp, number))
        for track, stamp, number in in_turns(n_chunks, *((skew, 0) if is_behind else (0, skew)))
    ]
    player = Marked()
    player.play(chunk for _, chunk in sorted(chunks))
    lost = [set(range(n_chunks)) - set(player.given(track)) for track in (0, 1)]
    ahead, behind = lost if is_behind else reversed(lost)
    assert not ahead
    assert len(behind) <= 2.5 * SECOND


@pytest.mark.parametrize("n_behind", [1440, 1500, 1760, 2400, 40_000])
def test_a_track_that_was_moved_is_level_with_the_other(n_behind: int) -> None:
    player = Marked()
    player.play(in_turns(4 * SECOND, n_behind, 0))
    ahead, behind = player.given(0), player.given(1)
    assert len(ahead) == 4 * SECOND
    if n_behind + CHUNK <= HOLD_SAMPLES:
        assert (player.moves, len(behind)) == ([], 4 * SECOND)
    else:
        assert player.moves == [(1, n_behind)]
        assert list(behind) == list(range(SECOND - 1, 4 * SECOND))
        assert all(ahead[number] == at for number, at in behind.items())


@settings(deadline=None)
@given(jitter=st.integers(0, HOLD_SAMPLES - CHUNK), seed=st.integers(0, 2**16))
def test_jitter_within_the_hold_loses_nothing(jitter: int, seed: int) -> None:
    delay = random.Random(seed).randrange
    n_chunks = 3 * SECOND
    chunks = [
        (number * CHUNK + delay(jitter + 1), (track, stamp, number))
        for track, stamp, number in in_turns(n_chunks, 0, 0)
    ]
    player = Marked()
    player.play(chunk for _, chunk in sorted(chunks))
    assert not player.moves
    assert len(player.given(0)) == len(player.given(1)) == n_chunks


@pytest.mark.parametrize(("ppm", "minutes"), [(-8000, 2), (-800, 10), (800, 10), (8000, 2)])
@pytest.mark.parametrize("jitter", [0, 400, 800])
def test_clocks_that_drift_apart_lose_little_at_each_move(
    ppm: int, minutes: int, jitter: int
) -> None:
    delay = random.Random(ppm).randrange
    n_chunks = minutes * 60 * SECOND
    chunks = [
        (number * CHUNK + delay(jitter + 1), (track, stamp, number))
        for track, stamp, number in in_turns(n_chunks, 0, 0, ppm=ppm)
    ]
    player = Marked()
    player.play(chunk for _, chunk in sorted(chunks))
    assert {track for track, _ in player.moves} == {int(ppm < 0)}
    moved = sum(n_moved for _, n_moved in player.moves)
    drift = abs(ppm) * 1e-6 * n_chunks * CHUNK
    assert drift - HOLD_SAMPLES <= moved <= drift
    assert player.timeline.n_late <= len(player.moves) * STEADY_SAMPLES // 2


def test_stragglers_do_not_move_their_track() -> None:
    chunks = list(in_turns(10 * SECOND, 0, 0))
    for i in range(SECOND, len(chunks) - 200, 20):  # 5 %, half a second late
        chunks.insert(i + 50, chunks.pop(i))
    player = Marked()
    player.play(chunks)
    assert not player.moves
    assert player.timeline.n_late > 10 * CHUNK


def test_a_track_that_catches_up_is_not_moved() -> None:
    """Held up for 1.5 s, it comes at once."""
    chunks = list(in_turns(10 * SECOND, 0, 0))
    held_up = [chunk for chunk in chunks[200:350] if chunk[0] == 1]
    chunks[200:350] = [chunk for chunk in chunks[200:350] if chunk[0] == 0] + held_up
    player = Marked()
    player.play(chunks)
    assert not player.moves
    assert player.timeline.n_late == 1.5 * SECOND * CHUNK - HOLD_SAMPLES


def test_one_chunk_is_no_track() -> None:
    timeline = Timeline(2)
    timeline.place(0, 0, data(100_000))
    timeline.ready()
    assert timeline.place(1, 0, data(50_000)) == 0
    assert timeline.place(1, 50, b"") == 0
    assert timeline.n_late == 50_000
