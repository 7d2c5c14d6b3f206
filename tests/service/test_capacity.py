import pytest

from ser_core.errors import Overloaded
from service.capacity import MIN_MEASURED, MIN_WINDOW_S, WINDOW_S, Capacity, CpuClocks


def measured(**costs_s: float) -> Capacity:
    """What batches of one and of ten, and the loop, took."""
    capacity = Capacity(max_load=0.9, max_queue_wait_s=2.0)
    for _ in range(MIN_MEASURED):
        capacity.batch_scored(1, costs_s.get("one", 0.0))
        capacity.batch_scored(10, costs_s.get("ten", 0.0))
    spend(capacity, loop=costs_s.get("loop", 0.0), process=costs_s.get("process", 0.0))
    return capacity


def spend(
    capacity: Capacity, *, loop: float = 0.0, process: float = 0.0, n_sent: int = 100
) -> None:
    """A window in which each of so many segments took so much CPU time."""
    capacity.cpu_used(CpuClocks(1.0, 2.0, 100.0))
    send(capacity, n_sent)
    capacity.cpu_used(CpuClocks(1.0 + n_sent * loop, 2.0 + n_sent * process, 101.0))


def send(capacity: Capacity, n_segments: int) -> None:
    for _ in range(n_segments):
        capacity.segment_sent()


def test_nothing_is_refused_before_enough_was_measured() -> None:
    capacity = Capacity(max_load=0.9, max_queue_wait_s=2.0)
    capacity.batch_scored(1, 100.0)
    capacity.take(2.5)
    capacity.check(2.5, 0.0)
    assert capacity.load() == 0.0


@pytest.mark.parametrize(
    ("costs_s", "n_streams"),
    [
        ({"one": 0.01, "ten": 0.1}, 36),  # batches save nothing: 100 segments a second
        ({"one": 0.01, "ten": 0.01}, 360),  # a batch of ten costs as much as one
        ({"one": 0.001, "ten": 0.01, "loop": 0.02}, 18),  # the event loop is the narrow place
        ({"one": 0.001, "loop": 0.001, "process": 0.02}, 18),  # there is one core for all threads
    ],
)
def test_streams_are_admitted_up_to_the_measured_load(
    costs_s: dict[str, float], n_streams: int
) -> None:
    capacity = measured(**costs_s)
    for _ in range(n_streams):
        capacity.check(2.5, 0.0)
        capacity.take(2.5)
    assert capacity.load() == pytest.approx(0.9)
    with pytest.raises(Overloaded, match="measured capacity") as refused:
        capacity.check(2.5, 0.0)
    assert refused.value.retry_after_s == 5.0
    capacity.release(2.5)
    capacity.check(2.5, 0.0)


def test_the_first_stream_is_always_admitted() -> None:
    capacity = measured(one=100.0, ten=1000.0)
    capacity.check(2.5, 0.0)
    capacity.take(2.5)
    with pytest.raises(Overloaded):
        capacity.check(2.5, 0.0)
    capacity.release(2.5)
    assert capacity.load() == 0.0
    capacity.check(2.5, 0.0)


def test_a_stream_that_goes_on_was_admitted_before() -> None:
    capacity = measured(one=100.0, ten=1000.0)
    capacity.take(2.5)
    with pytest.raises(Overloaded):
        capacity.check(2.5, 0.0)
    capacity.check(2.5, 0.0, is_resumed=True)
    with pytest.raises(Overloaded, match=r"wait 2\.5 s") as caught:
        capacity.check(2.5, 2.5, is_resumed=True)
    assert caught.value.retry_after_s == 1  # somebody listens


def test_a_queue_that_stands_still_refuses_also_the_first() -> None:
    with pytest.raises(Overloaded, match=r"wait 2\.5 s"):
        measured().check(2.5, 2.5)


def test_the_load_can_be_ignored() -> None:
    capacity = Capacity(max_load=0.0, max_queue_wait_s=2.0)
    for _ in range(MIN_MEASURED):
        capacity.batch_scored(1, 100.0)
    capacity.take(2.5)
    capacity.check(2.5, 0.0)


