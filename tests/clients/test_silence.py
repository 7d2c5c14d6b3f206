"""Servers that are there and say nothing: whether one is waited for or left."""

import asyncio

import pytest

from glrf_client import Backoff, ConnectionState, Segment, Session, StreamClosed, connect
from glrf_client.recovery import Watch
from tests.clients.resuming_server import RATE_HZ, Break, ResumingServer, drain_for_ever, hush
from tests.clients.test_resume import FAST, Timeline, play, timeline_of, unbroken

__all__ = ["unbroken"]  # a fixture

A_SECOND = bytes(RATE_HZ * 2)


@pytest.fixture(autouse=True)
def is_looked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glrf_client.session._WATCH_S", 0.01)
    monkeypatch.setattr("glrf_client.flight._MARK_S", 0.1)


@pytest.mark.parametrize(
    ("n_messages", "ending"),
    [(0, hush), (1, hush), (20, hush), (61, hush), (1, drain_for_ever), (20, drain_for_ever)],
)
async def test_the_timeline_goes_on(n_messages: int, ending: Break, unbroken: Timeline) -> None:
    """Never greeted; greeted only; silent in the middle and before `session.closed`; ending."""
    server = ResumingServer(breaks=[(n_messages, ending)])
    states: list[ConnectionState] = []
    stall_s = 0.3 if ending is hush else 60.0
    assert timeline_of(await play(server, stall_s=stall_s, on_connection=states.append)) == unbroken
    assert len(server.queries) == 2
    [lost] = [state.cause for state in states if state.state == "waiting"]
    assert isinstance(lost, StreamClosed)
    assert lost.code == (1006 if ending is hush else 1012)


@pytest.mark.parametrize("n_messages", [0, 1, 20])
async def test_servers_that_are_always_silent_are_given_up(n_messages: int) -> None:
    """Each may greet, and renew a checkpoint, and no outage is longer than what was allowed."""
    breaks: list[tuple[int, Break]] = [(min(n_messages, 1), hush)] * 1000
    server = ResumingServer(breaks=[(n_messages, hush), *breaks])
    backoff = Backoff(first_s=0.001, longest_s=0.01, give_up_after_s=0.5)
    with pytest.raises(StreamClosed, match=r"owed an answer for 0\.1 s"):
        await play(server, stall_s=0.1, backoff=backoff)
    assert 2 <= len(server.queries) < 20


async def segments(session: Session, within_s: float) -> list[int]:
    """The indices of those that come in that time; the stream is not over then."""
    indices: list[int] = []

    async def read() -> None:
        nonlocal indices
        async for event in session:
            indices += [event.index] if isinstance(event, Segment) else []

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), within_s)
    return indices


async def test_a_muted_stream_is_owed_nothing() -> None:
    server = ResumingServer()
    async with server.running() as url, connect(
        url, sample_rate=RATE_HZ, stall_s=0.05, backoff=FAST
    ) as session:  # fmt: skip
        told = []
        for _ in range(3):
            await session.send(A_SECOND)
            told.append(await segments(session, 0.5))
        assert [len(indices) for indices in told] == [2, 3, 2]
    assert len(server.queries) == 1


async def test_what_is_sent_by_hand_and_not_answered_is_sent_elsewhere() -> None:
    """Without `close`: audio alone is owed results."""
    server = ResumingServer(breaks=[(1, hush)])
    async with server.running() as url, connect(
        url, sample_rate=RATE_HZ, stall_s=0.1, backoff=FAST
    ) as session:  # fmt: skip
        await session.send(A_SECOND * 6)
        assert await segments(session, 1.0) == list(range(15))
    assert len(server.queries) == 2


class TestWatch:
    """Times are given, nothing is waited for."""

    def test_it_counts_while_something_is_owed_and_nothing_comes(self) -> None:
        watch = Watch(stall_s=10)
        watch.check(False, 0.0)
        watch.check(False, 100.0)
        watch.check(True, 100.1)
        watch.check(True, 109.9)
        watch.heard()
        watch.check(True, 119.0)
        watch.check(True, 128.9)
        assert not watch.is_stalled
        with pytest.raises(StreamClosed):
            watch.check(True, 129.0)
        assert watch.is_stalled

    @pytest.mark.parametrize(("deadline_ms", "waited_s"), [(500, 0.5), (30_000, 2.0)])
    def test_a_server_that_ends_is_left_soon(self, deadline_ms: int, waited_s: float) -> None:
        watch = Watch(stall_s=10)
        watch.drain(deadline_ms, 100.0)
        watch.check(False, 99.9 + waited_s)
        with pytest.raises(StreamClosed, match="the server is ending"):
            watch.check(False, 100.0 + waited_s)
        assert not watch.is_stalled
