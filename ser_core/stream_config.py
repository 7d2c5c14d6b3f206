"""What a client says of its stream, once and for all."""

from dataclasses import dataclass, field
from typing import Literal

from ser_core.baseline import check_baseline
from ser_core.decode import MAX_RATE_HZ, MIN_RATE_HZ, Encoding, check_channels
from ser_core.endpointing import DEFAULT_SILENCE_S
from ser_core.errors import BadParameter
from ser_core.opus import RATE_HZ as OPUS_RATE_HZ
from ser_core.rules import Rule
from ser_core.smoothing import SmoothingConfig
from ser_core.speech import DetectorName

Endpointing = Literal["vad", "manual", "off"]
StreamEncoding = Encoding | Literal["opus"]


@dataclass(frozen=True)
class StreamConfig:
    """What a client says of its stream.

    `endpointing`: `vad` (by `detector`) ends an utterance where speech ended once it was silent for
    `endpoint_silence_s`, and at `flush` and `close`; `manual` at these alone; `off` keeps the whole
    stream one utterance, and `flush` tells its result so far. `scored` has one flag a channel: a
    channel that is not scored is dropped before anything is computed from it. `baseline_s`: so much
    speech, from a channel's first on, is its speaker's neutral voice, and what follows is scored
    relative to it; 0 for none.
    """

    encoding: StreamEncoding = "pcm_s16le"
    sample_rate_hz: int = 16_000
    n_channels: int = 1
    scored: tuple[bool, ...] | None = None
    endpointing: Endpointing = "manual"
    endpoint_silence_s: float = DEFAULT_SILENCE_S
    detector: DetectorName = "energy"
    smoothing: SmoothingConfig = field(default_factory=SmoothingConfig)
    rules: tuple[Rule, ...] = ()
    baseline_s: float = 0.0
    partial: bool = True
    max_rate_hz: int = MAX_RATE_HZ

    def __post_init__(self) -> None:
        if not MIN_RATE_HZ <= self.sample_rate_hz <= self.max_rate_hz:
            raise BadParameter(
                f"sample_rate={self.sample_rate_hz} is out of range",
                remedy=f"send {MIN_RATE_HZ} to {self.max_rate_hz} Hz",
            )
        if self.encoding == "opus" and self.sample_rate_hz != OPUS_RATE_HZ:
            raise BadParameter(
                f"sample_rate={self.sample_rate_hz} with encoding opus",
                remedy=f"leave it out: Opus is decoded to {OPUS_RATE_HZ} Hz",
            )
        check_channels(self.n_channels)
        check_baseline(self.baseline_s)
        if self.baseline_s and self.endpointing == "off":
            raise BadParameter(
                "a baseline with endpointing=off",
                remedy="use endpointing=vad or manual: it is known when an utterance ends",
            )
        if self.scored is not None and len(self.scored) != self.n_channels:
            raise BadParameter(
                f"roles name {len(self.scored)} channels, the audio has {self.n_channels}",
                remedy="give one role a channel",
            )

    @property
    def scored_channels(self) -> tuple[int, ...]:
        """Indices of the channels that reach the model."""
        flags = self.scored or (True,) * self.n_channels
        return tuple(channel for channel, scored in enumerate(flags) if scored)
