"""A TCP proxy before the replicas that does to connections what networks do."""

import asyncio
import contextlib
import math
import socket
import struct
import time
from collections.abc import Callable, Sequence
from typing import Literal, Self

Fault = Literal["reset", "stall", "black_hole", "throttle", "cut", "fragment"]
FAULTS: tuple[Fault, ...] = ("reset", "stall", "black_hole", "throttle", "cut", "fragment")

#: How long a line is stalled, throttled or taken apart.
FAULT_S = 2.0
_THROTTLED_BYTES_S = 8_000  # 64 kbit/s
_BLOCK_BYTES = 16 * 1024


class Line:
    """One client's connection through the proxy, and what is wrong with it now."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._ends = (client, server)
        self._fault: Fault | None = None
        self._until_s = 0.0

    def suffer(self, fault: Fault) -> None:
        """Begins a fault; a second one takes the place of the first.

        What fell into a black hole is missing for good, and TCP delivers nothing behind a gap.
        """
        if fault == "reset":
            self.reset()
        elif self._fault != "black_hole":
            self._fault = fault
            self._until_s = math.inf if fault == "black_hole" else time.monotonic() + FAULT_S

    def reset(self) -> None:
        """RST to both ends: what is on its way is lost."""
        for writer in self._ends:
            connection = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until its end."""
        while data := await reader.read(_BLOCK_BYTES):
            match self._fault if time.monotonic() < self._until_s else None:
                case "stall":
                    await asyncio.sleep(self._until_s - time.monotonic())
                case "black_hole":
                    continue  # nobody is told
                case "throttle":
                    await asyncio.sleep(len(data) / _THROTTLED_BYTES_S)
                case "cut":
                    writer.write(data[: len(data) // 2])
                    await writer.drain()
                    return
                case "fragment":
                    for place in range(min(64, len(data))):
                        writer.write(data[place : place + 1])
                        await asyncio.sleep(0)
                    data = data[64:]
                case _:
                    pass
            writer.write(data)
            await writer.drain()


class Proxy:
    """`async with Proxy(ports) as proxy:` takes connections on `proxy.port`.

    Each goes to the first of `ports()` that takes it, as a load balancer that knows who is
    ready would do.
    """

    def __init__(self, ports: Callable[[], Sequence[int]]) -> None:
        self._ports = ports
        self.lines: set[Line] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for line in list(self.lines):
            line.reset()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1/stream"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = await self._connect()
        if upstream is None:
            writer.transport.abort()
            return
        line = Line(writer, upstream[1])
        self.lines.add(line)
        ways = [
            asyncio.create_task(line.carry(reader, upstream[1])),
            asyncio.create_task(line.carry(upstream[0], writer)),
        ]
        try:
            # The server's end is passed on; a client that left takes its server's side with it.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.lines.discard(line)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (writer, upstream[1]):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for port in self._ports():
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", port)
        return None
