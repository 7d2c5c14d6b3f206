"""The exception tree. Every error the project raises on purpose is one of these.

    SerError                  code, message, remedy
    ├── InputError            the caller's data or parameters; nothing else is affected
    │   ├── BadParameter      a query parameter or option that is unknown or out of range
    │   ├── BadMessage        a control message that is not valid
    │   ├── BadAudio          audio that cannot be decoded, or breaks the limits
    │   ├── CheckpointRejected    a stream cannot go on from this token
    │   ├── SessionUnknown    no live session of that id
    │   ├── UnsupportedEncoding   an encoding or container that is not spoken here
    │   ├── TooLarge          more bytes or seconds than the limits allow
    │   ├── NotFound          there is no such thing, or it is somebody else's
    │   └── Conflict          not in the state that it is in
    ├── AccessError           who asks
    │   ├── Unauthenticated   no credentials, or none that are good here
    │   └── NotAllowed        from there, nobody is served
    ├── ModelError            the model file
    │   ├── ModelNotFound
    │   ├── ModelCorrupt      not an ONNX file, or one without our metadata
    │   ├── ModelIncompatible metadata of another version or feature spec than this code's
    │   └── SelfTestFailed    the file does not reproduce its own expected logits
    └── Unavailable           try again, later or elsewhere
        ├── Overloaded        a bounded queue or the session limit is full
        ├── NotReady          the model is still warming up
        ├── SlowClient        the client does not read its results
        ├── Idle              the client sends nothing, not even a keepalive
        ├── LimitReached      more than the caller's share, or faster than allowed
        ├── SessionTooLong    the longest session is reached
        └── Restarting        the process is shutting down
    DeviceUnavailable         the accelerator that was asked for is not there (start-up only)
    DetectorUnavailable       the speech detector that was asked for is not there (start-up only)

`service.problems` maps each class to one HTTP status and one WebSocket close code.
"""


class SerError(Exception):
    """Base of all deliberate errors.

    `code` is a stable snake_case word for programs, `str(error)` says the cause, and
    `remedy` says what to do about it.
    """

    code = "internal_error"

    def __init__(self, message: str, *, remedy: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy
        if code is not None:
            self.code = code

    @property
    def detail(self) -> str:
        """Cause and remedy in one line, as clients show it."""
        return f"{self}; {self.remedy}" if self.remedy else str(self)


class InputError(SerError):
    code = "bad_input"


class BadParameter(InputError):
    code = "bad_parameter"


class BadMessage(InputError):
    code = "bad_message"


class BadAudio(InputError):
    code = "bad_audio"


class CheckpointRejected(InputError):
    code = "checkpoint_forged"


class SessionUnknown(InputError):
    code = "session_unknown"


class UnsupportedEncoding(InputError):
    code = "unsupported_encoding"


class TooLarge(InputError):
    code = "too_large"


class NotFound(InputError):
    code = "not_found"


class Conflict(InputError):
    code = "conflict"


class AccessError(SerError):
    code = "no_access"


class Unauthenticated(AccessError):
    code = "unauthenticated"


class NotAllowed(AccessError):
    code = "not_allowed"


class ModelError(SerError):
    code = "model_error"


class ModelNotFound(ModelError):
    code = "model_not_found"


class ModelCorrupt(ModelError):
    code = "model_corrupt"


class ModelIncompatible(ModelError):
    code = "model_incompatible"


class SelfTestFailed(ModelError):
    code = "model_self_test_failed"


class Unavailable(SerError):
    code = "unavailable"
    retry_after_s = 1.0

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy, code=code)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    code = "overloaded"


class NotReady(Unavailable):
    code = "not_ready"


class SlowClient(Unavailable):
    code = "slow_client"


class Idle(Unavailable):
    code = "idle"


class LimitReached(Unavailable):
    code = "rate_limited"


class SessionTooLong(Unavailable):
    code = "session_expired"


class Restarting(Unavailable):
    code = "restarting"


class DeviceUnavailable(SerError):
    code = "device_unavailable"


class DetectorUnavailable(SerError):
    code = "detector_unavailable"
