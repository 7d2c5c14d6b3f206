"""The wire contract, version 1: every message, in milliseconds.

Inside, time is an integer sample index at the model's rate; here it becomes `*_ms`, and scores
are rounded to `SCORE_DIGITS`. A file's result holds the same objects as a stream's messages.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ser_core import events
from ser_core.errors import BadMessage, SerError
from ser_core.events import Abstain, Scores
from ser_core.model_file import ModelSpec
from service.call import Call, TurningPoint
from service.clock import Clock
from service.manifest import Code, ModelCard, Options, Run
from service.problems import problem_of, retry_after_s
from service.record import Record
from service.requests import Role

MAX_FRAME_BYTES = 2**20
SCORE_DIGITS = 6


# --- what both transports tell ---------------------------------------------------------------


class ModelDetails(ModelCard):
    """An entry of `GET /v1/models`."""

    default: bool
    license: str
    provenance: dict[str, Any]
    segment_ms: int
    hop_ms: int
    sample_rate: int
    device: str
    providers: tuple[str, ...]


class Decision(Record):
    """A label, or `null` when there is nothing to decide on, and the scores it rests on."""

    label: str | None
    scores: Scores


class SegmentFields(Record):
    """One segment. `scores` are one-vs-rest in 0..1, all zero when it was not scored."""

    channel: int
    role: str | None
    index: int
    start_ms: int
    end_ms: int
    partial: bool
    scores: Scores
    label: str | None
    abstain: Abstain | None
    smoothed: Decision
    utterance_id: str | None


class AlertFields(Record):
    """An emotion was sustained, as one of the client's rules asks; see `ser_core.events.Alert`."""

    channel: int
    role: str | None
    rule: str
    label: str
    start_ms: int
    end_ms: int
    score: float


class UtteranceFields(Record):
    """One utterance's result: final, or so far."""

    channel: int
    role: str | None
    utterance_id: str
    start_ms: int
    end_ms: int
    is_final: bool
    label: str | None
    scores: Scores
    n_segments: int
    pure: bool


class WarningFields(Record):
    """Something about the audio that makes results less trustworthy."""

    channel: int
    code: str
    message: str


class ErrorFields(Record):
    """What was refused or failed, why, and what to do; a stream goes on unless it is `fatal`."""

    code: str
    message: str
    fatal: bool
    retryable: bool
    retry_after_ms: int | None
    request_id: str


class ChannelSummary(Record):
    """One scored channel as a whole, over the segments that its utterances are the mean of.

    `time_share` is their share by label, each counted for its largest score.
    `baseline_end_ms`: what came after it was scored relative to the speaker's baseline; `null`
    where none was asked for, or not enough was said.
    """

    label: str | None
    scores: Scores
    time_share: Scores
    baseline_end_ms: int | None = None


class StreamSummary(ChannelSummary):
    """A channel's summary where it stands alone."""

    channel: int
    role: str | None


# --- server to client on a stream ------------------------------------------------------------


class Message(Record):
    """Every server message: `seq` counts from 0 without gaps."""

    type: str
    seq: int
    session_id: str


class StreamSettings(Options):
    """The stream's options as understood, defaults included."""

    encoding: str
    start_offset_ms: int
    on_overload: str


class Limits(Record):
    """What the service holds a stream to."""

    max_frame_bytes: int = MAX_FRAME_BYTES
    max_sessions: int
    send_timeout_ms: int
    idle_timeout_ms: int
    max_session_ms: int
    max_speed: float
    burst_ms: int


class SessionCreated(Message):
    type: Literal["session.created"] = "session.created"
    config: StreamSettings
    model: ModelCard
    code: Code
    limits: Limits
    expires_at: str | None = None


class SegmentMessage(SegmentFields, Message):
    type: Literal["segment"] = "segment"
    lag_ms: int


class UtteranceMessage(UtteranceFields, Message):
    type: Literal["utterance"] = "utterance"


