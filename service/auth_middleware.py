"""Before any route: who asks is found out, and counted, or refused with a problem document."""

import uuid

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from ser_core.errors import InputError, SerError
from service import problems
from service.auth import LOCAL, caller_of
from service.requests import NoQuery, parse_query
from service.runtime import Runtime

router = APIRouter(tags=["access"])


class AuthMiddleware:
    """ASGI middleware; `auth.caller_of` gives what it found."""

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        request_id = state.setdefault("request_id", uuid.uuid4().hex)
        try:
            caller = self._runtime.access.admit(scope)
            if caller is not None:
                await self._runtime.quotas.count_request(caller)
        except SerError as error:
            self._runtime.metrics.refused(error.code)
            is_input = scope["type"] == "websocket" and isinstance(error, InputError)
            answer = problems.response(error, request_id, status=400 if is_input else None)
            await answer(scope, receive, send)
            return
        state["caller"] = caller or LOCAL
        await self._app(scope, receive, send)


class TokenAnswer(BaseModel):
    """A browser token and its lifetime in milliseconds."""

    token: str
    expires_in_ms: int


@router.post(
    "/v1/tokens",
    summary="A token for a browser's stream",
    responses=problems.described(400, 401, 403, 429),
)
async def tokens(request: Request) -> TokenAnswer:
    """Single use and short-lived; offer it as the subprotocol `glrf.token.<token>`."""
    runtime: Runtime = request.app.state.runtime
    parse_query(NoQuery, request.query_params.multi_items())
    issued = runtime.access.tokens
    token = issued.issue(caller_of(request.scope).id)
    return TokenAnswer(token=token, expires_in_ms=round(issued.lifetime_s * 1000))
