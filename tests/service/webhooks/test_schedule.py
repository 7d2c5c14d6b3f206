import pytest

from service.webhooks import Schedule


def test_the_waits_in_order_then_no_more() -> None:
    schedule = Schedule((5, 300), jitter=0)
    assert [schedule.wait_s(n) for n in (1, 2, 3)] == [5, 300, None]
    assert Schedule(()).wait_s(1) is None


def test_days_in_all() -> None:
    assert sum(Schedule().waits_s) > 3 * 86_400


@pytest.mark.parametrize(("drawn", "wait_s"), [(0.0, 100), (0.5, 110), (1.0, 120)])
def test_a_share_at_random(drawn: float, wait_s: float) -> None:
    assert Schedule((100,), jitter=0.2).wait_s(1, draw=lambda: drawn) == pytest.approx(wait_s)


def test_what_failed_together_does_not_come_back_together() -> None:
    assert len({Schedule((100,)).wait_s(1) for _ in range(20)}) > 10


@pytest.mark.parametrize(
    ("asked_s", "wait_s"), [(None, 100), (3, 100), (1000, 1000), (1e9, 86_400)]
)
def test_at_least_what_the_receiver_asks_for(asked_s: float | None, wait_s: float) -> None:
    assert Schedule((100,), jitter=0).wait_s(1, asked_s) == wait_s
