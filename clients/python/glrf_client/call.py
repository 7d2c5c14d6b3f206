"""What a file's result says of the call as a whole, and how its numbers were made.

`None` stands where something cannot be known: who speaks is known with `endpointing=vad` only, and
where a channel is off nothing is said that would tell of it.
"""

from dataclasses import dataclass
from typing import Any

from glrf_client.events import Code, Model, Record, Scores


@dataclass(frozen=True, kw_only=True)
class Interval(Record):
    """A stretch of the call."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, kw_only=True)
class TurningPoint(Record):
    """A channel's emotion changed, and stayed changed.

    `lasted_ms` is the time to the next one or to the channel's last speech, `heard_ms` how much of
    it was speech that said `to_label`.
    """

    start_ms: int
    from_label: str
    to_label: str
    lasted_ms: int
    heard_ms: int


@dataclass(frozen=True, kw_only=True)
class Talk(Record):
    """How much one scored channel spoke; `talk_share` is of what all channels spoke."""

    channel: int
    role: str | None = None
    talk_ms: int | None
    talk_share: float | None
    n_utterances: int


@dataclass(frozen=True, kw_only=True)
class Overlap(Record):
    """Both channels speak; `share` is of the call's duration."""

    total_ms: int
    share: float
    intervals: tuple[Interval, ...]


@dataclass(frozen=True, kw_only=True)
class Silence(Record):
    """No channel speaks; `share` is of the call's duration."""

    total_ms: int
    share: float
    longest: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class ArcChannel(Record):
    """One scored channel in one part of the call: mean scores, and the largest's label.

    `valence` and `arousal` (-1..1) are `None` where nothing was scored.
    """

    channel: int
    role: str | None = None
    talk_ms: int | None
    n_segments: int
    label: str | None
    scores: Scores
    valence: float | None
    arousal: float | None


@dataclass(frozen=True, kw_only=True)
class ArcPart(Interval):
    """One of the equal parts that the call is divided in."""

    channels: tuple[ArcChannel, ...]


@dataclass(frozen=True, kw_only=True)
class Call(Record):
    """The call as a whole."""

    talk: tuple[Talk, ...]
    overlap: Overlap | None
    silence: Silence | None
    arc: tuple[ArcPart, ...]


@dataclass(frozen=True, kw_only=True)
class Run(Record):
    """The manifest of a run: all that the numbers depend on besides the audio.

    `config` has the options as understood, defaults included; `engine` what the network ran on.
    """

    schema_version: int
    model: Model
    code: Code
    config: dict[str, Any]
    engine: dict[str, Any]
