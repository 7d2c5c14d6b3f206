"""Streams through the ASGI application itself: no socket, so thousands of frames a second."""

import asyncio
import json
from collections.abc import Coroutine
from typing import Any, Self, TypeVar

from fastapi import FastAPI

from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings

T = TypeVar("T")
_TIMEOUT_S = 20.0


class Application:
    """A running application on an event loop of its own; `run` lets the loop go on."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.new_event_loop()
        self.app: FastAPI = create_app(settings)
        self._lifespan = self.app.router.lifespan_context(self.app)

    def __enter__(self) -> Self:
        self.run(self._lifespan.__aenter__())
        self.run(self._ready())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._lifespan.__aexit__(None, None, None))
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """To its end, at most for 20 s."""
        return self._loop.run_until_complete(asyncio.wait_for(work, _TIMEOUT_S))

    def metric(self, name: str, **labels: str) -> float:
        return self.runtime.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def runtime(self) -> Runtime:
        return self.app.state.runtime

    async def _ready(self) -> None:
        while self.metric("glrf_ready") != 1:  # noqa: ASYNC110 - a thread loads the model
            await asyncio.sleep(0.01)


class AsgiStream:
    """One WebSocket as the application sees it: `send` frames, `messages` and `close_code` come."""

    def __init__(self, app: FastAPI, query: str = "") -> None:
        self.messages: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self.refused_status: int | None = None
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "websocket.connect"})
        self._news = asyncio.Event()
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0"},
            "scheme": "ws",
            "path": "/v1/stream",
            "raw_path": b"/v1/stream",
            "query_string": query.encode(),
            "headers": [(b"host", b"127.0.0.1")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "subprotocols": [],
            "state": {},
            "extensions": {"websocket.http.response": {}},
        }
        self._task = asyncio.ensure_future(app(scope, self._incoming.get, self._take))

    @property
    def is_over(self) -> bool:
        return self.close_code is not None or self.refused_status is not None

    @property
    def n_untaken(self) -> int:
        """Frames that the application did not take."""
        return self._incoming.qsize()

    async def _take(self, message: Any) -> None:
        match message["type"]:
            case "websocket.send":
                self.messages.append(json.loads(message["text"]))
            case "websocket.close":
                self.close_code = message.get("code", 1000)
            case "websocket.http.response.start":
                self.refused_status = message["status"]
        self._news.set()

    def send(self, frame: bytes | str) -> None:
        kind = "bytes" if isinstance(frame, bytes) else "text"
        self._incoming.put_nowait({"type": "websocket.receive", kind: frame})

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def greeted(self) -> None:
        """Until the application has said anything."""
        while not self.messages and not self.is_over:
            self._news.clear()
            await self._news.wait()

    async def ended(self) -> None:
        """Until the application is done with it; raises what it raised."""
        await self._task
