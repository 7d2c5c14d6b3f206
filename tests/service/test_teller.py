import asyncio
from typing import Any

import pytest

from service.teller import MAX_WAITING, Relay
from tests.service.running import until


class Gated:
    """Takes events while its gate is open."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.taken: list[int] = []

    def check(self, url: str) -> None:
        """Any URL is good here."""

    async def tell(self, url: str, caller: str, event: dict[str, Any]) -> None:
        assert (url, caller) == ("https://hooks.example/", "somebody")
        await self.gate.wait()
        self.taken.append(event["seq"])


def event(seq: int) -> dict[str, Any]:
    return {"session_id": "one", "seq": seq}


def relay(teller: Gated, patience_s: float = 60.0) -> Relay:
    return Relay(teller, "https://hooks.example/", "somebody", patience_s)


def test_events_go_one_after_the_other_and_the_end_waits_for_them() -> None:
    async def run() -> None:
        teller = Gated()
        events = relay(teller)
        await events.finish()  # nothing was put
        for seq in range(3):
            events.put(event(seq))
        finishing = asyncio.create_task(events.finish())
        teller.gate.set()
        await finishing
        assert teller.taken == [0, 1, 2]
        events.put(event(3))
        await events.finish()
        assert teller.taken == [0, 1, 2, 3]

    asyncio.run(run())


def test_what_finds_too_many_before_it_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        teller = Gated()
        events = relay(teller)
        for seq in range(MAX_WAITING + 2):
            events.put(event(seq))
        assert caplog.text.count(f"session one: a webhook could not be told: {MAX_WAITING}") == 2
        teller.gate.set()
        await events.finish()
        assert teller.taken == list(range(MAX_WAITING))

    asyncio.run(run())


def test_what_is_not_taken_in_time_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        teller = Gated()
        events = relay(teller, patience_s=0.05)
        events.put(event(0))
        await until(lambda: "could not be told: TimeoutError" in caplog.text)
        teller.gate.set()
        events.put(event(1))
        await events.finish()
        assert teller.taken == [1]

    asyncio.run(run())


def test_the_end_does_not_wait_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        events = relay(Gated(), patience_s=0.05)
        for seq in range(3):
            events.put(event(seq))
        await events.finish()
        assert caplog.text.count("a webhook could not be told") == 3

    asyncio.run(run())
