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


def test_the_last_try_comes_when_the_outage_may_last_no_longer() -> None:
    backoff = Backoff(first_s=1000, longest_s=1000, give_up_after_s=60)
    draws = [backoff.next_try_s(0, 50.0) for _ in range(500)]
    assert all(wait_s is not None and 0 < wait_s <= 10 for wait_s in draws)
    assert draws.count(10.0) > 400
    assert backoff.next_try_s(9, 60.0) is None
    assert Backoff(give_up_after_s=0).next_try_s(0, 0.0) is None


def test_a_wait_that_the_server_asks_for_is_not_cut_short() -> None:
    backoff = Backoff(give_up_after_s=60)
    assert backoff.next_try_s(0, 50.0, 11.0) is None
    wait_s = backoff.next_try_s(0, 50.0, 9.9)
    assert wait_s is not None
    assert 9.9 <= wait_s <= 10
