import random

from hypothesis import given, settings
from hypothesis import strategies as st

from service.telephony.timeline import HOLD_SAMPLES, SILENCE, SNAP_SAMPLES, Timeline


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