class AlertMessage(AlertFields, Message):
    type: Literal["alert"] = "alert"


class CheckpointMessage(Message):
    """All that another connection needs to go on: `resume=token`, and audio from that time on."""

    type: Literal["checkpoint"] = "checkpoint"
    token: str
    resume_from_ms: int


class WarningMessage(WarningFields, Message):
    type: Literal["warning"] = "warning"


class ErrorMessage(ErrorFields, Message):
    type: Literal["error"] = "error"


class Usage(Record):
    """Totals over the scored channels.

    `dropped_ms` is audio of frames that were ignored, and of segments given up under overload.
    """

    audio_ms: int
    speech_ms: int
    segments: int
    dropped_ms: int


class SessionDraining(Message):
    """The process ends: the connection is closed `deadline_ms` from now at the latest."""

    type: Literal["session.draining"] = "session.draining"
    deadline_ms: int


class SessionClosed(Message):
    type: Literal["session.closed"] = "session.closed"
    reason: str
    summary: tuple[StreamSummary, ...]
    usage: Usage


# --- client to server on a stream ------------------------------------------------------------


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Flush(_Command):
    type: Literal["flush"]


class Keepalive(_Command):
    type: Literal["keepalive"]


class Close(_Command):
    type: Literal["close"]


class Update(_Command):
    type: Literal["update"]
    smoothing: str | None = None
    hysteresis: float | None = None
    min_dwell_ms: int | None = None
    endpointing: str | None = None
    thresholds: dict[str, float] | None = None


Command = Flush | Update | Keepalive | Close
_COMMANDS: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="type")])
#: Each by its type.
COMMANDS: dict[str, type[BaseModel]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(Command)
}


def parse_command(text: str) -> Command:
    """A client's text frame; raises `BadMessage` that names what is wrong with it."""
    try:
        return _COMMANDS.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"][1:])
        match first["type"]:
            case "json_invalid":
                cause = "the text frame is not JSON"
            case "union_tag_invalid" | "union_tag_not_found":
                cause = f"the message's type is none of {', '.join(COMMANDS)}"
            case "extra_forbidden":
                cause = f"the message has an unknown field {field[:64]!r}"
            case _:
                cause = " ".join(
                    filter(None, ("the message is not understood:", field[:64], first["msg"]))
                )
        raise BadMessage(
            cause,
            remedy='send audio as binary frames, and text frames like {"type": "flush"}',
        ) from error


# --- files -----------------------------------------------------------------------------------


class ScoredChannel(Record):
    """All that one channel of a file told."""

    channel: int
    role: str | None
    scored: Literal[True] = True
    segments: tuple[SegmentFields, ...]
    utterances: tuple[UtteranceFields, ...]
    alerts: tuple[AlertFields, ...]
    turning_points: tuple[TurningPoint, ...]
    summary: ChannelSummary


class UnscoredChannel(Record):
    """A channel whose role is `off`: it was dropped unheard."""

    channel: int
    role: str | None
    scored: Literal[False] = False


class FileResult(Record):
    """The answer of `POST /v1/files`."""

    request_id: str
    model: ModelCard
    duration_ms: int
    channels: tuple[ScoredChannel | UnscoredChannel, ...]
    call: Call
    warnings: tuple[WarningFields, ...]
    run: Run


class SegmentLine(SegmentFields):
    """A line of the `application/x-ndjson` answer."""

    type: Literal["segment"] = "segment"


class UtteranceLine(UtteranceFields):
    type: Literal["utterance"] = "utterance"


class AlertLine(AlertFields):
    type: Literal["alert"] = "alert"


class WarningLine(WarningFields):
    type: Literal["warning"] = "warning"


Line = SegmentLine | UtteranceLine | AlertLine | WarningLine


class ErrorLine(ErrorFields):
    """Ends the `application/x-ndjson` answer where the analysis failed on the way."""

    type: Literal["error"] = "error"