def test_the_estimate_follows_the_machine() -> None:
    capacity = measured(one=0.01, ten=0.1)
    for _ in range(500):
        capacity.batch_scored(1, 0.02)
        capacity.batch_scored(10, 0.2)
    assert capacity.load(2.5) == pytest.approx(0.05, rel=0.01)


def test_more_cores_carry_more() -> None:
    capacity = Capacity(max_load=0.9, max_queue_wait_s=2.0, n_cpus=4)
    spend(capacity, loop=0.004, process=0.02)
    assert capacity.load(2.5) == pytest.approx(2.5 * 0.005)
    capacity = Capacity(max_load=0.9, max_queue_wait_s=2.0, n_cpus=4)
    spend(capacity, loop=0.004, process=0.012)
    assert capacity.load(2.5) == pytest.approx(2.5 * 0.004)  # the loop has but one of them


def test_what_an_idle_service_does_is_not_put_on_the_next_segments() -> None:
    capacity = Capacity(max_load=0.9, max_queue_wait_s=2.0)
    now_s, cpu_s = 0.0, 0.0
    for _ in range(1_000):  # keys are looked after, metrics are read: no segments
        now_s, cpu_s = now_s + 1.0, cpu_s + 0.01
        capacity.cpu_used(CpuClocks(cpu_s, cpu_s, now_s))
    send(capacity, 100)
    capacity.cpu_used(CpuClocks(cpu_s + 0.4, cpu_s + 0.4, now_s + 1.0))
    assert capacity.load(2.5) <= 2.5 * (0.4 + 0.01 * (WINDOW_S + 1)) / 100


def test_one_stream_alone_mends_an_estimate_from_when_files_took_the_cores() -> None:
    capacity = Capacity(max_load=0.9, max_queue_wait_s=2.0)
    spend(capacity, loop=0.04, process=0.2, n_sent=MIN_MEASURED)
    now_s, cpu_s = 101.0, 6.0
    capacity.take(2.5)
    with pytest.raises(Overloaded):
        capacity.check(2.5, 0.0)
    for _ in range(600):  # four minutes in which every segment took 12 ms
        send(capacity, 1)
        now_s, cpu_s = now_s + 0.4, cpu_s + 0.012
        capacity.cpu_used(CpuClocks(cpu_s, cpu_s, now_s))
    capacity.check(2.5, 0.0)
    assert capacity.load(2.5) == pytest.approx(5 * 0.012, rel=0.2)


def test_few_segments_never_raise_the_estimate() -> None:
    capacity = Capacity(max_load=0.9, max_queue_wait_s=2.0)
    spend(capacity, loop=0.001, process=0.002)
    before = capacity.load(2.5)
    for window in range(1, 100):  # a stream is open, and almost all that is done is not its own
        send(capacity, 1)
        capacity.cpu_used(CpuClocks(9.0 + window, 9.0 + window, 101.0 + window * (WINDOW_S + 0.1)))
    assert capacity.load(2.5) == before


def test_the_clocks_are_those_of_this_thread_and_process() -> None:
    before = CpuClocks.read()
    for _ in range(200_000):
        pass
    after = CpuClocks.read()
    assert 0 < after.loop_s - before.loop_s <= after.process_s - before.process_s + 1e-3


def test_a_short_window_says_nothing_yet() -> None:
    capacity = Capacity(max_load=0.9, max_queue_wait_s=2.0)
    capacity.cpu_used(CpuClocks(0.0, 0.0, 0.0))
    send(capacity, 100)
    capacity.cpu_used(CpuClocks(0.5, 0.5, 0.5))
    assert capacity.load(2.5) == 0.0
    send(capacity, 50)
    capacity.cpu_used(CpuClocks(0.6, 0.6, MIN_WINDOW_S))
    assert capacity.load(2.5) == pytest.approx(2.5 * 0.6 / 150)
