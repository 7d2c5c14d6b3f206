"""Stacks are put to the stage of their innermost frame that is known."""

import pytest

from benchmarks.stage import stage_of


@pytest.mark.parametrize(
    ("stack", "stage"),
    [
        (["run (uvicorn/server.py:1)", "receive_audio (ser_core/session.py:2)"], "session"),
        (["accept (ser_core/channel.py:1)", "sort (numpy/_core/fromnumeric.py:2)"], "session"),
        (["accept (ser_core/channel.py:1)", "quantile (ser_core/features.py:2)"], "features"),
        (["run (asyncio/runners.py:1)"], "event loop and sockets"),
        (["refresh (service/keys.py:3)"], "other"),
        ([], "other"),
    ],
)
def test_the_innermost_frame_decides(stack: list[str], stage: str) -> None:
    assert stage_of(stack) == stage
