"""Live sessions of this process, and a socket to watch one: `/v1/sessions`."""

import asyncio
import contextlib
from typing import Any

from fastapi import APIRouter, Request, WebSocket, WebSocketDisconnect

from ser_core.errors import BadMessage, SerError, SlowClient
from service import problems, wire
from service.auth import caller_of
from service.broadcast import Broadcast, Watcher
from service.handshake import accept, deny, websocket
from service.requests import NoQuery, parse_query
from service.runtime import Runtime
from service.session_info import SessionList

router = APIRouter(tags=["live sessions"])


@router.get(
    "/v1/sessions",
    summary="The live sessions of the key",
    responses=problems.described(400, 401, 403, 429),
)
async def sessions(request: Request) -> SessionList:
    """Streams and calls that are open now, in the process that answers."""
    runtime: Runtime = request.app.state.runtime
    parse_query(NoQuery, request.query_params.multi_items())
    live = runtime.sessions(caller_of(request.scope))
    return SessionList(sessions=tuple(session.entry for session in live))


@websocket(router, "/v1/sessions/{session_id}/events")
async def events(socket: WebSocket, session_id: str) -> None:
    """All that a session tells, from how it stands to its end; the watcher says nothing."""
    runtime: Runtime = socket.app.state.runtime
    request_id: str = socket.scope["state"]["request_id"]
    try:
        parse_query(NoQuery, socket.query_params.multi_items())
    except SerError as error:
        await deny(socket, error)
        return
    watching = _Watching(socket, session_id, request_id, runtime.settings.send_timeout_s)
    try:
        # After the upgrade, where browsers too can read why.
        await accept(socket)
        broadcast = runtime.session(caller_of(socket.scope), session_id).broadcast
        await watching.run(broadcast)
    except SerError as error:
        runtime.metrics.refused(error.code)
        await watching.end_with(error)
    except (WebSocketDisconnect, RuntimeError):
        return  # it left


class _Watching:
    """One watcher's connection."""

    def __init__(
        self, socket: WebSocket, session_id: str, request_id: str, send_timeout_s: float
    ) -> None:
        self._socket = socket
        self._session_id = session_id
        self._request_id = request_id
        self._send_timeout_s = send_timeout_s
        self._seq = 0

    async def run(self, broadcast: Broadcast) -> None:
        """Tells the session to its end, or until the watcher leaves; raises what ends it badly."""
        watcher = broadcast.join()
        listening = asyncio.create_task(self._listen())
        telling = asyncio.create_task(self._tell(watcher))
        tasks = (listening, telling)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
            await self._socket.close(1000)
        finally:
            broadcast.leave(watcher)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self) -> None:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        raise BadMessage(
            "a watcher sent something, but this socket only tells",
            remedy="send nothing; commands belong to the session's own connection",
        )

    async def _tell(self, watcher: Watcher) -> None:
        n_skipped = 0
        while (message := await watcher.next()) is not None:
            if watcher.n_skipped > n_skipped:
                n_new, n_skipped = watcher.n_skipped - n_skipped, watcher.n_skipped
                await self._send(
                    wire.WarningMessage(
                        seq=0,
                        session_id=self._session_id,
                        channel=0,
                        code="late",
                        message=f"{n_new} segments were not read in time, and are left out here",
                    )
                )
            await self._send(message)

    async def _send(self, message: wire.Message) -> None:
        """With the `seq` of this connection."""
        numbered = message.model_copy(update={"seq": self._seq})
        self._seq += 1
        try:
            async with asyncio.timeout(self._send_timeout_s):
                await self._socket.send_text(numbered.model_dump_json())
        except TimeoutError as error:
            raise SlowClient(
                f"events could not be sent for {self._send_timeout_s:g} s",
                remedy="read them as they come, then connect again",
            ) from error

    async def end_with(self, error: SerError) -> None:
        """The `error` message, then the close code."""
        fields = wire.error_fields(error, self._request_id, fatal=True)
        message = wire.ErrorMessage(seq=self._seq, session_id=self._session_id[:64], **fields)
        code = problems.problem_of(error).close_code
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, SlowClient):
            drop: Any = self._socket.scope.get("extensions", {}).get("glrf.drop")
            if isinstance(error, SlowClient) and drop is not None:
                drop(message.model_dump_json(), code)
                return
            await self._send(message)
            await self._socket.close(code, error.code)
