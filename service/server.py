"""The process: uvicorn around the app, with an orderly end."""

import contextlib
import math
import socket
import time

import uvicorn

from ser_core.errors import SerError
from service.app import create_app
from service.connection import StreamConnection
from service.registry import ModelRegistry
from service.runtime import Runtime
from service.settings import Settings
from service.wire import MAX_FRAME_BYTES

PING_TIMEOUT_S = 60.0

_BACKLOG = 2048


class Server(uvicorn.Server):
    """Lets streams end by the contract before uvicorn closes what is left."""

    def __init__(self, settings: Settings, models: ModelRegistry | None = None) -> None:
        app = create_app(settings, models)
        self._runtime: Runtime = app.state.runtime
        self._shutdown_s = settings.shutdown_s
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_level=settings.log_level,
                access_log=False,  # it would hold query strings; the app logs each answer
                ws=StreamConnection,
                # Above the contract's limit, so that a frame a little too large is refused by an
                # error message; one above this is refused by its header, unread.
                ws_max_size=2 * MAX_FRAME_BYTES,
                ws_per_message_deflate=False,
                # The answer to a ping waits behind all audio that was sent before it.
                ws_ping_timeout=PING_TIMEOUT_S,
            )
        )

    async def shutdown(self, sockets: object = None) -> None:
        """Drains, then ends as uvicorn does; both within `shutdown_s`."""
        deadline_s = time.monotonic() + self._shutdown_s
        await self._runtime.drain(self._shutdown_s)
        left_s = max(1, math.ceil(deadline_s - time.monotonic()))
        self.config.timeout_graceful_shutdown = left_s
        await super().shutdown(sockets)  # type: ignore[arg-type]

    @property
    def bound_port(self) -> int:
        """The port that is listened on, also where the settings say 0."""
        return self.servers[0].sockets[0].getsockname()[1]


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket that listens at the address; raises `SerError` (`address_unusable`)."""
    with contextlib.ExitStack() as undo:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = undo.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise SerError(
                f"{host}:{port} cannot be listened on: {error.strerror or error}",
                remedy="stop what uses it, or choose another GLRF_HOST or GLRF_PORT",
                code="address_unusable",
            ) from error
        undo.pop_all()
        return listener
