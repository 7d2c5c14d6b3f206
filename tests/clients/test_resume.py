"""One timeline over many connections: nothing lost, nothing twice, whatever breaks."""

import asyncio
import random
import time
from collections.abc import Iterator

import pytest

from glrf_client import (
    FLUSH,
    Backoff,
    BadServerMessage,
    ClientError,
    ConnectionState,
    ErrorFrame,
    Event,
    Flush,
    Segment,
    SessionClosed,
    SessionCreated,
    StreamClosed,
    StreamError,
    StreamRefused,
    TimelineLost,
    Unreachable,
    Utterance,
    connect,
    stream,
)
from glrf_client.connection import Connection, opened_soon
from tests.clients.resuming_server import (
    RATE_HZ,
    Break,
    ResumingServer,
    State,
    abort,
    closing,
    drain,
    failing,
)
from tests.clients.test_session import collect

#: No test waits for real: the shapes of the waits are those of test_backoff.py.
FAST = Backoff(first_s=0.001, longest_s=0.002, give_up_after_s=5)
Timeline = list[tuple[str, str | None, int, int, dict[str, float]]]
AUDIO = random.Random(7).randbytes(RATE_HZ * 2 * 12)  # 12 s


def chunks(n_bytes: int = 1700) -> Iterator[bytes | Flush]:
    """The audio in an odd chunking, with utterances of 5.1, 3.4 and 3.5 s."""
    for n_before, at in enumerate(range(0, len(AUDIO), n_bytes)):
        if n_before in (48, 80):
            yield FLUSH
        yield AUDIO[at : at + n_bytes]


async def play(server: ResumingServer, *, backoff: Backoff = FAST, **options) -> list[Event]:
    async with server.running() as url, asyncio.timeout(20):
        return [
            event
            async for event in stream(
                url,
                list(chunks()),
                sample_rate=RATE_HZ,
                backoff=backoff,
                start_offset_ms=server.start_offset_ms or None,
                **options,
            )
        ]


def timeline_of(events: list[Event]) -> Timeline:
    """Segments and utterances by what they say."""
    return [
        (type(event).__name__, event.utterance_id, event.start_ms, event.end_ms, event.scores)
        for event in events
        if isinstance(event, (Segment, Utterance))
    ]


@pytest.fixture(scope="module")
def unbroken() -> Timeline:
    timeline = timeline_of(asyncio.run(play(ResumingServer())))
    assert len(timeline) == 31 + 3
    return timeline


