"""How a WebSocket begins: accepted, or refused by an HTTP problem document before the upgrade."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter, HTTPException, WebSocket

from ser_core.errors import InputError, SerError
from service import problems
from service.auth import SUBPROTOCOL
from service.runtime import Runtime

Route = TypeVar("Route", bound=Callable[..., Awaitable[None]])


def websocket(router: APIRouter, path: str) -> Callable[[Route], Route]:
    """Decorates a WebSocket's route; who sends its path a plain GET is told what the path is."""

    def register(route: Route) -> Route:
        router.add_api_websocket_route(path, route)
        router.add_api_route(path, _upgrade_required, methods=["GET"], include_in_schema=False)
        return route

    return register


async def _upgrade_required() -> None:
    """The answer of RFC 9110, Section 15.5.22."""
    raise HTTPException(426, headers={"Upgrade": "websocket", "Connection": "Upgrade"})


async def accept(socket: WebSocket, subprotocol: str | None = SUBPROTOCOL) -> None:
    """Upgrades, with the subprotocol if the client offers it, and tells the request's id.

    A browser that offers subprotocols closes a connection that answers with none of them.
    """
    spoken = subprotocol if subprotocol in socket.scope["subprotocols"] else None
    request_id: str = socket.scope["state"]["request_id"]
    await socket.accept(spoken, headers=[(b"x-request-id", request_id.encode())])


async def deny(socket: WebSocket, error: SerError, *, status: int | None = None) -> None:
    """Counts the refusal and tells it.

    The contract knows one status for all that is wrong with a stream's parameters: 400.
    """
    runtime: Runtime = socket.app.state.runtime
    runtime.metrics.refused(error.code)
    if status is None and isinstance(error, InputError):
        status = 400
    answer = problems.response(error, socket.scope["state"]["request_id"], status=status)
    await socket.send_denial_response(answer)
