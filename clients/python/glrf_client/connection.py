"""One WebSocket to the server: its messages as events, its endings as this package's errors."""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, cast

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidProxy, InvalidStatus, WebSocketException
from websockets.protocol import State

from glrf_client.address import is_loopback, stream_url, unusable_proxy
from glrf_client.errors import (
    BadServerMessage,
    ClientError,
    StreamClosed,
    StreamError,
    StreamRefused,
    TimelineLost,
    Unreachable,
)
from glrf_client.events import ErrorFrame, Event, parse_event
from glrf_client.problem import problem_from
from glrf_client.recovery import LOST_CODE

#: Server messages kept unread before the connection stops reading: seven minutes of segments.
_MAX_UNREAD: Final = 1024
#: The close code follows a fatal error at once, and the end of TCP the close code; a server that
#: is gone, or that reads no more, lets one wait for both.
_CLOSE_TIMEOUT_S: Final = 0.5
_POLL_S: Final = 0.005


class _Opening(open_websocket):
    """Follows no redirect: the library would take the caller's headers along to other hosts."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


class Connection:
    """An open WebSocket."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    @classmethod
    async def open(
        cls,
        url: str,
        query: Mapping[str, object],
        *,
        headers: Mapping[str, str],
        open_timeout_s: float,
    ) -> "Connection":
        """Raises `StreamRefused` when the server says no, `Unreachable` when there is none."""
        address = stream_url(url, query)
        try:
            websocket = await _Opening(
                address,
                additional_headers=headers,
                compression=None,  # audio does not shrink
                proxy=None if is_loopback(address) else True,
                open_timeout=open_timeout_s,
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_interval=None,  # the library's own wants each pong in time, whatever comes
                max_queue=_MAX_UNREAD,
            )
        except InvalidStatus as error:
            response = error.response
            # One value of each: the library's own mapping raises where a header comes twice.
            told = {name.title(): value for name, value in response.headers.raw_items()}
            raise StreamRefused(
                *problem_from(response.status_code, told, bytes(response.body or b""))
            ) from error
        except ssl.SSLCertVerificationError as error:  # a ValueError too, and passes like others
            raise Unreachable(
                f"no way to {address.partition('?')[0]}: a certificate was not accepted: {error}; "
                "give a private CA's by SSL_CERT_FILE, and check this machine's clock"
            ) from error
        except (InvalidProxy, ImportError, ValueError) as error:
            raise unusable_proxy(address, error) from None
        except (OSError, WebSocketException, EOFError) as error:
            # TimeoutError is an OSError.
            raise Unreachable(
                f"no server at {address.partition('?')[0]}: {error or 'timed out'}"
            ) from error
        return cls(websocket)

    async def send(self, message: bytes | str) -> None:
        """Waits while the server is behind; raises `StreamClosed` or `TimelineLost` at the end."""
        try:
            await self._websocket.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from error

    async def ping(self, on_pong: Callable[[], None]) -> None:
        """Asks the server to say when it has all that was sent; raises as `send` does."""
        try:
            answer = await self._websocket.ping()
        except ConnectionClosed as error:
            raise _closed(error) from error

        def tell(pong: asyncio.Future[float]) -> None:
            if not pong.cancelled() and pong.exception() is None:
                on_pong()

        cast(asyncio.Future[float], answer).add_done_callback(tell)

    @property
    def is_backed_up(self) -> bool:
        """Whether something waits to be taken by the line."""
        return self._websocket.transport.get_write_buffer_size() > 0

    async def receive(self, within_s: float) -> Event | None:
        """The next message, `None` for a type that this client does not know.

        Raises `TimeoutError` when none comes within so many seconds, `StreamError` for a fatal
        error frame, `TimelineLost` when the checkpoint is not taken, `StreamClosed` at the end,
        `BadServerMessage`.
        """
        try:
            async with asyncio.timeout(within_s):
                message = await self._websocket.recv()
        except ConnectionClosed as error:
            raise _closed(error) from error
        if isinstance(message, bytes):
            raise BadServerMessage("a binary message; the server sends text only")
        event = parse_event(message)
        if isinstance(event, ErrorFrame) and event.fatal:
            raise await self._fatal(event)
        return event

    async def close(self) -> None:
        """Says goodbye, at most for half a second."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._websocket.close()
        except TimeoutError:  # the goodbye itself found no room
            await self.drop()

    async def drop(self) -> None:
        """Ends a connection that is of no use any more, without a word."""
        self._websocket.transport.abort()
        await self._websocket.wait_closed()

    async def _fatal(self, frame: ErrorFrame) -> StreamError:
        code = await self._close_code()
        kind = TimelineLost if code == LOST_CODE else StreamError
        return kind(
            frame.code,
            frame.message,
            retryable=frame.retryable,
            retry_after_ms=frame.retry_after_ms,
            request_id=frame.request_id,
            close_code=code,
        )

    async def _close_code(self) -> int | None:
        """The code of the close frame that follows."""
        protocol = self._websocket.protocol
        for _ in range(round(_CLOSE_TIMEOUT_S / _POLL_S)):
            if protocol.close_rcvd is not None or protocol.state is State.CLOSED:
                break
            await asyncio.sleep(_POLL_S)
        return None if protocol.close_rcvd is None else protocol.close_rcvd.code


async def opened_soon(
    open_one: Callable[[], Coroutine[Any, Any, Connection]], patience_s: float
) -> Connection:
    """A connection from `open_one`, which is asked a second time after `patience_s` without answer.

    A line may be dead before it was of any use, and says nothing then; another one, made beside
    it, often is not (as RFC 8305 does with addresses). The first that opens is taken, the other
    one dropped. Raises what the last try raised when none opens.
    """
    tries = {asyncio.create_task(open_one())}
    taken: set[asyncio.Task[Connection]] = set()
    try:
        done, waiting = await asyncio.wait(tries, timeout=patience_s)
        if not done:
            waiting = {*tries, asyncio.create_task(open_one())}
            tries = waiting
        while waiting and not any(one.exception() is None for one in done):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        opened = min(done, key=lambda one: one.exception() is not None)
        await _drop(tries - {opened})
        taken = {opened}
        return opened.result()
    finally:
        await _drop(tries - taken)  # all of them, where nobody waits any more


async def _drop(tries: set[asyncio.Task[Connection]]) -> None:
    for one in tries:
        one.cancel()
    for result in await asyncio.gather(*tries, return_exceptions=True):
        if isinstance(result, Connection):
            await result.drop()


def _closed(error: ConnectionClosed) -> ClientError:
    if error.rcvd is None:
        return StreamClosed(1006, "the connection was lost")
    if error.rcvd.code == LOST_CODE:
        reason = error.rcvd.reason or "checkpoint_unknown"  # the server gives its `error` code
        return TimelineLost(reason, "the checkpoint was not taken", close_code=LOST_CODE)
    return StreamClosed(error.rcvd.code, error.rcvd.reason)
