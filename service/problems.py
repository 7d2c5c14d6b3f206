"""How an error travels: one table from its class to an HTTP status and a WebSocket close code.

REST errors are problem documents (RFC 9457, `application/problem+json`) with `code`,
`request_id` and `remedy`; a stream gets an `error` message with the same code, then the close.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ser_core.errors import (
    AccessError,
    BadAudio,
    BadMessage,
    BadParameter,
    CheckpointRejected,
    Conflict,
    DetectorUnavailable,
    DeviceUnavailable,
    Idle,
    InputError,
    LimitReached,
    ModelError,
    NotFound,
    NotReady,
    Overloaded,
    Restarting,
    SerError,
    SessionTooLong,
    SessionUnknown,
    SlowClient,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedEncoding,
)

if TYPE_CHECKING:
    from fastapi.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """What the two transports say of one class of errors."""

    title: str
    status: int
    close_code: int
    retryable: bool = False


#: A class that is missing here is told as its nearest base.
TABLE: dict[type[SerError], Problem] = {
    SerError: Problem("Internal error", 500, 1011, retryable=True),
    InputError: Problem("Bad input", 400, 4400),
    BadParameter: Problem("Bad parameter", 400, 4400),
    BadMessage: Problem("Bad message", 400, 4400),
    BadAudio: Problem("Bad audio", 422, 4415),
    CheckpointRejected: Problem("Checkpoint rejected", 400, 4404),
    SessionUnknown: Problem("Unknown session", 404, 4404),
    UnsupportedEncoding: Problem("Unsupported encoding", 415, 4415),
    TooLarge: Problem("Too large", 413, 1009),
    NotFound: Problem("Not found", 404, 4404),
    Conflict: Problem("Conflict", 409, 4400),
    AccessError: Problem("Not allowed", 403, 4403),
    Unauthenticated: Problem("Not authenticated", 401, 4401),
    ModelError: Problem("Model failure", 503, 1011),
    DeviceUnavailable: Problem("Device not available", 503, 1011),
    DetectorUnavailable: Problem("Speech detector not available", 503, 1011),
    Unavailable: Problem("Unavailable", 503, 1013, retryable=True),
    Overloaded: Problem("Overloaded", 503, 1013, retryable=True),
    NotReady: Problem("Not ready", 503, 1013, retryable=True),
    SlowClient: Problem("Client too slow", 408, 1013, retryable=True),
    Idle: Problem("Idle", 408, 4408, retryable=True),
    SessionTooLong: Problem("Longest session reached", 503, 4410, retryable=True),
    LimitReached: Problem("Too much, too fast", 429, 4429, retryable=True),
    Restarting: Problem("Restarting", 503, 1012, retryable=True),
}

#: JSON schema of `document`.
SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("type", "title", "detail", "code")},
        **{name: {"type": "string"} for name in ("request_id", "remedy")},
        "status": {"type": "integer"},
    },
    "required": ["type", "title", "status", "detail", "code", "request_id", "remedy"],
}

#: Every code that an error of this service carries, and what it means.
CODES: dict[str, str] = {
    "access_misconfigured": "the API keys cannot be read, or the service would be open to all",
    "address_unusable": "the address to listen on is taken or not this machine's",
    "bad_audio": "the audio cannot be decoded, or breaks a limit of rate or channels",
    "bad_input": "the request is not understood",
    "bad_media": "a platform's audio message that is not understood; its time went by as silence",
    "bad_message": "a control message is not JSON, or not one of the known ones",
    "bad_packet": "a frame is no Opus packet that can be decoded; its time went by as silence",
    "bad_parameter": "a parameter is unknown, missing, out of range or not available here",
    "bad_signature": "a telephony platform's handshake is not signed as it must be",
    "checkpoint_expired": "the checkpoint is older than its service lets it become",
    "checkpoint_forged": "not a checkpoint of this service, or an altered one",
    "checkpoint_other_config": "the parameters are not those that the stream was opened with",
    "checkpoint_other_model": "the model that the stream was scored by is not served here",
    "checkpoint_other_version": "the checkpoint is of another version of the service",
    "checkpoint_unknown_key": "the checkpoint was sealed with a key that this replica lacks",
    "conflict": "what is asked for does not fit the state that it is in",
    "container_in_stream": "a stream's first frame is a file, not raw samples",
    "decode_limit": "decoding the file needs more memory or CPU time than a file may take",
    "detector_unavailable": "the speech detector asked for is not installed, or not for this rate",
    "device_unavailable": "the accelerator asked for cannot be used",
    "empty_audio": "no body, or a file without one sample",
    "empty_frame": "a binary frame without audio; it was ignored",
    "file_quota": "the key has as many files coming in, waiting or analysed as it may",
    "frame_too_large": "a WebSocket frame above the limit",
    "idle": "no frame of any kind came for the time that is allowed; send `keepalive`",
    "idempotency_key_reused": "the `Idempotency-Key` was used for another recording or parameters",
    "inference_failed": "the network failed on this batch; other batches go on",
    "internal_error": "a fault of the service; the log has the request id",
    "job_audio_lost": "the recording of a job is gone from the folder of jobs",
    "job_crashed": "the service died or failed again and again over the same part of a job",
    "job_failed": "the job ended by an error, and has no result",
    "job_not_found": "there is no such job of this API key; it may have been deleted",
    "job_not_ready": "the job has no result yet",
    "jobs_unavailable": "the store of jobs, or the folder of their recordings, cannot be reached",
    "method_not_allowed": "the path exists, for another HTTP method",
    "model_corrupt": "the model file cannot be read",
    "model_error": "the model cannot be served",
    "model_incompatible": "the model file is of another format or feature specification",
    "model_not_found": "there is no such model file",
    "model_self_test_failed": "the model does not reproduce its own expected result",
    "no_access": "the service is not open to this request",
    "not_allowed": "this key or token may not do that",
    "not_found": "no such path",
    "not_ready": "the model is still being loaded",
    "not_loopback": "without API keys, only this machine is served",
    "odd_frame": "a binary frame with a part of a sample; it was ignored whole",
    "origin_not_allowed": "a web page of an origin that is not in `GLRF_ALLOWED_ORIGINS`",
    "overloaded": "a limit on sessions, files, queued segments or measured load is reached",
    "quota_exhausted": "the key's audio of this hour is used up",
    "rate_limited": "the key's requests of this minute are used up",
    "rate_out_of_range": "the file's sample rate is outside 8 to 192 kHz",
    "restarting": "the process is shutting down",
    "session_unknown": "no session of that id lives in this process, or not of this key",
    "session_expired": "the longest session is reached; connect again",
    "session_quota": "the key has as many streams open as it may",
    "slow_client": "the client does not read its results, or does not send its body",
    "telephony_closed": "no secret is set that a telephony platform could sign with",
    "too_fast": "the stream's audio comes faster than is allowed, beyond the burst",
    "too_large": "more bytes or seconds than the limits allow",
    "too_many_channels": "the file has more than two channels",
    "truncated_audio": "the file announces more audio than it holds",
    "unauthenticated": "no API key or token, or one that is wrong, expired or used already",
    "unavailable": "try again later",
    "webhook_not_found": "there is no such webhook of this API key; it is deleted with its job",
    "upgrade_required": "the path is a WebSocket, not an HTTP resource",
    "unsupported_container": "not an audio file of a kind that is read here",
    "unsupported_encoding": "an encoding, container or `Content-Encoding` that is not spoken here",
}


def problem_of(error: SerError) -> Problem:
    """The table's row of an error's class or of its nearest base."""
    return next(TABLE[cls] for cls in type(error).__mro__ if cls in TABLE)


def retry_after_s(error: SerError) -> float | None:
    """When to try again; `None` for errors that another try does not mend."""
    if not problem_of(error).retryable:
        return None
    return error.retry_after_s if isinstance(error, Unavailable) else Unavailable.retry_after_s


def document(error: SerError, request_id: str, *, status: int | None = None) -> dict[str, Any]:
    """The problem document of an error (RFC 9457, Section 3.1, and our three members)."""
    problem = problem_of(error)
    return {
        "type": "about:blank",
        "title": problem.title,
        "status": status or problem.status,
        "detail": str(error),
        "code": error.code,
        "request_id": request_id,
        "remedy": error.remedy,
    }


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI is told of a route's errors."""
    content = {MEDIA_TYPE: {"schema": SCHEMA}}
    return {status: {"description": "A problem", "content": content} for status in statuses}


def response(
    error: SerError,
    request_id: str,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> "JSONResponse":
    """The HTTP answer to an error, with `Retry-After` where another try may help."""
    from fastapi.responses import JSONResponse  # takes a while, and who reads a file needs none

    headers = {**(headers or {}), "X-Request-ID": request_id}
    wait_s = retry_after_s(error)
    if wait_s is not None:
        headers["Retry-After"] = str(math.ceil(wait_s))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="glrf"'
    body = document(error, request_id, status=status)
    return JSONResponse(body, body["status"], headers=headers, media_type=MEDIA_TYPE)


def internal_error(cause: BaseException) -> SerError:
    """What a client is told of a fault: nothing of its inside, only where to look."""
    error = SerError(
        "the service failed on this request",
        remedy="try again; if it stays, report the request_id to the operator",
    )
    error.__cause__ = cause
    return error