class FileChannelSummary(StreamSummary):
    """What a scored channel adds up to, where its segments have been told."""

    turning_points: tuple[TurningPoint, ...]


class SummaryLine(Record):
    """The last line of the `application/x-ndjson` answer."""

    type: Literal["summary"] = "summary"
    request_id: str
    model: ModelCard
    duration_ms: int
    channels: tuple[FileChannelSummary | UnscoredChannel, ...]
    call: Call
    run: Run


# --- from the core's events ------------------------------------------------------------------


class Narrator:
    """Puts the core's events into the contract's words, for one stream or file."""

    def __init__(self, spec: ModelSpec, roles: tuple[Role, ...], start_offset_ms: int = 0) -> None:
        self.clock = Clock(spec.features.sample_rate_hz, start_offset_ms)
        self.roles = roles

    def segment(self, event: events.Segment) -> dict[str, Any]:
        """The members of `SegmentFields`."""
        return {
            "channel": event.channel,
            "role": self.roles[event.channel].name,
            "index": event.index,
            "start_ms": self.clock.at_ms(event.start),
            "end_ms": self.clock.at_ms(event.end),
            "partial": event.partial,
            "scores": rounded(event.scores),
            "label": event.label,
            "abstain": event.abstain,
            "smoothed": Decision(label=event.smoothed.label, scores=rounded(event.smoothed.scores)),
            "utterance_id": event.utterance_id,
        }

    def utterance(self, event: events.Utterance) -> dict[str, Any]:
        """The members of `UtteranceFields`."""
        return {
            "channel": event.channel,
            "role": self.roles[event.channel].name,
            "utterance_id": event.utterance_id,
            "start_ms": self.clock.at_ms(event.start),
            "end_ms": self.clock.at_ms(event.end),
            "is_final": event.is_final,
            "label": event.label,
            "scores": rounded(event.scores),
            "n_segments": event.n_segments,
            "pure": event.pure,
        }

    def alert(self, event: events.Alert) -> dict[str, Any]:
        """The members of `AlertFields`."""
        return {
            "channel": event.channel,
            "role": self.roles[event.channel].name,
            "rule": event.rule,
            "label": event.label,
            "start_ms": self.clock.at_ms(event.start),
            "end_ms": self.clock.at_ms(event.end),
            "score": round(event.score, SCORE_DIGITS),
        }

    def summary(self, summary: events.Summary) -> StreamSummary:
        """One channel's summary."""
        return StreamSummary(
            channel=summary.channel,
            role=self.roles[summary.channel].name,
            label=summary.label,
            scores=rounded(summary.scores),
            time_share=rounded(summary.time_share),
            baseline_end_ms=None
            if summary.baseline_end is None
            else self.clock.at_ms(summary.baseline_end),
        )

    def usage(self, usage: events.Usage, dropped_ms: int) -> Usage:
        """A stream's totals."""
        return Usage(
            audio_ms=self.clock.length_ms(usage.audio_samples),
            speech_ms=self.clock.length_ms(usage.speech_samples),
            segments=usage.n_segments,
            dropped_ms=dropped_ms,
        )


def channel_name(channel: int, role: str | None) -> str:
    """What people are told of a channel: its role, or its number."""
    return role or f"channel {channel}"


def rounded(scores: Scores) -> Scores:
    """Scores as sent; 1e-6 is far below what any decision looks at."""
    return {label: round(score, SCORE_DIGITS) for label, score in scores.items()}


def error_fields(error: SerError, request_id: str, *, fatal: bool) -> dict[str, Any]:
    """The members of `ErrorFields`."""
    wait_s = retry_after_s(error) if fatal else None
    return {
        "code": error.code,
        "message": error.detail,
        "fatal": fatal,
        "retryable": problem_of(error).retryable,
        "retry_after_ms": None if wait_s is None else round(wait_s * 1000),
        "request_id": request_id,
    }
