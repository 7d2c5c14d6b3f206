"""The ASGI application: routes, lifespan, request ids, and errors as problem documents."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ser_core.errors import InputError, Restarting, SerError
from service import asyncapi, auth_middleware, files, ops, page, problems, sessions, stream
from service.auth import LOCAL
from service.handshake import deny
from service.jobs import routes as jobs
from service.jobs.job_service import JobService
from service.metrics import Metrics
from service.openapi import document
from service.registry import ModelRegistry
from service.runtime import Runtime
from service.settings import Settings
from service.shared import Shared
from service.telephony import audiohook, twilio

VERSION = "1"  # of the wire contract

#: Other methods are a client's to invent, and no label values.
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

#: What a scrape waits for the store of jobs, and what the end does.
_COUNT_S, _CLOSE_S = 0.5, 1.0

#: Whose routes there are.
_MODULES = (stream, sessions, twilio, audiohook, files, jobs, auth_middleware, ops, asyncapi, page)
#: Where a WebSocket ends that no other route takes.
_ANY_PATH = "/{path:path}"

log = logging.getLogger(__name__)


def create_app(
    settings: Settings, models: ModelRegistry | None = None, shared: Shared | None = None
) -> FastAPI:
    """The application; without `models` it loads them after its start, and is not ready before.

    `shared` is what it has in common with other workers of the same server.
    """
    runtime = Runtime(settings, models, shared)
    job_service = JobService(settings)
    runtime.deliver = job_service.deliver

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await runtime.start()
        opening = asyncio.create_task(job_service.ask_for(None, job_service.opened.open_ahead))
        yield
        await runtime.stop()  # first: a store that does not answer must not keep streams waiting
        opening.cancel()
        with contextlib.suppress(TimeoutError):
            await job_service.ask_for(_CLOSE_S, job_service.opened.close)

    # FastAPI with `/docs` from its own files: a service without the internet has a manual too.
    app = FastAPIOffline(
        title="GLRF",
        summary="Streaming speech emotion recognition",
        version=VERSION,
        lifespan=lifespan,
        redoc_url=None,
        static_url="/docs/static",
        redirect_slashes=False,  # a client that follows none would be told nothing
    )
    app.state.runtime = runtime
    app.state.jobs = job_service

    counting: set[asyncio.Task[None]] = set()

    async def count_jobs() -> None:
        """One count at a time: a scrape that comes meanwhile, or finds it slow, has the last."""
        if not counting:
            task = asyncio.create_task(_counted(job_service, runtime.metrics))
            counting.add(task)
            task.add_done_callback(counting.discard)
        await asyncio.wait(counting, timeout=_COUNT_S)

    runtime.count_jobs = count_jobs

    async def openapi(_: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(document, app))

    # Before FastAPI's own, which makes the document on the event loop: a tenth of a second.
    app.router.routes.insert(0, Route("/openapi.json", openapi, include_in_schema=False))
    for module in _MODULES:
        app.include_router(module.router)
    app.add_api_websocket_route(_ANY_PATH, _no_such_stream)
    app.add_exception_handler(SerError, _tell_error)
    app.add_exception_handler(HTTPException, _tell_error)
    app.add_exception_handler(Exception, _tell_error)
    # The last one added is the first to see a request.
    app.add_middleware(auth_middleware.AuthMiddleware, runtime=runtime)
    if runtime.access.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=runtime.access.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(RequestLog, runtime=runtime)
    return app


async def _counted(job_service: JobService, metrics: Metrics) -> None:
    try:
        await job_service.ask(job_service.opened.count_into, metrics.jobs)
    except OSError as error:  # no answer in time, or a folder that may not be looked at
        metrics.jobs.is_up = False
        log.warning("jobs cannot be counted: %s", error)


async def _no_such_stream(socket: WebSocket) -> None:
    """A WebSocket at any other path."""
    await deny(socket, _no_such_path(), status=404)


def _no_such_path() -> InputError:
    return InputError("no such path", remedy="see /docs", code="not_found")


async def _tell_error(request: Request, error: Exception) -> Response:
    """Any exception as a problem document."""
    runtime: Runtime = request.app.state.runtime
    known = _known(error)
    runtime.metrics.refused(known.code)
    # Starlette's own refusals (404, 405, a form that cannot be parsed) have their status and
    # headers.
    status, headers = None, None
    if isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
        if status == 405 and (methods := _allowed(request.scope)):
            headers = {"Allow": ", ".join(methods)}
    return problems.response(known, request.state.request_id, status=status, headers=headers)


def _known(error: Exception) -> SerError:
    match error:
        case SerError():
            return error
        case HTTPException(status_code=404):
            return _no_such_path()
        case HTTPException(status_code=426):
            return InputError(
                "this is a WebSocket",
                remedy="connect with ws:// or wss://",
                code="upgrade_required",
            )
        case HTTPException(status_code=405):
            return InputError("wrong method", remedy="see /docs", code="method_not_allowed")
        case HTTPException():
            return InputError(error.detail, remedy="see /docs")
        case _:
            return problems.internal_error(error)


class RequestLog:
    """Gives each request an id, tells it in `X-Request-ID`, counts and logs the answer.

    Of WebSockets only those that are refused: a session's own lines tell of the others.
    """

    def __init__(self, app: ASGIApp, runtime: Runtime) -> None:
        self._app = app
        self._metrics = runtime.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        if scope["type"] == "websocket":
            await self._app(scope, receive, self._refusals_logged(scope, send, request_id))
            return
        began_s = time.perf_counter()
        status, has_begun = 500, False

        async def send_with_id(message: Message) -> None:
            nonlocal status, has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                status = message["status"]
                headers = [h for h in message["headers"] if h[0].lower() != b"x-request-id"]
                message["headers"] = [*headers, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except asyncio.CancelledError:  # by uvicorn, when `shutdown_s` has passed
            if has_begun:
                raise
            error = Restarting("the service shut down before the answer", remedy="send it again")
            answer = await _tell_error(Request(scope), error)
            await answer(scope, receive, send_with_id)
        finally:
            route, duration_s = _route_of(scope), time.perf_counter() - began_s
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.http_requests.labels(route, method, status).inc()
            self._metrics.http_s.labels(route).observe(duration_s)
            _log_answer(method, status, scope, f"in {duration_s:.3f} s", request_id)

    def _refusals_logged(self, scope: Scope, send: Send, request_id: str) -> Send:
        async def send_and_log(message: Message) -> None:
            if message["type"] == "websocket.http.response.start":
                _log_answer("WebSocket", message["status"], scope, "refused", request_id)
            await send(message)

        return send_and_log


def _route_of(scope: Scope) -> str:
    """Only known routes are told and become label values: paths are the client's to invent."""
    route = scope.get("route")
    if route is None:  # it was answered before it came to a route
        route = next(_routes_at(scope), None)
    path: str = getattr(route, "path", "other")
    return "other" if path == _ANY_PATH else path


def _routes_at(scope: Scope) -> Iterator[BaseRoute]:
    """Those of the request's path, whatever its method."""
    ours = (one for module in _MODULES for one in module.router.routes)
    return (one for one in ours if one.matches(scope)[0] is not Match.NONE)


def _allowed(scope: Scope) -> list[str]:
    """All methods of a path (RFC 9110, Section 15.5.6); the router names its first route's."""
    return sorted({method for one in _routes_at(scope) for method in getattr(one, "methods", ())})


def _log_answer(method: str, status: int, scope: Scope, how: str, request_id: str) -> None:
    """The route, never the query: what a client writes there is its own."""
    caller = scope["state"].get("caller")
    whose = "" if caller in (None, LOCAL) else f" of {caller.name}"
    told = (method, _route_of(scope), status, whose, how, request_id)
    log.info("%s %s: %d%s, %s (request %s)", *told)
