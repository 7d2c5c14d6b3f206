"""One scored channel of a stream: samples in, segments and the ends of utterances out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ser_core.decode import sanitize
from ser_core.endpointing import Closed, Endpointer, Heard, Opened
from ser_core.features import Float32, mfcc_of_power, power_spectrum
from ser_core.frames import HopFramer, Step
from ser_core.model_file import ModelSpec
from ser_core.posteriors import ChannelTotals
from ser_core.resample import Resampler
from ser_core.rules import Rule, RuleWatch
from ser_core.segments import Segmenter
from ser_core.smoothing import RunningLabel
from ser_core.vad import InputLevel, LevelMeter, SpectrumMeter


class OpenUtterance:
    """An utterance that is being heard: `start` in samples, and what is said of it so far."""

    def __init__(self, utterance_id: str, start: int, spec: ModelSpec) -> None:
        self.id = utterance_id
        self.start = start
        self.running = RunningLabel(spec.labels, spec.features.sample_rate_hz)


@dataclass(frozen=True, slots=True)
class Hop:
    """The segment that ends with a hop, decided when the samples up to `at` had been heard.

    `features` are `None` where nobody speaks. `is_last` when an utterance ends before its first
    whole one, `is_patched` from the first sample on that was not finite.
    """

    at: int
    start: int
    end: int
    partial: bool
    is_last: bool
    is_patched: bool
    features: Float32 | None
    level: InputLevel
    is_narrowband: bool
    snr_db: float | None
    utterance: OpenUtterance | None


@dataclass(frozen=True, slots=True)
class End:
    """Speech detection ended an utterance, as was decided at `at`."""

    at: int
    utterance: OpenUtterance
    end: int


class Channel:
    """One scored channel: resample, frame, extract features, cut segments.

    Without an `endpointer` an utterance is always open, until `drain`; with one, only while
    somebody speaks.
    """

    def __init__(
        self,
        spec: ModelSpec,
        index: int,
        rate_in_hz: int,
        rules: tuple[Rule, ...],
        endpointer: Endpointer | None,
    ) -> None:
        self.index = index
        self._spec = spec
        self._rate_in_hz = rate_in_hz
        self._endpointer = endpointer
        self._resampler = Resampler(rate_in_hz, spec.features.sample_rate_hz)
        self._spectrum = SpectrumMeter(spec.features)
        self._n_received = 0
        self._first_patched: int | None = None  # a position, so that chunking does not matter
        self._n_utterances = 0
        self.totals = ChannelTotals(spec.labels)
        self.rules = RuleWatch(rules, index, spec.features.sample_rate_hz)
        self.n_segments = 0
        self.speech_samples = 0
        self._heard_until = 0
        self.withheld: Hop | None = None  # a partial one, told if the utterance ends with it
        self.utterance: OpenUtterance | None = None
        if endpointer is None:
            self.open_utterance()
        else:
            self._restart()

    @property
    def position(self) -> int:
        """What was received, in samples at the model's rate."""
        return self._at_model_rate(self._n_received)

    def _at_model_rate(self, n_samples: int) -> int:
        return n_samples * self._spec.features.sample_rate_hz // self._rate_in_hz

    def _restart(self) -> None:
        """Segments and levels begin anew."""
        spec = self._spec
        self._segmenter = Segmenter(spec.features, spec.segments)
        self._meter = LevelMeter(spec.segments.segment_samples // spec.segments.hop_samples)

    def open_utterance(self, start: int | None = None) -> None:
        """Begins the next utterance, by default at the current position after `drain`."""
        spec = self._spec
        start = self.position if start is None else start
        self._restart()
        self._framer = HopFramer(spec.features, spec.segments.hop_samples)
        self._heard_until = start
        self.withheld = None
        self.utterance = OpenUtterance(f"{self.index}-{self._n_utterances}", start, spec)
        self._n_utterances += 1

    def accept(self, samples: Float32) -> list[Hop | End]:
        """Takes float32 `(n,)` at the input's rate."""
        clean, n_bad = sanitize(samples)
        if n_bad and self._first_patched is None:
            n_before = self._n_received + int(np.argmin(np.isfinite(samples)))
            self._first_patched = self._at_model_rate(n_before)
        self._n_received += len(samples)
        return self._hops(self._resampler.accept(clean))

    def drain(self) -> tuple[list[Hop | End], Hop | None]:
        """What the resampler held back, and the last segment of a short utterance."""
        hops = self._hops(self._resampler.flush())
        if self._endpointer is not None:
            return hops + list(self._cut(self._endpointer.flush(self.position))), None
        rest = None if self._segmenter.is_full else self._framer.flush()
        return hops, None if rest is None else self._hop(rest, is_last=True)

    def _hops(self, samples: Float32) -> list[Hop | End]:
        if self._endpointer is not None:
            return list(self._cut(self._endpointer.accept(samples)))
        return [self._hop(step) for step in self._framer.accept(samples)]

    def _hop(self, step: Step, *, is_last: bool = False) -> Hop:
        assert self.utterance is not None
        power = power_spectrum(step.samples, self._spec.features)
        self._spectrum.accept(power)
        features = self._segmenter.accept(mfcc_of_power(power, self._spec.features))
        n_new = (step.end - 1) % self._spec.segments.hop_samples + 1  # the rest was metered before
        level = self._meter.accept(step.samples[-n_new:])
        # At fractional rates the resampler's last sample may lie just beyond what was received.
        end = min(self.utterance.start + step.end, self.position)
        if not level.is_silent:
            self.speech_samples += end - self._heard_until
        self._heard_until = end
        return self._segment(self.utterance.start, end, end, features, level, is_last=is_last)

    def _segment(
        self,
        begin: int,
        end: int,
        at: int,
        features: Float32 | None,
        level: InputLevel,
        *,
        is_last: bool = False,
    ) -> Hop:
        """The segment that ends at `end`, of what began at `begin`."""
        n_samples = self._spec.segments.segment_samples
        return Hop(
            at=at,
            start=max(begin, end - n_samples),
            end=end,
            partial=end - begin < n_samples if features is None else not self._segmenter.is_full,
            is_last=is_last,
            is_patched=self._first_patched is not None and self._first_patched < end,
            features=features,
            level=level,
            is_narrowband=self._spectrum.is_narrowband,
            snr_db=self._spectrum.snr_db,
            utterance=self.utterance,
        )

    def _cut(self, told: Iterator[Opened | Heard | Closed]) -> Iterator[Hop | End]:
        """The segments of what the endpointer tells, and the utterances' ends."""
        for item in told:
            match item:
                case Opened():
                    self.open_utterance(item.start)
                case Heard():
                    yield from self._heard(item)
                case Closed():
                    assert self.utterance is not None
                    self.speech_samples += item.end - self.utterance.start
                    yield End(item.at, self.utterance, item.end)
                    self.utterance = None
                    self._restart()

    def _heard(self, heard: Heard) -> Iterator[Hop]:
        level = self._meter.accept(heard.samples[-heard.n_new :])
        self._spectrum.accept(heard.power)
        end = min(heard.end, self.position)
        is_whole = (heard.end - heard.start) % self._spec.segments.hop_samples == 0
        if self.utterance is None:
            if is_whole:
                yield self._segment(heard.start, end, heard.at, None, level)
            return
        features = mfcc_of_power(heard.power, self._spec.features)
        if not heard.is_pause and is_whole:
            segment = self._segmenter.accept(features)
            yield self._segment(heard.start, end, heard.at, segment, level)
            return
        # Speech has ended, or a flush cut the step short. A recording of what was said until then
        # would have one last segment if it is shorter than a whole one.
        last = min(heard.speech_end, end)
        segment = self._segmenter.peek(features, self._spec.features.n_frames(last - heard.start))
        if segment is not None:
            yield self._segment(heard.start, last, heard.at, segment, level)
        self._segmenter.accept(features)
        if segment is None and is_whole:
            yield self._segment(heard.start, end, heard.at, None, level)
