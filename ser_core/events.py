"""What a session tells. Positions are sample indices at the model's rate from the stream's start.

Times in milliseconds, sequence numbers and lag belong to the wire (`service.wire`).
"""

from dataclasses import dataclass
from typing import Any, Literal

Abstain = Literal["no_speech", "too_short", "clipped", "uncertain"]
WarningCode = Literal[
    "clipping", "dc_offset", "low_snr", "narrowband_audio", "non_finite_samples", "trailing_bytes"
]
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Decision:
    """Scores and the label they speak for; `None` when there is nothing to decide on."""

    label: str | None
    scores: Scores


@dataclass(frozen=True, slots=True)
class Segment:
    """One 2 s segment, or a shorter `partial` one while an utterance starts.

    `scores` are the calibrated one-vs-rest scores of this segment alone (all zero when it was
    not scored), `smoothed` the running decision on the utterance so far. `label` is `None` when
    the segment abstains, and `abstain` then says why. `utterance_id` is `None` between utterances.
    """

    request_id: int
    channel: int
    index: int
    start: int
    end: int
    partial: bool
    scores: Scores
    label: str | None
    abstain: Abstain | None
    smoothed: Decision
    utterance_id: str | None


@dataclass(frozen=True, slots=True)
class Utterance:
    """The result of one utterance: the mean of its segments' scores (paper, Section 3.2).

    `pure` is the paper's pure criterion with the predicted label in the place of the reference.
    """

    channel: int
    utterance_id: str
    start: int
    end: int
    is_final: bool
    label: str | None
    scores: Scores
    n_segments: int
    pure: bool


@dataclass(frozen=True, slots=True)
class Warning:
    """Something about the input that makes the results less trustworthy; once per cause."""

    channel: int
    code: WarningCode
    message: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An emotion was sustained: its smoothed score stayed at or above the rule's threshold.

    `start` is the end of the first segment that reached it, `end` that of the one that completed
    the rule's time, `score` the smoothed score there.
    """

    channel: int
    rule: str
    label: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where another session can go on, after all events before this one and before all others.

    `StreamSession.resumed` takes `state`, as JSON holds it, and is then given the audio from
    sample `resume_from` (at the rate of the input) on.
    """

    resume_from: int
    state: dict[str, Any]


Event = Segment | Utterance | Warning | Alert | Checkpoint


@dataclass(frozen=True, slots=True)
class Summary:
    """One channel from the stream's start: mean scores and the share of segments by label.

    Both are of the segments that its utterances are the mean of, each counted for its largest
    score. `baseline_end` is where its speaker's neutral voice was known, if it was asked for and
    heard.
    """

    channel: int
    label: str | None
    scores: Scores
    time_share: Scores
    baseline_end: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals of a session, in samples at the model's rate summed over the scored channels."""

    audio_samples: int
    speech_samples: int
    n_segments: int
