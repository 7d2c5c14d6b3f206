"""The parent of a server's workers: it accepts connections, and starts again who dies.

A stream stays where it began, and streams are long, so a connection is given to the worker with
the fewest of them and of requests in progress, and to one that would refuse it, or stands still,
only where all would. The socket itself is handed over (SCM_RIGHTS): the parent never reads a byte
of it. It knows neither models nor HTTP.
"""

import contextlib
import fcntl
import logging
import math
import os
import secrets
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ser_core.errors import BadParameter
from service.address import announced, bound
from service.capacity import n_cpus
from service.jobs.supervisor import (
    STEADY_S,
    environment,
    longer,
    unwound_by_sigterm,
    workers,
)
from service.pool.line import (
    CONNECTION,
    FULL,
    LEAVING,
    MESSAGE_BYTES,
    NO_FILES,
    READY,
    Report,
)
from service.settings import PREFIX, Settings

_WORKER = "from service.pool.worker import run; run()"
#: Connections that are handed over before the workers are listened to again.
_AT_ONCE = 64
#: What a new connection will be, nobody knows yet: it goes where a stream and a file have room.
_BY_ROOM = (READY, NO_FILES, FULL)
#: Beyond `shutdown_s`, for the end of the process itself.
_GRACE_S = 5.0
#: A worker that has said nothing for so many seconds hangs, and is killed. It speaks every second.
_SILENT_TICKS = 30
#: The same for one that starts: its model is loaded, and its device prepared.
_START_TICKS = 120
#: One that has said nothing for so many seconds is given a connection only where all others are so.
_QUIET_TICKS = 3
#: Of a path that leads to a socket (`sun_path`), by the system that has least room for it.
_MAX_ADDRESS_BYTES = 103
#: The status of a worker that has told why it could not serve.
_SAID_WHY = 1

log = logging.getLogger(__name__)


def run(settings: Settings) -> None:
    """Serves by `settings.workers` processes until SIGTERM or SIGINT.

    The first worker is ready before the address is bound, and the others follow: what
    keeps that one from starting is said once, and ends this process with status 1. Raises
    `BadParameter` for a temporary folder whose path is too long.
    """
    with (
        contextlib.suppress(KeyboardInterrupt),
        unwound_by_sigterm(),
        tempfile.TemporaryDirectory(prefix="glrf-") as folder,
        kept_by_cleaners(folder),
    ):
        if len(os.fsencode(folder)) > _MAX_ADDRESS_BYTES - len(f"/{settings.workers}.metrics"):
            raise BadParameter(
                f"the workers' sockets cannot stand in {folder}: its path is too long",
                remedy="set TMPDIR to a folder with a shorter one",
            )
        parent = Parent(settings, Path(folder))
        try:
            parent.start()
            listener = bound(settings.host, settings.port)
            log.info(
                "running on %s with %d workers (open it in a browser to try it)",
                *(announced(listener), settings.workers),
            )
            with workers(settings) as end_workers:
                try:
                    parent.serve(listener)
                finally:
                    end_workers()
                    parent.stop()
        finally:
            parent.stop()


