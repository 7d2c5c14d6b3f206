"""The same client without `async`: `stream`, `connect`, `analyze_file`, jobs, `models`.

    for event in stream("http://127.0.0.1:8000", file_source("call.wav")):
        ...

Each call runs the asynchronous one on an event loop in a thread of its own; arguments, events
and errors are those of `glrf_client`. A source's plain iterator is drawn in a third thread.
"""

import asyncio
import threading
from collections.abc import Coroutine, Generator, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any, Final, TypeVar, Unpack

from glrf_client import durable, files, session, streaming
from glrf_client.backoff import Backoff
from glrf_client.durable import Job, JobPage
from glrf_client.errors import StreamClosed
from glrf_client.events import Event, ModelDetails
from glrf_client.files import FileResult
from glrf_client.parameters import FileParameters, RestOptions, StreamParameters
from glrf_client.sources import Chunks, Source

#: A cancelled call ends at once, but for a goodbye to the server.
_CANCEL_TIMEOUT_S: Final = 5.0

T = TypeVar("T")


def stream(
    url: str, source: Source | Chunks, **parameters: Unpack[StreamParameters]
) -> Generator[Event, None, None]:
    """`glrf_client.stream`; leaving the loop early drops the stream."""
    with _EventLoop() as loop:
        events = streaming.stream(url, source, **parameters)
        try:
            yield from _all(loop, events)
        finally:
            loop.run(events.aclose())


@contextmanager
def connect(url: str, **parameters: Unpack[StreamParameters]) -> Iterator["Session"]:
    """`glrf_client.connect`."""
    with _EventLoop() as loop:
        context = session.connect(url, **parameters)
        opened = loop.run(context.__aenter__())
        try:
            yield Session(loop, opened)
        finally:
            loop.run(context.__aexit__(None, None, None))


def analyze_file(
    url: str, audio: bytes | str | PathLike[str], **parameters: Unpack[FileParameters]
) -> FileResult:
    """`glrf_client.analyze_file`."""
    with _EventLoop() as loop:
        return loop.run(files.analyze_file(url, audio, **parameters))


def models(
    url: str,
    *,
    api_key: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10.0,
) -> list[ModelDetails]:
    """`glrf_client.models`."""
    with _EventLoop() as loop:
        return loop.run(files.models(url, api_key=api_key, headers=headers, timeout_s=timeout_s))


def submit_job(
    url: str,
    audio: bytes | str | PathLike[str],
    *,
    idempotency_key: str | None = None,
    webhook_url: str | None = None,
    backoff: Backoff | None = None,
    **parameters: Unpack[FileParameters],
) -> Job:
    """`glrf_client.submit_job`."""
    with _EventLoop() as loop:
        return loop.run(
            durable.submit_job(
                url,
                audio,
                idempotency_key=idempotency_key,
                webhook_url=webhook_url,
                backoff=backoff,
                **parameters,
            )
        )


def job(url: str, job_id: str, **options: Unpack[RestOptions]) -> Job:
    """`glrf_client.job`."""
    with _EventLoop() as loop:
        return loop.run(durable.job(url, job_id, **options))


def wait_for_job(
    url: str, job_id: str, *, poll_s: float = 1.0, **options: Unpack[RestOptions]
) -> Job:
    """`glrf_client.wait_for_job`."""
    with _EventLoop() as loop:
        return loop.run(durable.wait_for_job(url, job_id, poll_s=poll_s, **options))


def job_result(url: str, job_id: str, **options: Unpack[RestOptions]) -> FileResult:
    """`glrf_client.job_result`."""
    with _EventLoop() as loop:
        return loop.run(durable.job_result(url, job_id, **options))


def jobs(
    url: str,
    *,
    status: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
    **options: Unpack[RestOptions],
) -> JobPage:
    """`glrf_client.jobs`."""
    with _EventLoop() as loop:
        return loop.run(durable.jobs(url, status=status, limit=limit, cursor=cursor, **options))


def cancel_job(url: str, job_id: str, **options: Unpack[RestOptions]) -> None:
    """`glrf_client.cancel_job`."""
    with _EventLoop() as loop:
        loop.run(durable.cancel_job(url, job_id, **options))


class Session:
    """`glrf_client.Session`, each call waiting until it is done.

    One thread may send while another iterates the events; leaving the context ends both, by
    `StreamClosed`.
    """

    def __init__(self, loop: "_EventLoop", opened: session.Session) -> None:
        self._loop = loop
        self._session = opened

    def send(self, audio: bytes | bytearray | memoryview) -> None:
        """Takes audio in any chunking."""
        self._loop.run(self._session.send(audio))

    def flush(self) -> None:
        """Ends the utterance here."""
        self._loop.run(self._session.flush())

    def update(
        self,
        *,
        smoothing: str | None = None,
        hysteresis: float | None = None,
        min_dwell_ms: int | None = None,
        endpointing: str | None = None,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        """Changes options from here on."""
        self._loop.run(
            self._session.update(
                smoothing=smoothing,
                hysteresis=hysteresis,
                min_dwell_ms=min_dwell_ms,
                endpointing=endpointing,
                thresholds=thresholds,
            )
        )

    def keepalive(self) -> None:
        """Says that the client is still there."""
        self._loop.run(self._session.keepalive())

    def close(self) -> None:
        """Says that there is no more audio; read on until the events end."""
        self._loop.run(self._session.close())

    def __iter__(self) -> Iterator[Event]:
        return _all(self._loop, self._session)


def _all(loop: "_EventLoop", events: Any) -> Generator[Event, None, None]:
    async def following() -> Event | None:
        return await anext(events, None)

    while (event := loop.run(following())) is not None:
        yield event


class _EventLoop:
    """An event loop in a thread, for as long as the context lasts."""

    def __enter__(self) -> "_EventLoop":
        self._loop = asyncio.new_event_loop()
        self._leaving, self._is_left = threading.Lock(), False
        self._thread = threading.Thread(target=self._turn, name="glrf_client", daemon=True)
        self._thread.start()
        return self

    def _turn(self) -> None:
        while True:
            try:
                return self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # A task's (a source's, say): it leaves the loop, and by its future reaches the
                # thread that waits, for which the loop has to go on.
                continue

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; an interrupt (Ctrl-C) cancels it, and waits for its end.

        Raises `StreamClosed` once the context was left, for a thread that still has the session.
        """
        has_ended = threading.Event()

        async def tracked() -> T:
            try:
                return await work
            finally:
                has_ended.set()

        with self._leaving:
            if self._is_left:
                work.close()
                raise StreamClosed(1000, "the session was left")
            future = asyncio.run_coroutine_threadsafe(tracked(), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            has_ended.wait(_CANCEL_TIMEOUT_S)
            raise

    def __exit__(self, *_: object) -> None:
        with self._leaving:
            self._is_left = True
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        """Ends what is left, as `asyncio.run` does: another thread may wait for it."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()
