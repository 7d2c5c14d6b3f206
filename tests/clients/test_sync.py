"""The client without `async`, against the scripted server in a thread."""

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

import pytest

from glrf_client import (
    Backoff,
    ConnectionState,
    Segment,
    SessionClosed,
    StreamClosed,
    StreamRefused,
    Unreachable,
    Utterance,
)
from glrf_client.sync import Session, _EventLoop, connect, models, stream
from tests.clients.resuming_server import RATE_HZ, Break, ResumingServer, abort

FAST = Backoff(first_s=0.001, longest_s=0.002, give_up_after_s=5)


@contextmanager
def served(server: ResumingServer) -> Iterator[str]:
    urls: list[str] = []
    is_up, is_over = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with server.running() as url:
            urls.append(url)
            is_up.set()
            await is_over.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert is_up.wait(10)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
        loop.close()


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("glrf")]


def test_a_stream_over_a_lost_connection() -> None:
    server = ResumingServer(breaks=[(9, abort)])
    with served(server) as url:
        audio = (bytes(1600) for _ in range(40))
        events = list(stream(url, audio, sample_rate=RATE_HZ, backoff=FAST))
    assert [event.index for event in events if isinstance(event, Segment)] == list(range(10))
    assert isinstance(events[-1], SessionClosed)
    assert len(server.queries) == 2
    assert "glrf_client" not in threads()


def test_sending_by_hand() -> None:
    with served(ResumingServer()) as url, connect(url, sample_rate=RATE_HZ) as session:
        session.send(bytes(64_000))
        session.flush()
        session.keepalive()
        session.update(smoothing="mean")
        session.close()
        events = list(session)
    assert sum(isinstance(event, Utterance) for event in events) == 1
    assert "glrf_client" not in threads()


def test_a_source_may_end_the_program() -> None:
    def leaving() -> Iterator[bytes]:
        yield bytes(64_000)
        sys.exit(3)

    with served(ResumingServer()) as url, pytest.raises(SystemExit, match="3"):
        list(stream(url, leaving(), sample_rate=RATE_HZ))
    assert "glrf_client" not in threads()


def test_leaving_early_ends_the_stream() -> None:
    with served(ResumingServer()) as url:
        for event in stream(url, [bytes(64_000)], sample_rate=RATE_HZ):
            if isinstance(event, Segment):
                break
    assert "glrf_client" not in threads()


@pytest.mark.parametrize("breaks", [[], [(5, abort)]], ids=["live", "waiting"])
def test_leaving_ends_a_thread_that_reads(breaks: list[tuple[int, Break]]) -> None:
    has_come = threading.Event()
    ended_by: list[StreamClosed] = []

    def watch(connection: ConnectionState) -> None:
        if connection.state == ("waiting" if breaks else "live"):
            has_come.set()

    def read(session: Session) -> None:
        with pytest.raises(StreamClosed, match="the session was left") as error:
            list(session)
        ended_by.append(error.value)

    server = ResumingServer(breaks=breaks)
    slow = Backoff(first_s=1000, longest_s=1000, give_up_after_s=1e6)
    with served(server) as url:
        with connect(url, sample_rate=RATE_HZ, backoff=slow, on_connection=watch) as session:
            session.send(bytes(64_000))
            reader = threading.Thread(target=read, args=(session,), daemon=True)
            reader.start()
            assert has_come.wait(10)
        reader.join(10)
    assert len(ended_by) == 1
    with pytest.raises(StreamClosed, match="the session was left"):
        session.flush()
    assert "glrf_client" not in threads()


def test_whatever_is_left_in_the_loop_ends_with_it() -> None:
    has_begun, has_ended = threading.Event(), threading.Event()

    async def wait() -> None:
        has_begun.set()
        await asyncio.Event().wait()

    def run() -> None:
        with pytest.raises(CancelledError):
            loop.run(wait())
        has_ended.set()

    with _EventLoop() as loop:
        threading.Thread(target=run, daemon=True).start()
        assert has_begun.wait(10)
    assert has_ended.wait(10)


def test_errors_are_those_of_the_asynchronous_client() -> None:
    with pytest.raises(Unreachable):
        models("http://127.0.0.1:1")
    with pytest.raises(Unreachable), connect("http://127.0.0.1:1"):
        raise AssertionError("it cannot be open")
    server = ResumingServer(breaks=[(5, abort)], refusals=[(401, {})])
    with served(server) as url, pytest.raises(StreamRefused, match="401"):
        list(stream(url, [bytes(64_000)], sample_rate=RATE_HZ, backoff=FAST))
