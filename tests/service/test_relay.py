import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from service.relay import MAX_WAITING, Relay
from tests.service.running import until


class Gated:
    """Takes events while its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.taken: list[int] = []

    async def deliver(self, event: dict[str, Any]) -> None:
        await self.gate.wait()
        self.taken.append(event["seq"])


def event(seq: int) -> dict[str, Any]:
    return {"session_id": "one", "seq": seq}


def relay(
    store: Gated, patience_s: float = 60.0, on_lost: Callable[[], None] = lambda: None
) -> Relay:
    return Relay(store.deliver, patience_s, on_lost)


async def test_events_go_one_after_the_other_and_the_end_waits_for_them() -> None:
    store = Gated()
    events = relay(store)
    await events.finish()  # nothing was put
    for seq in range(3):
        events.put(event(seq))
    finishing = asyncio.create_task(events.finish())
    store.gate.set()
    await finishing
    assert store.taken == [0, 1, 2]
    events.put(event(3))
    await events.finish()
    assert store.taken == [0, 1, 2, 3]


async def test_what_finds_too_many_before_it_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    store = Gated()
    events = relay(store)
    for seq in range(MAX_WAITING + 2):
        events.put(event(seq))
    assert caplog.text.count(f"session one: a webhook could not be told: {MAX_WAITING}") == 2
    store.gate.set()
    await events.finish()
    assert store.taken == list(range(MAX_WAITING))


async def test_what_is_not_taken_in_time_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    store = Gated()
    events = relay(store, patience_s=0.05)
    events.put(event(0))
    await until(lambda: "could not be told: TimeoutError" in caplog.text)
    store.gate.set()
    events.put(event(1))
    await events.finish()
    assert store.taken == [1]


async def test_the_end_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[None] = []
    events = relay(Gated(), patience_s=0.05, on_lost=lambda: lost.append(None))
    for seq in range(3):
        events.put(event(seq))
    await events.finish()
    assert caplog.text.count("a webhook could not be told") == len(lost) == 3


class Failing(Gated):
    """A store that is away for some attempts."""

    def __init__(self, n_failures: int) -> None:
        super().__init__()
        self.gate.set()
        self.n_failures = n_failures

    async def deliver(self, event: dict[str, Any]) -> None:
        if self.n_failures > 0:
            self.n_failures -= 1
            raise OSError("the disk is full")
        await super().deliver(event)


async def test_a_store_that_fails_for_a_moment_is_asked_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.relay.RETRY_S", 0.001)
    store = Failing(n_failures=2)
    events = relay(store)
    for seq in range(2):
        events.put(event(seq))
    await events.finish()
    assert store.taken == [0, 1]
    assert caplog.text == ""


async def test_a_store_that_fails_for_too_long_is_told_of_with_its_cause(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.relay.RETRY_S", 0.001)
    lost: list[None] = []
    events = relay(Failing(n_failures=10**9), 0.05, lambda: lost.append(None))
    events.put(event(0))
    await until(lambda: len(lost) == 1)
    assert "could not be told: OSError: the disk is full" in caplog.text
    await events.finish()
