"""The process: uvicorn around the app, with an orderly end."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from service.app import create_app
from service.connection import RequestConnection, StreamConnection
from service.registry import ModelRegistry
from service.runtime import Runtime
from service.settings import Settings
from service.shared import Shared
from service.wire import MAX_FRAME_BYTES

PING_TIMEOUT_S = 60.0


class Server(uvicorn.Server):
    """Lets streams end by the contract before uvicorn closes what is left."""

    def __init__(
        self,
        settings: Settings,
        models: ModelRegistry | None = None,
        shared: Shared | None = None,
    ) -> None:
        app = create_app(settings, models, shared)
        self._runtime: Runtime = app.state.runtime
        self._shutdown_s = settings.shutdown_s
        #: Called when the end begins; what else has to end can do so meanwhile.
        self.on_stop: Callable[[], None] = lambda: None
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                log_level=settings.log_level,
                log_config=None,  # its lines are as all others
                access_log=False,  # it would hold query strings; the app logs each answer
                http=RequestConnection,
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
        self.on_stop()
        await self._runtime.drain(self._shutdown_s)
        self.drained()
        left_s = max(1, math.ceil(deadline_s - time.monotonic()))
        self.config.timeout_graceful_shutdown = left_s
        await super().shutdown(sockets)  # type: ignore[arg-type]

    def drained(self) -> None:
        """All streams have ended, and connections are refused from now on."""

    def protocol(self) -> asyncio.Protocol:
        """What speaks on a connection that was accepted elsewhere."""
        make: Any = self.config.http_protocol_class  # as uvicorn's own `startup` calls it
        return make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    @property
    def bound_port(self) -> int:
        """The port that is listened on, also where the settings say 0."""
        return self.servers[0].sockets[0].getsockname()[1]