ENDINGS: dict[str, Break] = {
    "lost": abort,
    "internal": failing(1011, retryable=True),
    "restarting": failing(1012, retryable=True),
    "overloaded": failing(1013, retryable=True, retry_after_ms=20),
    "idle": closing(4408),
    "too long": failing(4410, retryable=True),
    "otherwise": failing(4499, retryable=True),
    "too fast": failing(4429, retryable=True, retry_after_ms=20),
    "draining": drain,
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
async def test_the_timeline_goes_on(ending: Break, unbroken: Timeline) -> None:
    server = ResumingServer(breaks=[(23, ending), (9, ending), (14, ending)])
    events = await play(server)
    assert timeline_of(events) == unbroken
    assert len(server.queries) == 4
    assert all("resume" in query for query in server.queries[1:])
    assert sum(isinstance(event, SessionCreated) for event in events) == 1
    assert isinstance(events[-1], SessionClosed)


@pytest.mark.parametrize("n_messages", range(1, 62, 2))
async def test_wherever_it_breaks(n_messages: int, unbroken: Timeline) -> None:
    """Before the first checkpoint, between a result and its checkpoint, at the very end."""
    server = ResumingServer(breaks=[(n_messages, abort)])
    assert timeline_of(await play(server)) == unbroken
    assert len(server.queries) == 2


@pytest.mark.parametrize("n_silent", [1, 2])
async def test_a_new_line_that_does_not_answer(
    n_silent: int, unbroken: Timeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first gets another beside it; both together are given up in time."""
    monkeypatch.setattr("glrf_client.session._PATIENCE_S", 0.05)
    server = ResumingServer(breaks=[(20, abort)], n_silent=n_silent)
    states: list[tuple[str, float]] = []

    def watch(connection: ConnectionState) -> None:
        states.append((connection.state, time.monotonic()))

    assert timeline_of(await play(server, open_timeout_s=0.5, on_connection=watch)) == unbroken
    assert len(server.queries) == 2
    lost_s = next(at_s for state, at_s in states if state == "waiting")
    live_s = next(at_s for state, at_s in reversed(states) if state == "live")
    assert live_s - lost_s < 1.9  # the server answers after 2 s


class OpenedConnection(Connection):
    """Knows whether it was dropped."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.was_dropped = False

    async def drop(self) -> None:
        self.was_dropped = True


Try = tuple[float, Exception | None]


@pytest.mark.parametrize(
    ("tries", "n_opened"),
    [
        ([(0.0, None)], 0),
        ([(0.0, StreamRefused(503, {}))], None),  # an answer too
        ([(0.2, None), (0.0, None)], 1),
        ([(0.2, None), (9.0, None)], 0),
        ([(0.2, None), (0.0, Unreachable("gone"))], 0),
        ([(0.2, Unreachable("gone")), (0.4, None)], 1),
        ([(0.2, Unreachable("gone")), (0.0, Unreachable("gone"))], None),
    ],
)
async def test_the_first_line_that_opens_is_taken(tries: list[Try], n_opened: int | None) -> None:
    opened: list[OpenedConnection] = []
    n_begun = n_cancelled = 0

    async def open_one() -> Connection:
        nonlocal n_begun, n_cancelled
        n, n_begun = n_begun, n_begun + 1
        wait_s, failure = tries[n]
        try:
            await asyncio.sleep(wait_s)
        except asyncio.CancelledError:
            n_cancelled += 1
            raise
        if failure is not None:
            raise failure
        opened.append(OpenedConnection(n))
        return opened[-1]

    if n_opened is None:
        with pytest.raises(ClientError):
            await opened_soon(open_one, 0.1)
    else:
        taken = await opened_soon(open_one, 0.1)
        assert isinstance(taken, OpenedConnection)
        assert taken.n == n_opened
        assert not taken.was_dropped
        assert all(other.was_dropped for other in opened if other is not taken)
    assert n_begun == len(tries)
    n_failed = sum(failure is not None for _, failure in tries)
    assert len(opened) + n_cancelled + n_failed == len(tries)


async def test_two_lines_that_open_at_once_are_one_too_many() -> None:
    opened: list[OpenedConnection] = []
    both = asyncio.Barrier(2)

    async def open_one() -> Connection:
        await both.wait()
        opened.append(OpenedConnection(len(opened)))
        return opened[-1]

    assert await opened_soon(open_one, 0.01) in opened
    assert sorted(connection.was_dropped for connection in opened) == [False, True]


async def test_who_is_cancelled_while_the_other_line_ends_leaves_none() -> None:
    opened: list[OpenedConnection] = []
    waits_s = iter((10.0, 0.0))
    is_ending = asyncio.Event()

    async def open_one() -> Connection:
        try:
            await asyncio.sleep(next(waits_s))
        except asyncio.CancelledError:
            is_ending.set()
            await asyncio.sleep(0.1)
            raise
        opened.append(OpenedConnection(len(opened)))
        return opened[-1]

    opening = asyncio.create_task(opened_soon(open_one, 0.01))
    await is_ending.wait()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert [connection.was_dropped for connection in opened] == [True]


async def test_times_with_an_offset(unbroken: Timeline) -> None:
    server = ResumingServer(breaks=[(30, abort)], start_offset_ms=10_001)
    events = await play(server)
    assert [row[2] - 10_001 for row in timeline_of(events)] == [row[2] for row in unbroken]


async def test_a_flush_after_the_checkpoint_is_sent_again_at_its_place() -> None:
    server = ResumingServer(breaks=[(30, abort)])
    await play(server)
    places = {place for place, command in server.commands if command == "flush"}
    assert places == {48 * 1700, 80 * 1700}
    assert [command for _, command in server.commands].count("flush") >= 2


async def test_a_refused_update_is_told_once() -> None:
    server = ResumingServer(breaks=[(24, closing(1012)), (4, closing(1012))])
    async with server.running() as url, asyncio.timeout(20), connect(
        url, sample_rate=RATE_HZ, backoff=FAST
    ) as session:  # fmt: skip
        await session.send(AUDIO[:64_000])
        await session.update(hysteresis=5.0)
        await session.send(AUDIO[64_000:])
        await session.update(hysteresis=5.0)
        await session.close()
        events = [event async for event in session]
    assert sum(isinstance(event, ErrorFrame) for event in events) == 2
    assert [command for _, command in server.commands].count("update") == 4


async def test_only_what_no_checkpoint_covers_is_sent_again() -> None:
    server = ResumingServer(breaks=[(60, abort)])
    await play(server)
    assert len(AUDIO) < server.n_heard_bytes < len(AUDIO) * 1.8


@pytest.mark.parametrize(
    ("status", "headers"), [(503, {"Retry-After": "0.01"}), (429, {}), (502, {})]
)
async def test_a_refusal_that_passes(
    status: int, headers: dict[str, str], unbroken: Timeline
) -> None:
    server = ResumingServer(breaks=[(20, abort)], refusals=[(status, headers)] * 3)
    assert timeline_of(await play(server)) == unbroken


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refusal_that_does_not(status: int) -> None:
    server = ResumingServer(breaks=[(20, abort)], refusals=[(status, {})])
    with pytest.raises(StreamRefused) as refused:
        await play(server)
    assert refused.value.status == status
    assert len(server.queries) == 1


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        (failing(4400, retryable=False), StreamError),
        (failing(4401, retryable=False), StreamError),
        (failing(1011, retryable=False), StreamError),
        (closing(4415), StreamClosed),
        (closing(4403), StreamClosed),
        (closing(1009), StreamClosed),
        (closing(1000), StreamClosed),
    ],
)
async def test_what_another_try_does_not_mend_is_raised_at_once(
    ending: Break, error: type[ClientError]
) -> None:
    server = ResumingServer(breaks=[(20, ending)])
    with pytest.raises(error):
        await play(server)
    assert len(server.queries) == 1