@contextlib.contextmanager
def kept_by_cleaners(folder: str) -> Iterator[None]:
    """Whoever clears old files away leaves a locked folder alone (tmpfiles.d(5))."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


class Seat:
    """The place of one worker, and the process that has it now."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.process: subprocess.Popen[bytes] | None = None
        self.line: socket.socket | None = None
        self.report: Report | None = None
        self.n_handed = 0
        self.n_silent = 0  # ticks since it was heard
        self.turn = 0  # when it was last given a connection
        self.began_s = 0.0
        self.pause_s = 0.0
        self.due_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it takes connections."""
        return self.report is not None and self.report.state != LEAVING

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        """The least is given the next connection."""
        assert self.report is not None
        n_under_way = self.n_handed - self.report.n_received
        return (
            self.n_silent >= _QUIET_TICKS,
            _BY_ROOM.index(self.report.state),
            self.report.n_busy + n_under_way,
            self.turn,
        )


class Parent:
    """The workers of one server, which share `folder`."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._environment = worker_environment(settings)
        self._seats = [Seat(index) for index in range(settings.workers)]
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._is_listening = False
        self._is_stopping = False
        self._n_handed = 0
        self._tick_s = time.monotonic()

    def start(self) -> None:
        """The first worker; returns when it is ready, and ends this process where it ends."""
        first = self._seats[0]
        self._begin(first)
        while not first.is_open:
            self._turn()
            if first.process is None:
                raise SystemExit(_SAID_WHY)

    def serve(self, listener: socket.socket) -> None:
        """Gives out connections, for ever."""
        listener.setblocking(False)
        self._listener = listener
        while True:
            self._turn()

    def stop(self) -> None:
        """SIGTERM to all: they end as one server ends, and are made to end when they do not."""
        self._is_stopping = True
        for seat in self._seats:
            if seat.process is not None:
                seat.process.terminate()
        deadline_s = time.monotonic() + self._settings.shutdown_s + _GRACE_S
        while any(seat.process is not None for seat in self._seats):
            self._turn()
            if time.monotonic() > deadline_s:
                for seat in self._seats:
                    if seat.process is not None:
                        log.error("worker %d did not end in time, and is killed", seat.index)
                        seat.process.kill()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _turn(self) -> None:
        """One turn of the loop: what came, and what is due."""
        now_s = time.monotonic()
        for seat in self._seats:
            is_due = seat.process is None and not self._is_stopping and seat.due_s <= now_s
            if is_due and (seat.index == 0 or self._listener is not None):
                self._begin(seat)
        self._listen()
        self._look_for_silent(now_s)
        for key, _ in self._selector.select(0.1 if self._is_waiting else 1.0):
            if isinstance(key.data, Seat):
                self._hear(key.data)
            else:
                self._accept()

    def _look_for_silent(self, now_s: float) -> None:
        """Kills who hangs; the next one starts in its place.

        Counted in seconds that passed here, so that nobody is blamed for time in which the whole
        machine stood still. One that starts says nothing yet; one that leaves has said so, says no
        more, and has as long as a server has for its end.
        """
        if now_s - self._tick_s < 1.0:
            return
        self._tick_s = now_s
        for seat in self._seats:
            if seat.process is None:
                continue
            seat.n_silent += 1
            if seat.n_silent == self._patience_ticks(seat):
                log.error("worker %d has said nothing for %d s: killed", seat.index, seat.n_silent)
                seat.process.kill()

    def _patience_ticks(self, seat: Seat) -> int:
        if seat.report is None:
            return _START_TICKS
        if seat.report.state == LEAVING:
            return math.ceil(self._settings.shutdown_s + _GRACE_S)
        return _SILENT_TICKS

    @property
    def _is_waiting(self) -> bool:
        """Whether a time must not be missed."""
        return self._is_stopping or any(seat.process is None for seat in self._seats)

    def _begin(self, seat: Seat) -> None:
        seat.began_s, n_workers = time.monotonic(), str(self._settings.workers)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                seat.process = subprocess.Popen(
                    [sys.executable, "-c", _WORKER, str(self._folder), str(seat.index), n_workers],
                    env=self._environment,
                    stdin=theirs.fileno(),
                    start_new_session=True,  # Ctrl-C is ours; the worker is told to end
                )
            except OSError as error:  # no memory, no room for a process: there may be some soon
                ours.close()
                self._pause(seat, f"cannot be started ({error})")
                return
        ours.setblocking(False)
        seat.line, seat.report, seat.n_handed, seat.n_silent = ours, None, 0, 0
        self._selector.register(ours, selectors.EVENT_READ, seat)

    def _listen(self) -> None:
        """Accepts while there is somebody to give a connection to; else they wait in the kernel."""
        should = self._listener is not None and any(seat.is_open for seat in self._seats)
        if should != self._is_listening and self._listener is not None:
            self._is_listening = should
            if should:
                self._selector.register(self._listener, selectors.EVENT_READ)
            else:
                self._selector.unregister(self._listener)
                if self._is_stopping:
                    self._listener.close()
                    self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # it left meanwhile, or there are no descriptors
                log.warning("a connection could not be accepted: %s", error)
                time.sleep(0.01)
                return
            with connection:  # the worker has its own descriptor of it
                self._hand_over(connection)

    def _hand_over(self, connection: socket.socket) -> None:
        for seat in sorted((seat for seat in self._seats if seat.is_open), key=lambda s: s.rank):
            assert seat.line is not None
            try:
                socket.send_fds(seat.line, [CONNECTION], [connection.fileno()])
            except OSError:  # it stands still, or is gone
                continue
            self._n_handed += 1
            seat.n_handed, seat.turn = seat.n_handed + 1, self._n_handed
            return
        log.warning("a connection was dropped: no worker could take it")

    def _hear(self, seat: Seat) -> None:
        assert seat.line is not None
        try:
            data = seat.line.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            seat.report, seat.n_silent = Report.parsed(data), 0
        else:
            self._gone(seat)

    def _gone(self, seat: Seat) -> None:
        """Waits for the end of a worker whose line has ended; the next one starts in a while."""
        assert seat.line is not None
        assert seat.process is not None
        self._selector.unregister(seat.line)
        seat.line.close()
        try:
            status = seat.process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            seat.process.kill()
            status = seat.process.wait()
        seat.process = seat.line = seat.report = None
        if self._is_stopping:
            return
        self._pause(seat, f"ended with status {status}", is_told=status == _SAID_WHY)

    def _pause(self, seat: Seat, why: str, *, is_told: bool = False) -> None:
        """The next worker in the place starts in a while, which is longer each time.

        Before there is an address nobody follows, and what the worker told itself is told once.
        """
        now_s = time.monotonic()
        seat.pause_s = longer(0.0 if now_s - seat.began_s > STEADY_S else seat.pause_s)
        seat.due_s = now_s + seat.pause_s
        if self._listener is not None:
            log.error("worker %d %s; the next starts in %g s", seat.index, why, seat.pause_s)
        elif not is_told:
            log.error("worker %d %s", seat.index, why)


def worker_environment(settings: Settings) -> dict[str, str]:
    """The environment of each worker: its share of what is shared, and one set of keys for all."""
    n, n_cores = settings.workers, settings.cpus or n_cpus()
    share: dict[str, object] = {
        "workers": 1,
        "jobs_workers": 0,  # the parent runs them
        "max_sessions": -(-settings.max_sessions // n),
        "max_files": -(-settings.max_files // n),
        "max_files_waiting": -(-settings.max_files_waiting // n),
        "jobs_max_uploads": -(-settings.jobs_max_uploads // n),
        "n_threads": min(settings.n_threads, max(1, int(n_cores / n))),
        "cpus": n_cores / n,
    }
    if settings.checkpoint_keys is None:
        share["checkpoint_keys"] = secrets.token_urlsafe(32)
    if settings.token_keys is None:
        share["token_keys"] = secrets.token_urlsafe(32)
    given = {PREFIX + name.upper(): str(value) for name, value in share.items()}
    return environment(settings) | given
