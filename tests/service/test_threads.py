import asyncio
import errno
import threading
import time

import pytest

from service.threads import Threads


async def test_answers_and_errors_come_back() -> None:
    def fail() -> None:
        raise ValueError("no")

    threads = Threads("t", 2)
    assert await asyncio.gather(*(threads.run(pow, n, 2) for n in range(5))) == [0, 1, 4, 9, 16]
    with pytest.raises(ValueError, match="no"):
        await threads.run(fail)
    assert await threads.run(threading.current_thread) in threading.enumerate()


def test_what_hangs_is_given_up_and_what_waits_behind_it_never_begins() -> None:
    gate, begun = threading.Event(), []

    async def run() -> None:
        threads = Threads("the store", 1)
        with pytest.raises(TimeoutError, match="the store: no answer within"):
            await threads.run(gate.wait, patience_s=0.05)
        with pytest.raises(TimeoutError):
            await threads.run(begun.append, 1, patience_s=0.05)
        gate.set()
        assert await threads.run(len, "abc", patience_s=5.0) == 3

    began_s = time.monotonic()
    asyncio.run(run())  # and its end waits for nobody
    assert time.monotonic() - began_s < 5.0
    assert begun == []


@pytest.mark.parametrize("patience_s", [None, 60.0])
async def test_a_time_out_of_the_work_is_its_own(patience_s: float | None) -> None:
    def fail() -> None:
        raise OSError(errno.ETIMEDOUT, "Connection timed out")

    with pytest.raises(TimeoutError) as raised:
        await Threads("t", 1).run(fail, patience_s=patience_s)
    assert raised.value.errno == errno.ETIMEDOUT


async def test_no_more_threads_than_agreed_and_all_are_daemons() -> None:
    threads = Threads("counted", 3)
    await asyncio.gather(*(threads.run(time.sleep, 0.01) for _ in range(20)))
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("counted_")]
    assert len(ours) == 3
    assert all(thread.daemon for thread in ours)
