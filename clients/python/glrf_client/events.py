"""The server's messages as dataclasses. Times are integer milliseconds from the stream's start.

A field or a message type that this client does not know is ignored, so that a newer server can
speak to it.
"""

import dataclasses
import json
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Self, get_args, get_origin, get_type_hints

from glrf_client.errors import BadServerMessage

Scores = dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base of all objects of the wire: built from JSON, unknown fields left out.

    A field whose type is a `Record`, or a tuple of one, is built the same way.
    """

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Raises `BadServerMessage` when `data` is no object or lacks a field."""
        if not isinstance(data, dict):
            raise BadServerMessage(f"{cls.__name__}: expected an object, got {data!r:.80}")
        values: dict[str, Any] = {}
        for name, (record, is_many, is_required) in _fields(cls).items():
            if name not in data:
                if is_required:
                    raise BadServerMessage(f"{cls.__name__}: no {name}")
            elif record is None or data[name] is None:
                values[name] = data[name]
            elif not is_many:
                values[name] = record.parse(data[name])
            elif isinstance(data[name], list):
                values[name] = tuple(record.parse(item) for item in data[name])
            else:
                raise BadServerMessage(f"{cls.__name__}: {name} is no list")
        return cls(**values)


class _Field(NamedTuple):
    record: type[Record] | None
    is_many: bool
    is_required: bool


@cache
def _fields(cls: type[Record]) -> dict[str, _Field]:
    hints, fields = get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        is_many = get_origin(hint) is tuple
        # The record in `X`, `X | None` or `tuple[X, ...]`.
        inner = [
            t for t in get_args(hint) or (hint,) if isinstance(t, type) and issubclass(t, Record)
        ]
        is_required = field.default is dataclasses.MISSING
        record = inner[0] if inner else None
        fields[field.name] = _Field(record, is_many and record is not None, is_required)
    return fields


@dataclass(frozen=True, kw_only=True)
class Model(Record):
    """The model that answers; `labels` in the order of its outputs."""

    name: str
    version: str
    sha256: str
    labels: list[str]


@dataclass(frozen=True, kw_only=True)
class Code(Record):
    """The server's version; `commit` is `None` where its installation does not tell."""

    version: str
    commit: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelDetails(Model):
    """What else a server tells of a model that it offers.

    `providers` are the engine's execution providers, those that really run first.
    """

    default: bool
    license: str
    provenance: dict[str, Any]
    segment_ms: int
    hop_ms: int
    sample_rate: int
    device: str
    providers: list[str]


@dataclass(frozen=True, kw_only=True)
class Decision(Record):
    """A label (`None`: nothing to decide on) and the scores in 0..1 that it rests on."""

    label: str | None
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class Summary(Decision):
    """One channel as a whole: mean scores and the share of segments by label.

    `baseline_end_ms`: what came after it was scored relative to the speaker's neutral voice.
    """

    time_share: Scores
    baseline_end_ms: int | None = None
    channel: int | None = None
    role: str | None = None


@dataclass(frozen=True, kw_only=True)
class Usage(Record):
    """Totals of a session over its scored channels."""

    audio_ms: int
    speech_ms: int
    segments: int
    dropped_ms: int = 0


@dataclass(frozen=True, kw_only=True)
class Frame(Record):
    """What every message of a stream has; both are `None` in the result of a file."""

    seq: int | None = None
    session_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class SessionCreated(Frame):
    """The first message of a stream."""

    config: dict[str, Any]
    model: Model
    limits: dict[str, Any]
    code: Code | None = None
    expires_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Segment(Frame):
    """2 s of one channel, or less while an utterance starts (`partial`); a new one every 0.4 s.

    `scores` are one-vs-rest and need not sum to 1. `label` is `None` when the segment abstains,
    and `abstain` then says why. `smoothed` is the running decision on the utterance;
    `utterance_id` is `None` between utterances. `lag_ms`
    is from the receipt of the segment's last sample to the sending of this message; `None` in
    the result of a file.
    """

    channel: int
    role: str | None = None
    index: int
    start_ms: int
    end_ms: int
    partial: bool
    scores: Scores
    label: str | None
    abstain: str | None
    smoothed: Decision
    utterance_id: str | None
    lag_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class Utterance(Frame):
    """The result of one utterance: final, or so far.

    `pure` says that each of its segments was decided for its label or for neutral.
    """

    channel: int
    role: str | None = None
    utterance_id: str
    start_ms: int
    end_ms: int
    is_final: bool
    label: str | None
    scores: Scores
    n_segments: int
    pure: bool


@dataclass(frozen=True, kw_only=True)
class Alert(Frame):
    """An emotion stayed at or above the threshold of one of the stream's `rules` for its time."""

    channel: int
    role: str | None = None
    rule: str
    label: str
    start_ms: int
    end_ms: int
    score: float


@dataclass(frozen=True, kw_only=True)
class StreamWarning(Frame):
    """Something about the audio that makes results less trustworthy."""

    code: str
    message: str
    channel: int | None = None


@dataclass(frozen=True, kw_only=True)
class ErrorFrame(Frame):
    """Something that was refused. A stream goes on after it unless it is `fatal`."""

    code: str
    message: str
    fatal: bool
    retryable: bool
    retry_after_ms: int | None = None
    request_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Frame):
    """From here another connection, to any replica, can go on: `resume=token` in its address.

    It is then sent the audio from `resume_from_ms` of the stream's timeline on. A later
    checkpoint takes the place of an earlier one.
    """

    token: str = dataclasses.field(repr=False)
    resume_from_ms: int


@dataclass(frozen=True, kw_only=True)
class Draining(Frame):
    """The server ends this connection `deadline_ms` from now at the latest.

    The results so far and a last checkpoint still come before its close.
    """

    deadline_ms: int


@dataclass(frozen=True, kw_only=True)
class SessionClosed(Frame):
    """The last message of a stream; `summary` has one entry a scored channel."""

    reason: str
    summary: tuple[Summary, ...]
    usage: Usage


Event = (
    SessionCreated
    | Segment
    | Utterance
    | Alert
    | Checkpoint
    | StreamWarning
    | ErrorFrame
    | Draining
    | SessionClosed
)

_TYPES: dict[str, type[Event]] = {
    "session.created": SessionCreated,
    "segment": Segment,
    "utterance": Utterance,
    "alert": Alert,
    "checkpoint": Checkpoint,
    "warning": StreamWarning,
    "error": ErrorFrame,
    "session.draining": Draining,
    "session.closed": SessionClosed,
}


def parse_event(text: str | bytes) -> Event | None:
    """One server message; `None` for a type that this client does not know.

    Raises `BadServerMessage` for what is not a message of this protocol.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise BadServerMessage(f"not JSON: {text[:80]!r}") from error
    if not isinstance(data, dict) or not isinstance(data.get("type"), str):
        raise BadServerMessage(f"not an object with a type: {text[:80]!r}")
    event_type = _TYPES.get(data["type"])
    return None if event_type is None else event_type.parse(data)