@pytest.mark.parametrize("ending", [failing(4404, retryable=False), closing(4404)])
async def test_a_lost_timeline_is_told_with_the_place_to_go_on(ending: Break) -> None:
    server = ResumingServer(breaks=[(20, abort), (1, ending)])
    with pytest.raises(TimelineLost) as lost:
        await play(server)
    # What of the 20 messages arrived before the cut is chance; the token says which was the last.
    [token] = server.queries[1]["resume"]
    assert lost.value.resume_from_ms == State.parse(token).position * 1000 // (RATE_HZ * 2) > 0
    assert lost.value.close_code == 4404


async def test_it_gives_up_in_the_end_with_the_last_cause() -> None:
    server = ResumingServer(breaks=[(20, abort)], refusals=[(503, {})] * 1000)
    with pytest.raises(StreamRefused):
        await play(server, backoff=Backoff(first_s=0.01, longest_s=0.02, give_up_after_s=0.2))
    assert len(server.refusals) < 1000


async def test_the_last_try_is_made_when_it_gives_up(unbroken: Timeline) -> None:
    """And not before: the server may be there by then."""
    server = ResumingServer(breaks=[(20, abort)])
    backoff = Backoff(first_s=1000, longest_s=1000, give_up_after_s=0.5)
    assert timeline_of(await play(server, backoff=backoff)) == unbroken
    assert len(server.queries) == 2


async def test_a_wait_beyond_the_limit_is_not_begun() -> None:
    server = ResumingServer(breaks=[(20, failing(1013, retryable=True, retry_after_ms=60_000))])
    with pytest.raises(StreamError) as error:
        await play(server)
    assert error.value.retry_after_ms == 60_000


async def test_reconnecting_can_be_turned_off() -> None:
    server = ResumingServer(breaks=[(20, abort)])
    with pytest.raises(StreamClosed):
        await play(server, backoff=Backoff(give_up_after_s=0))


async def test_a_server_that_is_gone() -> None:
    async with ResumingServer(breaks=[(20, abort)]).running() as url:
        events = stream(
            url, list(chunks()), sample_rate=RATE_HZ, backoff=Backoff(give_up_after_s=0.5)
        )
        await anext(events)
    with pytest.raises(Unreachable):
        await collect(events)


