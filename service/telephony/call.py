"""A call that a telephony platform streams here: what Twilio and AudioHook have in common.

The platform has no place for results: they are told to those who watch the session, and to a
webhook. However a call ends, what was heard of it is scored and told first.
"""

import abc
import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import WebSocket, WebSocketDisconnect

from ser_core.errors import BadMessage, BadParameter, SerError
from service import wire
from service.frames import too_large
from service.handshake import accept, deny
from service.live import CLIENT_CLOSED, CLIENT_LEFT, LiveSession
from service.requests import CALL_RATE_HZ, CallQuery, StreamQuery, parse_query
from service.runtime import Runtime
from service.telephony.timeline import SILENCE

#: How long a platform may take to say what it streams.
OPENING_S: Final = 10.0
#: How far a platform's time may be ahead of ours.
MAX_AHEAD_S: Final = 60.0
#: Bad messages that one call may hold: each is told, so they must not flood those who watch.
MAX_COMPLAINTS: Final = 100

_STEP_SAMPLES: Final = CALL_RATE_HZ


def parse_options(
    query: Iterable[tuple[str, str]], parameters: Mapping[str, Any] | None
) -> CallQuery:
    """From the address and from what the platform lets its customers set; raises `BadParameter`."""
    items = list(query)
    for name, value in (parameters or {}).items():
        if not isinstance(value, str | int | float | bool):
            raise BadParameter(
                f"parameter {name[:64]!r} is not plain text", remedy="write it as text"
            )
        items.append((name, str(value).lower() if isinstance(value, bool) else str(value)))
    return parse_query(CallQuery, items)


async def upgraded(socket: WebSocket) -> bool:
    """Accepts the connection, or refuses it by an HTTP problem document, as far as is known yet."""
    runtime: Runtime = socket.app.state.runtime
    try:
        parse_options(socket.query_params.multi_items(), None)
        runtime.check_room()
    except SerError as error:
        await deny(socket, error)
        return False
    await accept(socket, None)
    return True


class Call(LiveSession):
    """One admitted call."""

    def __init__(
        self,
        socket: WebSocket,
        runtime: Runtime,
        query: StreamQuery,
        request_id: str,
        *,
        external: dict[str, str],
        webhook_url: str | None,
    ) -> None:
        super().__init__(
            socket, runtime, query, request_id, external=external, webhook_url=webhook_url
        )
        self._missing_s = self._metrics.missing_s.labels(self.front_end)
        self._began_s = time.monotonic()
        self._failure: SerError | None = None
        self._has_left = False
        self._n_complaints = 0

    # --- what a platform is ------------------------------------------------------------------

    @abc.abstractmethod
    async def _converse(self) -> None:
        """Takes messages until the platform ends the call; raises what is wrong with them."""

    @abc.abstractmethod
    async def _hang_up(self, error: SerError | None) -> None:
        """Says the last words of its protocol and closes the connection."""

    async def _open(self) -> None:
        pass

    def _held_back(self) -> bytes:
        """Audio that waited for more, when none comes any more."""
        return b""

    # --- in ----------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            await self._converse()
        except WebSocketDisconnect as error:
            self._has_left = True
            if error.code == 1009:  # a frame far above the limit, refused unread
                self._failure = too_large("the frame")
        except SerError as error:
            self._failure = error
        await self._pump.room()
        self._end_audio()

    def _end_audio(self) -> None:
        def end() -> None:
            if not self._is_finishing:
                self._session.receive_audio(self._held_back())
                self._session.close()

        self._pump.advance(end, time.perf_counter())
        self._finish()

    async def _skip(self, n_samples: int, received_s: float) -> None:
        """Time without audio: it goes by as silence, and is charged to nobody."""
        self._missing_s.inc(n_samples / CALL_RATE_HZ)
        for start in range(0, n_samples, _STEP_SAMPLES):
            n_frames = min(_STEP_SAMPLES, n_samples - start)
            await self._take(SILENCE * (n_frames * self._session.frame_bytes), received_s)

    async def _end_utterances(self, received_s: float) -> None:
        """Tells what was said: nobody knows when the call goes on."""
        await self._pump.room()
        self._pump.advance(self._session.flush, received_s)

    def _is_plausible(self, position_samples: int, ahead_s: float = MAX_AHEAD_S) -> bool:
        """Whether a call can have come so far by now, its clock being so much ahead of ours."""
        elapsed_s = time.monotonic() - self._began_s
        return position_samples / CALL_RATE_HZ <= elapsed_s + ahead_s

    async def _complain(self, code: str, message: str, *, counts: bool = True) -> None:
        """Too many end the call, but for those that do not count: they cannot come often."""
        self._n_complaints += counts
        if self._n_complaints > MAX_COMPLAINTS:
            raise BadMessage(
                f"more than {MAX_COMPLAINTS} messages of this call were bad, at last: {message}",
                remedy="see docs/telephony.md for what the platform must send",
            )
        await super()._complain(code, message)

    # --- out ---------------------------------------------------------------------------------

    async def _deliver(self, message: wire.Message) -> None:
        """The platform asks for no results."""

    async def _drain(self, writer: Any) -> None:
        self._end_audio()
        await super()._drain(writer)

    async def _say_goodbye(self) -> str:
        if self._failure is not None:
            raise self._failure
        reason = CLIENT_LEFT if self._has_left else CLIENT_CLOSED
        await self._send(wire.SessionClosed, **self._closed(reason))
        await self._end_line(None)
        return reason

    async def _end_with(self, error: SerError) -> None:
        with contextlib.suppress(SerError):
            await self._send(
                wire.ErrorMessage, **wire.error_fields(error, self._request_id, fatal=True)
            )
        await self._end_line(error)

    async def _end_line(self, error: SerError | None) -> None:
        if not self._has_left:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError):
                await self._hang_up(error)
