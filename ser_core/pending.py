"""What a session has cut and not told yet, each waiting for its turn in the order of the stream."""

from dataclasses import dataclass
from typing import Any

from ser_core.channel import Channel, OpenUtterance
from ser_core.events import Abstain
from ser_core.features import Float32
from ser_core.model_file import Thresholds
from ser_core.smoothing import SmoothingConfig


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """Features `(n_frames, n_mfcc)` of one segment, to be answered by `receive_logits(id, ...)`."""

    id: int
    features: Float32


@dataclass(frozen=True, slots=True)
class Options:
    """What may change mid-stream."""

    smoothing: SmoothingConfig
    thresholds: Thresholds


@dataclass(slots=True, eq=False)
class PendingSegment:
    """One segment, `start` and `end` in samples; `logits` `(n_labels,)` once it was answered.

    It has its `index` within the channel from the cut on, whether it is ever told or not.
    """

    request_id: int
    channel: Channel
    index: int
    utterance: OpenUtterance | None  # none in the silence between utterances
    start: int
    end: int
    partial: bool
    abstain: Abstain | None
    logits: Float32 | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it can be told."""
        return self.logits is not None or self.abstain == "no_speech"


@dataclass(slots=True, eq=False)
class PendingUtterance:
    """The end of an utterance, or its result so far."""

    channel: Channel
    utterance: OpenUtterance
    end: int
    is_final: bool


@dataclass(frozen=True, slots=True)
class PendingCheckpoint:
    """What was cut until here; what was told is added when its turn comes."""

    resume_from: int
    state: dict[str, Any]
    channels: list[tuple[Channel, OpenUtterance | None, dict[str, Any]]]