async def test_a_display_is_told_of_each_change_of_the_connection() -> None:
    server = ResumingServer(breaks=[(20, abort), (20, closing(1012))])
    states: list[ConnectionState] = []
    await play(server, on_connection=states.append)
    assert [(state.state, state.resumed) for state in states] == [
        ("live", False),
        ("waiting", False),
        ("live", True),
        ("waiting", False),
        ("live", True),
        ("closed", False),
    ]
    causes = [state.cause for state in states if state.state == "waiting"]
    assert [cause.code for cause in causes if isinstance(cause, StreamClosed)] == [1006, 1012]
    assert all(0 <= state.delay_s <= FAST.longest_s for state in states)


async def test_a_display_is_told_why_a_stream_could_not_go_on() -> None:
    states: list[ConnectionState] = []
    with pytest.raises(StreamClosed) as raised:
        await play(ResumingServer(breaks=[(20, closing(4403))]), on_connection=states.append)
    assert states[-1] == ConnectionState(state="closed", cause=raised.value)


class TestWithoutCheckpoints:
    """A server of before there were any."""

    async def test_a_short_stream_begins_anew(self, unbroken: Timeline) -> None:
        server = ResumingServer(breaks=[(20, abort)], has_checkpoints=False)
        assert timeline_of(await play(server)) == unbroken
        assert "resume" not in server.queries[1]

    async def test_a_longer_one_raises_and_never_waits_for_room(self) -> None:
        async def run(server: ResumingServer) -> None:
            async with server.running() as url, asyncio.timeout(20):
                audio = (bytes(64_000) for _ in range(40))  # 2.5 MB
                events = stream(
                    url, audio, sample_rate=RATE_HZ, max_buffer_bytes=1 << 20, backoff=FAST
                )
                await collect(events)

        server = ResumingServer(has_checkpoints=False)
        await run(server)
        assert server.n_heard_bytes == 40 * 64_000
        with pytest.raises(StreamClosed):
            await run(ResumingServer(breaks=[(380, abort)], has_checkpoints=False))


async def test_the_buffer_is_bounded_and_stops_the_source() -> None:
    """While the server is away, no more is drawn than the buffer holds."""
    n_drawn = 0

    async def endless():
        nonlocal n_drawn
        while True:
            n_drawn += 1
            yield bytes(16_000)
            await asyncio.sleep(0)

    async with ResumingServer(breaks=[(60, closing(1013))]).running() as url:
        backoff = Backoff(first_s=100, longest_s=100, give_up_after_s=1e6)
        events = stream(
            url, endless(), sample_rate=RATE_HZ, backoff=backoff, max_buffer_bytes=1 << 20
        )
        async with asyncio.timeout(20):
            for _ in range(30):
                await anext(events)
        waiting = asyncio.ensure_future(anext(events))
        n_before = -1
        while n_drawn > n_before:
            n_before = n_drawn
            await asyncio.wait((waiting,), timeout=0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await events.aclose()
    heard = 30 * 6400
    assert (1 << 20) // 16_000 <= n_drawn <= ((1 << 20) + heard) // 16_000 + 2


async def test_a_buffer_that_no_checkpoint_could_empty_is_refused() -> None:
    with pytest.raises(ValueError, match="give 3840000 or more"):
        async with connect(
            "http://127.0.0.1:1", encoding="pcm_f32le", sample_rate=48_000, channels=2,
            max_buffer_bytes=2 << 20,
        ):  # fmt: skip
            pass


async def test_a_checkpoint_between_two_samples_breaks_the_contract() -> None:
    async with ResumingServer().running() as url, connect(url, sample_rate=8_001) as session:
        await session.send(bytes(64_000))
        with pytest.raises(BadServerMessage, match="between two samples at 8001 Hz"):
            await collect(session)


async def test_the_key_is_in_a_header_of_every_connection_and_in_no_address() -> None:
    server = ResumingServer(breaks=[(20, abort)])
    await play(server, api_key="a-key")
    assert [headers["authorization"] for headers in server.headers] == ["Bearer a-key"] * 2
    assert "a-key" not in str(server.queries)
