"""How late the event loop is."""

import asyncio
import gc
import subprocess
import sys
import time

from service.event_loop import PERIOD_S, SWITCH_S, StallMeter


async def test_what_holds_the_loop_up_is_seen_once_and_not_after_the_end() -> None:
    seen: list[float] = []
    meter = StallMeter(seen.append)
    meter.start()
    await asyncio.sleep(2.5 * PERIOD_S)
    assert seen
    n_before = len(seen)
    time.sleep(6 * PERIOD_S)  # noqa: ASYNC251 - this is the stall
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(seen) == n_before + 1  # one event would have waited, not six
    assert seen[-1] >= 5 * PERIOD_S
    meter.stop()
    n_before = len(seen)
    await asyncio.sleep(2 * PERIOD_S)
    assert len(seen) == n_before
    assert min(seen) >= 0


def test_a_meter_that_never_began_can_end() -> None:
    StallMeter(lambda _: None).stop()


def test_what_is_there_when_a_process_has_settled_is_not_looked_through_again() -> None:
    program = """
import gc, sys
from service.event_loop import settle
gc.disable()
settle()
print(gc.get_freeze_count() > 1000, gc.isenabled(), sys.getswitchinterval())
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == ["True", "True", str(SWITCH_S)]
    assert gc.get_freeze_count() == 0  # nor is this process touched by an import
