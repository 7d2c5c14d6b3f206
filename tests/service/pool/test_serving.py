"""What one worker tells its parent of itself."""

import asyncio
import socket
from pathlib import Path

import pytest

from ser_core.errors import Overloaded
from service.auth import Caller
from service.broadcast import Broadcast
from service.keys import KeyLimits
from service.pool.line import CONNECTION, FULL, MESSAGE_BYTES, NO_FILES, READY, Report
from service.pool.serving import PoolServer
from service.registry import ModelRegistry
from service.runtime import Runtime
from service.session_info import SessionEntry
from service.settings import Settings
from service.shared import Shared
from tests.service.running import TIMEOUT_S, GatedBackend, until
from tests.service.test_capacity import spend


async def test_a_worker_without_room_for_one_more_stream_says_that_it_is_full(
    settings: Settings, tmp_path: Path
) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        backend = GatedBackend()
        server = PoolServer(settings, ModelRegistry([backend]), tmp_path, 0, 1, theirs)
        runtime = server.config.app.state.runtime  # type: ignore[union-attr]

        def state() -> bytes:
            server._tell()  # pyright: ignore[reportPrivateUsage]
            return Report.parsed(ours.recv(MESSAGE_BYTES)).state

        with ours, theirs:
            await runtime.start()
            assert state() == READY
            spend(runtime.capacity, loop=0.01)  # a hundred segments a second are all it can do
            runtime.capacity.take(88.0)
            assert runtime.capacity.load() < settings.max_load
            assert state() == FULL
            runtime.capacity.release(10.0)
            assert state() == READY
            await runtime.stop()


async def test_a_connection_that_has_just_come_counts_at_once(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = PoolServer(settings, ModelRegistry([GatedBackend()]), tmp_path, 0, 1, theirs)
        monkeypatch.setattr(server, "protocol", asyncio.Protocol)

        def reported() -> tuple[int, int]:
            server._tell()  # pyright: ignore[reportPrivateUsage]
            report = Report.parsed(ours.recv(MESSAGE_BYTES))
            return report.n_received, report.n_busy

        with (
            ours,
            theirs,
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()),
        ):
            with listener.accept()[0] as accepted:
                socket.send_fds(ours, [CONNECTION], [accepted.fileno()])
            server._receive()  # pyright: ignore[reportPrivateUsage]
            assert reported() == (1, 1)
            await asyncio.gather(*server._arriving)  # pyright: ignore[reportPrivateUsage]
            assert reported() == (1, 0)  # what it became is no stream


async def test_a_file_counts_until_it_is_answered(settings: Settings, tmp_path: Path) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        narrow = settings.model_copy(update={"max_files_waiting": 1})
        server = PoolServer(narrow, ModelRegistry([GatedBackend()]), tmp_path, 0, 1, theirs)
        runtime = server.config.app.state.runtime  # type: ignore[union-attr]
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)

        def reported() -> tuple[bytes, int]:
            server._last_report = None  # pyright: ignore[reportPrivateUsage]
            server._tell()  # pyright: ignore[reportPrivateUsage]
            report = Report.parsed(ours.recv(MESSAGE_BYTES))
            return report.state, report.n_busy

        with ours, theirs:
            await runtime.start()
            listener = await asyncio.get_running_loop().create_server(
                server.protocol, "127.0.0.1", 0
            )
            _, port = listener.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n")
            await until(lambda: reported() == (NO_FILES, 1))
            writer.write(b"no audio.")
            assert (await reader.readline()).startswith(b"HTTP/1.1 4")
            await until(lambda: reported() == (READY, 0))  # though it is kept
            writer.close()
            listener.close()
            await runtime.stop()


class Hanging:
    """A stream that holds its place."""

    broadcast: Broadcast
    entry: SessionEntry
    caller = Caller("id", "name", KeyLimits())
    demand = 2.5
    is_stopping = False

    def __init__(self, name: str) -> None:
        self.id = name

    def stop(self, reason: object = None) -> None:
        raise AssertionError(reason)

    async def ended(self) -> None:
        pass


async def test_a_stream_goes_on_at_a_full_worker_while_another_counts_its_old_connection(
    settings: Settings, tmp_path: Path
) -> None:
    async with asyncio.timeout(TIMEOUT_S):
        full = settings.model_copy(update={"max_sessions": 1})
        one, other = (
            Runtime(full, ModelRegistry([GatedBackend()]), Shared(tmp_path)) for _ in range(2)
        )
        for runtime in (one, other):
            await runtime.start()
        with one.stream_admitted(Hanging("a")), other.stream_admitted(Hanging("b")):
            with other.stream_admitted(Hanging("a"), is_resumed=True):
                pass
            with pytest.raises(Overloaded), other.stream_admitted(Hanging("c"), is_resumed=True):
                pass  # of another server
        for runtime in (one, other):
            await runtime.stop()
