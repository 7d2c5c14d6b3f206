"""The server of one worker: it takes connections from its parent, and tells it how it stands."""

import asyncio
import logging
import socket
import time
from pathlib import Path
from typing import Any

from ser_core.errors import SerError
from service.connection import RequestConnection, StreamConnection
from service.pool.line import FULL, LEAVING, NO_FILES, READY, Report
from service.pool.sums import Sums
from service.registry import ModelRegistry
from service.server import Server
from service.settings import Settings
from service.shared import Shared

#: How often the parent is told, where anything has changed, and where nothing has.
REPORT_S, ALIVE_S = 0.1, 1.0
#: A connection counts as one on which something happens for so long.
YOUNG_S = 1.0

log = logging.getLogger(__name__)


class PoolServer(Server):
    """Worker `index` of the `n_workers` that share `folder`; `line` leads to the parent."""

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry,
        folder: Path,
        index: int,
        n_workers: int,
        line: socket.socket,
    ) -> None:
        super().__init__(settings, models, Shared(folder))
        self._line = line
        self._line.setblocking(False)
        self._sums = Sums(self._runtime.metrics, folder, index, n_workers)
        self._n_received = 0
        self._n_arriving = 0  # of those, how many have no protocol yet
        self._young: set[asyncio.BaseProtocol] = set()
        self._arriving: set[asyncio.Task[None]] = set()
        self._is_leaving = False
        self._last_report: Report | None = None
        self._last_report_s = 0.0

    async def startup(self, sockets: object = None) -> None:  # noqa: ARG002
        """As the server does, but for an address: that is the parent's."""
        await super().startup([])  # type: ignore[arg-type]
        await self._sums.start()
        self._runtime.sum_of_workers = self._sums.exposition
        asyncio.get_running_loop().add_reader(self._line.fileno(), self._receive)
        self._report()

    async def shutdown(self, sockets: object = None) -> None:
        await super().shutdown(sockets)
        await self._sums.stop()

    def drained(self) -> None:
        """All streams have ended: the parent gives no more connections."""
        self._is_leaving = True
        self._tell()

    def _receive(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self._line, 16, 1, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:  # the parent is gone
                loop.remove_reader(self._line.fileno())
                log.warning("the parent is gone: the worker ends")
                self.should_exit = True
                return
            self._n_received += 1
            for fd in fds:
                self._n_arriving += 1
                task = loop.create_task(self._take(socket.socket(fileno=fd)))
                self._arriving.add(task)
                task.add_done_callback(self._arriving.discard)

    async def _take(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        connection.setblocking(False)
        try:
            _, protocol = await loop.connect_accepted_socket(self.protocol, connection)
            self._young.add(protocol)
            loop.call_later(YOUNG_S, self._young.discard, protocol)
        except OSError:  # it left already
            connection.close()
        finally:
            self._n_arriving -= 1

    def _report(self) -> None:
        """Tells how it stands, and comes again."""
        self._tell()
        if self._last_report is None or self._last_report.state != LEAVING:
            asyncio.get_running_loop().call_later(REPORT_S, self._report)

    def _tell(self) -> None:
        connections = self.server_state.connections
        n_busy = sum(c in self._young or _is_busy(c) for c in connections)
        report = Report(self._state(), self._n_received, self._n_arriving + n_busy)
        now_s = time.monotonic()
        if report != self._last_report or now_s - self._last_report_s >= ALIVE_S:
            try:
                self._line.send(report.packed())
                self._last_report, self._last_report_s = report, now_s
            except OSError:  # full, or the parent is gone: it is told again
                return

    def _state(self) -> bytes:
        if self._is_leaving:
            return LEAVING
        try:
            models = self._runtime.models()
            self._runtime.check_room(models.default.spec.segments_hz)  # for a stream of one channel
        except SerError:
            return FULL
        return NO_FILES if self._runtime.refuses_files else READY


def _is_busy(connection: object) -> bool:
    """Whether it is a WebSocket, or waits for its answer."""
    if isinstance(connection, RequestConnection):
        cycle: Any = connection.cycle  # uvicorn leaves the last one there
        return cycle is not None and not cycle.response_complete
    return isinstance(connection, StreamConnection)
