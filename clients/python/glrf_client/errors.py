"""What can go wrong between a client and a server.

ClientError
├── SourceUnavailable  the file or the microphone cannot be opened
├── Unreachable        no server answered
├── Refused            HTTP status and the server's problem document (RFC 9457)
│   └── StreamRefused  the same, before a stream's WebSocket was opened
├── StreamError        the server's fatal `error` frame
│   └── TimelineLost   the server does not take the checkpoint: the stream cannot go on
├── StreamClosed       the stream ended otherwise than by `session.closed` and code 1000
└── BadServerMessage   the server does not speak this protocol
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Base of all errors that this package raises on purpose."""


class SourceUnavailable(ClientError):
    """Audio cannot be had: a package or a device is missing, or the file is no audio."""


class Unreachable(ClientError):
    """No server answered at the address."""


class Refused(ClientError):
    """The server answered with an error status; `problem` is its `application/problem+json`.

    `retry_after_s` is set when the server said when to try again.
    """

    def __init__(
        self, status: int, problem: Mapping[str, Any], retry_after_s: float | None = None
    ) -> None:
        detail = problem.get("detail") or problem.get("title") or "no reason given"
        remedy = f"; {problem['remedy']}" if problem.get("remedy") else ""
        super().__init__(f"refused with status {status}: {detail}{remedy}")
        self.status = status
        self.problem = dict(problem)
        self.retry_after_s = retry_after_s

    @property
    def code(self) -> str | None:
        """The server's stable word for the cause, for programs."""
        code = self.problem.get("code")
        return code if isinstance(code, str) else None


class StreamRefused(Refused):
    """The server would not open the stream."""


class StreamError(ClientError):
    """The server ended the stream with a fatal error; `retryable` says if trying again can help.

    `close_code` is the WebSocket close code that followed, `None` if none came.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after_ms: int | None = None,
        request_id: str | None = None,
        close_code: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms
        self.request_id = request_id
        self.close_code = close_code


class TimelineLost(StreamError):
    """The checkpoint is unknown, forged or expired (4404): this stream's timeline ends here.

    All events before `resume_from_ms` were given. To go on, open a new stream with
    `start_offset_ms=resume_from_ms` and send the audio from there on: its times are in line,
    while its utterances and the indices of its segments are new.
    """

    resume_from_ms: int = 0


class StreamClosed(ClientError):
    """The connection ended; `code` is the WebSocket close code, 1006 when there was none."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the stream ended with code {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class BadServerMessage(ClientError):
    """A message that breaks the contract: not JSON, or without a field that it must have."""
