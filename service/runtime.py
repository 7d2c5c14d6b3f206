"""The running service: its models and their batchers, who is admitted, and how it ends."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol

from ser_core.errors import (
    BadParameter,
    LimitReached,
    NotReady,
    Overloaded,
    Restarting,
    SerError,
    SessionUnknown,
    Unauthenticated,
)
from service.auth import Access, Caller
from service.broadcast import Broadcast
from service.capacity import Capacity, CpuClocks, n_cpus
from service.checkpoint import CheckpointSeal
from service.decoding import DecodeLimits, Decoding
from service.event_loop import StallMeter
from service.file_queue import FileQueue, Ticket
from service.inference.batcher import Batcher
from service.loading import load_models
from service.metrics import Metrics
from service.problems import internal_error
from service.quotas import Quotas
from service.registry import ModelRegistry, model_key
from service.relay import Relay
from service.session_info import SessionEntry
from service.settings import Settings
from service.shared import Shared

#: How often the file of API keys is looked at for the sake of streams that are open.
KEYS_POLL_S = 1.0
#: Of one session at a time: what hangs of it, what goes on, what a client tried beside that.
MAX_CONNECTIONS = 4
#: Longer than any queue is that still moves: its length is bounded, and so is what is admitted.
STUCK_S = 15.0
#: A network that has failed for so long, each time that it was asked, has more than one bad batch.
FAILING_S = 5.0

log = logging.getLogger(__name__)


class Live(Protocol):
    """What a live session offers to the service."""

    id: str
    broadcast: Broadcast

    @property
    def entry(self) -> SessionEntry:
        """Its line in the list of live sessions."""
        ...

    @property
    def caller(self) -> Caller:
        """Whose it is."""
        ...

    @property
    def demand(self) -> float:
        """Segments a second that it asks for at real time."""
        ...

    @property
    def is_stopping(self) -> bool:
        """Whether it was asked to end."""
        ...

    def stop(self, reason: SerError | None = None) -> None:
        """Asks it to tell what it has, and to end; without a reason, for a restart."""
        ...

    async def ended(self) -> None:
        """Waits for its end."""
        ...


class Runtime:
    """State of one app. `models`, when given, are served at once; else `start` loads them.

    Raises `SerError` for settings of access that cannot be meant.
    """

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.settings = settings
        self.checkpoints = CheckpointSeal(
            settings.checkpoint_key_bytes(), settings.checkpoint_ttl_s
        )
        if not settings.checkpoint_key_bytes():
            log.info("no GLRF_CHECKPOINT_KEYS: streams go on in this process only, until it ends")
        self.metrics = Metrics()
        self.metrics.watch(
            self._is_ready,
            lambda: sum(b.n_queued for b in self._batchers.values()),
            self._oldest_wait_s,
        )
        self.access = Access(settings, shared)
        self.quotas = Quotas(settings, shared)
        self.capacity = Capacity(
            settings.max_load,
            settings.max_queue_wait_s,
            settings.n_workers,
            settings.cpus or n_cpus(),
        )
        self.metrics.load.set_function(self.capacity.load)
        self.decoding = Decoding(
            DecodeLimits(settings.decode_memory_bytes, settings.decode_cpu_s), self.metrics.decoded
        )
        self._files = FileQueue(
            settings.max_files, settings.max_files_waiting, settings.max_file_wait_s, self.metrics
        )
        self._stalls = StallMeter(self._looked)
        self.webhooks = settings.webhook_sender()
        self._where_else = (
            "GET /v1/sessions lists them; behind several replicas ask the one it is at"
            if shared is None
            else "a session can be watched where the server has one worker (GLRF_WORKERS=1)"
        )
        self._models = models
        self._failure: SerError | None = None
        self._batchers: dict[str, Batcher] = {}
        self._loading: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        #: Takes over an event for a URL, in a caller's name; from the service of jobs.
        self.deliver: Callable[[str, str, dict[str, Any]], Coroutine[Any, Any, None]] | None = None
        #: Brings the figures of jobs up to date; from the service of jobs.
        self.count_jobs: Callable[[], Awaitable[None]] | None = None
        #: The figures of all workers as text, where this is one of several; from the pool.
        self.sum_of_workers: Callable[[], Awaitable[bytes]] | None = None
        self._streams: dict[Live, None] = {}  # in the order of their beginning
        self._is_draining = False

    async def start(self) -> None:
        """Begins to serve: at once with models, else as soon as a thread has loaded them."""
        self._stalls.start()
        self.decoding.start()
        if self._models is not None:
            self._serve(self._models)
        else:
            self._loading = asyncio.create_task(self._load())
        self._watching = asyncio.create_task(self._watch_keys())

    async def _watch_keys(self) -> None:
        """Ends the streams of keys that are revoked."""
        while True:
            await asyncio.sleep(KEYS_POLL_S)
            self.access.keys.refresh()
            self._end_revoked()

    def _end_revoked(self) -> None:
        for stream in list(self._streams):
            if not self.access.is_current(stream.caller):
                stream.stop(Unauthenticated("the API key was revoked", remedy="use another key"))

    async def _load(self) -> None:
        try:
            self._serve(await asyncio.to_thread(load_models, self.settings))
        except SerError as error:
            log.error("no model is served: %s", error.detail)
            self._failure = error
        except Exception as error:
            log.exception("no model is served")
            self._failure = internal_error(error)

    def _serve(self, models: ModelRegistry) -> None:
        for backend in models:
            batcher = Batcher(
                backend,
                max_batch=self.settings.max_batch,
                max_queued=self.settings.max_queued_segments,
                max_wait_s=self.settings.max_batch_wait_s,
                n_workers=self.settings.n_workers,
                on_batch=self._batch_scored,
            )
            batcher.start()
            self._batchers[model_key(backend)] = batcher
            self.metrics.loaded(backend)
            log.info("serving %s on %s", model_key(backend), backend.providers[0])
        self._models = models

    def _looked(self, stall_s: float) -> None:
        self.metrics.loop_stall_s.observe(stall_s)
        self.capacity.cpu_used(CpuClocks.read())

    def _batch_scored(self, n_segments: int, inference_s: float) -> None:
        self.metrics.batch_size.observe(n_segments)
        self.capacity.batch_scored(n_segments, inference_s)

    async def scrape(self) -> bytes:
        """The text of `GET /metrics`."""
        if self.count_jobs is not None:
            await self.count_jobs()
        if self.sum_of_workers is not None:
            return await self.sum_of_workers()
        return self.metrics.exposition()

    async def stop(self) -> None:
        """Ends the batchers, with what they have queued, and the decoders."""
        self._stalls.stop()
        if self._watching is not None:
            self._watching.cancel()
        if self._loading is not None:
            await self._loading
        self._is_draining = True
        for batcher in self._batchers.values():
            await batcher.stop()
        await asyncio.to_thread(self.decoding.close)

    def models(self) -> ModelRegistry:
        """The models; raises what keeps the service from being ready."""
        self.check_ready()
        assert self._models is not None
        return self._models

    def batcher(self, model: str | None) -> Batcher:
        """The queue of the model that a client named; raises `BadParameter`."""
        return self._batchers[model_key(self.models().find(model))]

    def check_ready(self) -> None:
        """Raises `Restarting`, `NotReady`, or the error that the models failed to load with.

        `NotReady` also where a network stands still or fails each time, as on a device that fell
        off.
        """
        if self._is_draining:
            raise Restarting("the service is shutting down", remedy="connect again")
        if self._failure is not None:
            raise self._failure
        if not self._batchers:
            raise NotReady("the model is still being loaded", remedy="try again in a second")
        remedy = "connect elsewhere; operators: restart it, and look at its device"
        if self._oldest_wait_s() > STUCK_S:
            raise NotReady(
                f"no segment was scored for {self._oldest_wait_s():.0f} s, though some wait",
                remedy=remedy,
            )
        longest_run_s = max(batcher.longest_run_s for batcher in self._batchers.values())
        if longest_run_s > STUCK_S:
            raise NotReady(f"a batch has run for {longest_run_s:.0f} s", remedy=remedy)
        failing_s = max(batcher.failing_s for batcher in self._batchers.values())
        if failing_s > FAILING_S:
            raise NotReady(
                f"the network has failed on each batch for {failing_s:.0f} s",
                remedy="connect elsewhere; operators: the log has the cause; restart it",
            )

    def _is_ready(self) -> bool:
        try:
            self.check_ready()
        except SerError:
            return False
        return True

    def _oldest_wait_s(self) -> float:
        return max((batcher.oldest_wait_s for batcher in self._batchers.values()), default=0.0)

    def check_room(self, demand: float = 0.0) -> None:
        """Raises `Overloaded` where one more stream would be too much, and as `check_ready`."""
        self.check_ready()
        self._check_places()
        self._check_capacity(demand, is_resumed=False)

    def _check_places(self) -> None:
        if len(self._streams) >= self.settings.max_sessions:
            raise Overloaded(
                f"all {self.settings.max_sessions} sessions are taken",
                remedy="try again later, or elsewhere",
            )

    def _check_capacity(self, demand: float, *, is_resumed: bool) -> None:
        self.capacity.check(demand, self._oldest_wait_s(), is_resumed=is_resumed)

    @contextlib.contextmanager
    def stream_admitted(self, stream: Live, *, is_resumed: bool = False) -> Iterator[None]:
        """Holds one of the places for streams, of the service and of the caller.

        One that goes on shares its place with its old connection, where that hangs; of too many
        of those the oldest is ended.

        Raises `Overloaded`, `LimitReached` and as `check_ready`.
        """
        self.check_ready()
        if not (is_resumed and self.quotas.has_place(stream.caller, stream.id)):
            self._check_places()
        self._check_capacity(stream.demand, is_resumed=is_resumed)
        if is_resumed:
            self._end_oldest(stream)
        with self.quotas.session(stream.caller, stream.id):
            self._streams[stream] = None
            self.capacity.take(stream.demand)
            self.metrics.sessions.inc()
            try:
                yield
            finally:
                del self._streams[stream]
                self.capacity.release(stream.demand)
                self.metrics.sessions.dec()

    def _end_oldest(self, stream: Live) -> None:
        """Of the connections that the stream goes on from, so that few are left with the new one.

        A line that goes dead again and again leaves one each time, until its pings time out.
        """
        older = [
            live
            for live in self._streams
            if live.id == stream.id and live.caller.id == stream.caller.id and not live.is_stopping
        ]
        for live in older[: max(0, len(older) + 1 - MAX_CONNECTIONS)]:
            live.stop(
                LimitReached(
                    "the session goes on over newer connections",
                    remedy="one is enough",
                    code="session_quota",
                )
            )

    def sessions(self, caller: Caller) -> list[Live]:
        """The live sessions of a caller in this process, oldest first."""
        return [stream for stream in self._streams if stream.caller.id == caller.id]

    def session(self, caller: Caller, session_id: str) -> Live:
        """One of them; raises `SessionUnknown`, for another caller's too."""
        found = [live for live in self.sessions(caller) if live.id == session_id]
        if not found:
            raise SessionUnknown("no such session lives in this process", remedy=self._where_else)
        return found[-1]  # the one that went on with it, where its old connection hangs

    def relay_to(self, url: str | None, caller: Caller) -> Relay | None:
        """Takes a session's events to a URL; raises `BadParameter` where that cannot be."""
        if url is None:
            return None
        self.check_webhook(url, "watch /v1/sessions/{id}/events")
        assert self.deliver is not None
        return Relay(
            functools.partial(self.deliver, url, caller.name),
            self.settings.send_timeout_s,
            self.metrics.lost_events.inc,
        )

    @property
    def refuses_files(self) -> bool:
        """Whether one more file is too many."""
        return self._files.is_full

    def check_webhook(self, url: str, instead: str) -> None:
        """Raises `BadParameter` for a URL that nothing will be sent to, and what to do instead."""
        if self.webhooks is None:
            raise BadParameter(
                "webhook_url: this service has no secret to sign webhooks with",
                remedy=f"{instead}; operators: set GLRF_WEBHOOK_SECRETS",
            )
        self.webhooks.targets.check(url)

    def file_admitted(self) -> Ticket:
        """A ticket for a file; raises `Overloaded` and as `check_ready`."""
        self.check_ready()
        return self._files.join()

    async def drain(self, timeout_s: float) -> None:
        """Admits nobody any more, and asks all streams to end; waits for them so long."""
        self._is_draining = True
        streams = list(self._streams)
        n_files = self._files.n_waiting + self._files.n_analysed
        self._files.close()
        log.info("draining %d streams, %d files", len(streams), n_files)
        for stream in streams:
            stream.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for stream in streams:
                    await stream.ended()
