"""Times are given, nothing is waited for."""

import pytest

from glrf_client import AudioFormat, StreamClosed
from glrf_client.flight import Flight

RATE_HZ = 1000  # of single bytes: places are milliseconds
AUDIO = AudioFormat("mulaw", RATE_HZ, 1)


class Sender:
    """Sends as a session does: a ping where one is due, audio where there is room for it."""

    def __init__(self, n_chunk: int, audio: AudioFormat = AUDIO, place: int = 0) -> None:
        self.flight = Flight(audio, place, 0.0)
        self.n_chunk = n_chunk
        self.place, self.now_s = place, 0.0
        self.pings: list[int] = []

    def send(self, n_chunks: int, *, is_command: bool = False) -> int:
        """How many there was room for."""
        for n in range(n_chunks):
            self.step(self.n_chunk)
            if self.flight.is_full(self.n_chunk):
                return n
            self.place += self.n_chunk
            self.flight.sent(self.place, self.now_s, is_command=is_command)
        return n_chunks

    def step(self, n_places: int = 0) -> None:
        if self.flight.is_ping_due(n_places, self.now_s):
            self.pings.append(self.flight.ping(self.now_s))


@pytest.mark.parametrize(
    ("n_chunk", "pings"),
    [
        (100, [1000, 2000, 3000]),
        (400, [800, 1600, 2400, 3200]),
        (900, [900, 1800, 2700]),
        (1000, [1000, 2000, 3000]),
    ],
)
def test_a_ping_follows_a_second_of_audio_at_most(n_chunk: int, pings: list[int]) -> None:
    sender = Sender(n_chunk)
    sender.send(4000 // n_chunk)
    assert sender.pings == pings


def test_what_is_under_way_is_bounded_from_the_place_where_it_begins() -> None:
    sender = Sender(100, place=70_000)
    assert sender.send(1000) == 40
    assert sender.pings == [71_000, 72_000, 73_000, 74_000]
    sender.flight.answered(71_000)
    assert sender.flight.arrived == 71_000
    assert sender.send(1000) == 10
    for place in (72_000, 73_000, 74_000, 75_000):
        sender.flight.answered(place)
    assert sender.send(1000) == 40


def test_a_chunk_of_any_length_goes_once_the_rest_has_arrived() -> None:
    sender = Sender(9000)
    assert sender.send(2) == 1
    sender.flight.answered(9000)
    assert sender.send(2) == 1


def test_what_has_no_time_is_never_held_back() -> None:
    sender = Sender(100_000, AudioFormat("something", 16_000, 1))
    assert sender.send(1000) == 1000
    assert sender.pings == []


def test_a_ping_follows_a_command() -> None:
    sender = Sender(0)
    sender.send(1, is_command=True)
    sender.step()
    sender.step()
    assert sender.pings == [0]


def test_a_ping_follows_the_last_audio_and_then_comes_now_and_then() -> None:
    sender = Sender(100)
    sender.send(1)
    told = []
    for tenths in range(1, 101):
        sender.now_s = tenths / 10
        sender.step()
        told += [sender.now_s] * (len(sender.pings) > len(told))
    assert told == [1.0, 5.0, 9.0]


class TestWhenALineIsDead:
    def test_a_ping_is_not_answered(self) -> None:
        flight = Flight(AUDIO, 0, 0.0)
        flight.check(False, 0.0)
        flight.check(False, 100.0)
        flight.ping(100.0)
        flight.check(False, 100.1)
        flight.check(False, 107.9)
        with pytest.raises(StreamClosed, match="for 8 s") as lost:
            flight.check(False, 108.0)
        assert lost.value.code == 1006

    def test_audio_is_not_taken(self) -> None:
        flight = Flight(AUDIO, 0, 0.0)
        flight.check(True, 100.0)
        flight.check(True, 107.9)
        with pytest.raises(StreamClosed):
            flight.check(True, 108.0)

    @pytest.mark.parametrize("is_pong", [True, False])
    def test_not_while_anything_comes(self, is_pong: bool) -> None:
        """The pong to the first of many pings is as good as a message."""
        flight = Flight(AUDIO, 0, 0.0)
        for _ in range(40):
            flight.ping(0.0)
        for now_s in range(0, 200, 7):
            flight.check(True, float(now_s))
            if is_pong:
                flight.answered(0)
            else:
                flight.heard()

    def test_not_where_all_is_answered(self) -> None:
        flight = Flight(AUDIO, 0, 0.0)
        for now_s in (0.0, 100.0, 200.0):
            flight.ping(now_s)
            flight.check(False, now_s)
            flight.answered(0)
            flight.check(False, now_s + 7.0)
            flight.check(False, now_s + 99.0)
