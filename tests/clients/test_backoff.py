import pytest

from glrf_client import Backoff


def test_waits_grow_to_the_longest() -> None:
    backoff = Backoff(first_s=0.25, longest_s=3)
    ceilings = [backoff.wait_s(n_tries, draw=lambda: 1.0) for n_tries in range(6)]
    assert ceilings == [0.25, 0.5, 1, 2, 3, 3]


def test_waits_are_spread_from_nothing_to_the_ceiling() -> None:
    backoff = Backoff(first_s=1)
    waits = [backoff.wait_s(3) for _ in range(500)]
    assert min(waits) < 1 < 7 < max(waits) < 8


def test_the_servers_word_comes_on_top() -> None:
    assert Backoff(first_s=1).wait_s(0, 5.0, draw=lambda: 0.5) == pytest.approx(5.5)


def test_a_thousand_tries_do_not_overflow() -> None:
    assert Backoff().wait_s(5000, draw=lambda: 1.0) == 10
