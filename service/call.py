"""What is told of a call as a whole: who spoke when, and how it went on. Part of `wire`.

`null` stands where something cannot be known: who speaks is known with `endpointing=vad` only, and
where a channel is `off`, silence, overlap and shares would tell of it.
"""

from ser_core.events import Scores
from service.record import Record


class Interval(Record):
    """A stretch of the call."""

    start_ms: int
    end_ms: int


class TurningPoint(Record):
    """A channel's emotion changed, and stayed changed; see `service.tally`.

    `lasted_ms` is the time to the next turning point or the channel's last speech, whatever was
    said meanwhile; `heard_ms` is how much of it was speech that said `to_label`.
    """

    start_ms: int
    from_label: str
    to_label: str
    lasted_ms: int
    heard_ms: int


class Talk(Record):
    """How much one scored channel spoke; `talk_share` is of what all channels spoke."""

    channel: int
    role: str | None
    talk_ms: int | None
    talk_share: float | None
    n_utterances: int


class Overlap(Record):
    """Both channels speak; `share` is of the call's duration."""

    total_ms: int
    share: float
    intervals: tuple[Interval, ...]


class Silence(Record):
    """No channel speaks; `share` is of the call's duration."""

    total_ms: int
    share: float
    longest: Interval | None


class ArcChannel(Record):
    """One scored channel in one part of the call.

    Mean scores of the segments there that count in `time_share`, and the largest's label; `valence`
    (unpleasant -1 to pleasant 1) and `arousal` (calm -1 to excited 1) are the scores' centre
    (`ser_core.labels.affect_of`).
    """

    channel: int
    role: str | None
    talk_ms: int | None
    n_segments: int
    label: str | None
    scores: Scores
    valence: float | None
    arousal: float | None


class ArcPart(Interval):
    """One of the equal parts that the call is divided in."""

    channels: tuple[ArcChannel, ...]


class Call(Record):
    """The call as a whole."""

    talk: tuple[Talk, ...]
    overlap: Overlap | None
    silence: Silence | None
    arc: tuple[ArcPart, ...]
