"""One scored channel of a stream: samples in, segments and the ends of utterances out.

Its `state` holds no audio. Who goes on from it is given the last seconds again (ADR 10); they fill
what looks back: segments, levels, the endpointer.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ser_core.baseline import Baseline, Span
from ser_core.decode import sanitize
from ser_core.endpointing import Closed, Endpointer, Heard, Opened
from ser_core.errors import BadParameter
from ser_core.events import Summary, WarningCode
from ser_core.features import Float32, mfcc_of_power, power_spectrum
from ser_core.frames import HopFramer, Step
from ser_core.model_file import ModelSpec
from ser_core.posteriors import ChannelTotals, UtteranceMean
from ser_core.resample import Resampler
from ser_core.rules import Rule, RuleWatch
from ser_core.segments import Segmenter, fill
from ser_core.smoothing import RunningLabel
from ser_core.vad import (
    CLIPPING_WARNING_SHARE,
    DC_WARNING,
    LOW_SNR_DB,
    InputLevel,
    LevelMeter,
    SpectrumMeter,
)


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

    def complaints(self, rate_in_hz: int, model_rate_hz: int) -> Iterator[tuple[WarningCode, str]]:
        """What makes the results less trustworthy, as code and message."""
        level = self.level
        if self.is_patched:
            yield "non_finite_samples", "NaN or infinite samples were taken as silence"
        if level.clipped_share >= CLIPPING_WARNING_SHARE:
            yield (
                "clipping",
                f"{level.clipped_share:.1%} of the samples are at full scale; lower the gain",
            )
        if abs(level.dc) >= DC_WARNING:
            yield "dc_offset", f"the signal's mean is {level.dc:+.2f}, not zero"
        if self.is_narrowband and rate_in_hz >= model_rate_hz:  # a lower one tells itself
            yield (
                "narrowband_audio",
                "nothing above 4 kHz is heard, as from a telephone; the model listens up to "
                f"{model_rate_hz // 2} Hz",
            )
        if self.snr_db is not None and self.snr_db < LOW_SNR_DB:
            yield (
                "low_snr",
                f"speech is only {self.snr_db:.0f} dB above the noise; bring the microphone nearer",
            )


@dataclass(frozen=True, slots=True)
class End:
    """Speech detection ended an utterance, as was decided at `at`."""

    at: int
    utterance: OpenUtterance
    end: int


def _baseline(spec: ModelSpec, seconds: float) -> Baseline | None:
    if not seconds:
        return None
    if spec.neutral_voice is None:
        raise BadParameter(
            f"a baseline was asked for, and {spec.name}@{spec.version} knows no neutral voice",
            remedy="leave it out, or use a model that does: `glrf export` tells it of all that "
            "have the label neutral",
        )
    return Baseline(spec.neutral_voice, round(seconds * spec.features.sample_rate_hz))


@dataclass(slots=True)
class _Replay:
    """What is resampled again until it reaches `until`, where `state` was taken."""

    state: dict[str, Any]
    start: int
    until: int
    samples: Float32


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
        baseline_s: float,
        endpointer: Endpointer | None,
    ) -> None:
        self.index = index
        self._spec = spec
        self._rate_in_hz = rate_in_hz
        self._endpointer = endpointer
        self._resampler = Resampler(rate_in_hz, spec.features.sample_rate_hz)
        self._spectrum = SpectrumMeter(spec.features)
        self._n_received = 0
        self._n_skipped = 0  # samples still to come before those that are needed
        self._signal_start = 0  # what was received when the resampler's signal began
        self._replay: _Replay | None = None
        self._least_position = 0
        self._first_patched: int | None = None  # a position, so that chunking does not matter
        self._n_utterances = 0
        self.totals = ChannelTotals(spec.labels)
        self.rules = RuleWatch(rules, index, spec.features.sample_rate_hz)
        self.baseline = _baseline(spec, baseline_s)
        self.n_cut = 0  # segments, those that are never told included
        self.n_segments = 0  # that were told
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
        return self.position_after(0)

    def position_after(self, n_samples: int) -> int:
        """What the position will be when so many more samples of the input were received."""
        return max(self._at_model_rate(self._n_received + n_samples), self._least_position)

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
        self.utterance = OpenUtterance(f"{self.index}-{self._n_utterances}", start, spec)
        self._n_utterances += 1

    def accept(self, samples: Float32) -> list[Hop | End]:
        """Takes float32 `(n,)` at the input's rate."""
        n_skipped = min(self._n_skipped, len(samples))
        self._n_skipped -= n_skipped
        self._n_received += n_skipped
        samples = samples[n_skipped:]
        clean, n_bad = sanitize(samples)
        if n_bad and self._first_patched is None:
            n_before = self._n_received + int(np.argmin(np.isfinite(samples)))
            self._first_patched = self._at_model_rate(n_before)
        self._n_received += len(samples)
        return self._hops(self._resampler.accept(clean))

    @property
    def n_wanted(self) -> int:
        """Samples of the input without which `accept` has nothing to tell."""
        if self._replay is not None:
            n_missing = self._replay.until - self._replay.start - len(self._replay.samples)
            return max(1, (n_missing - 2) * self._rate_in_hz // self._spec.features.sample_rate_hz)
        if self._endpointer is not None:
            next_end = self._endpointer.next_end
        else:
            assert self.utterance is not None
            next_end = self.utterance.start + self._framer.next_end
        # A resampler may be ahead of its input by a sample, and where it began by another.
        n_needed = (next_end - 2) * self._rate_in_hz // self._spec.features.sample_rate_hz
        return n_needed - self._n_received

    def drain(self) -> tuple[list[Hop | End], Hop | None]:
        """What the resampler held back, and the last segment of a short utterance."""
        hops = self._hops(self._resampler.flush())
        self._signal_start = self._n_received
        if self._replay is not None:
            return self._abandoned(), None
        if self._endpointer is not None:
            hops += self._cut(self._endpointer.flush(self.position))
            self._restart()
            return hops, None
        rest = None if self._segmenter.is_full else self._framer.flush()
        return hops, None if rest is None else self._hop(rest, is_last=True)

    def _hops(self, samples: Float32) -> list[Hop | End]:
        if self._replay is not None:
            samples = self._replayed(self._replay, samples)
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

    # --- what was scored ----------------------------------------------------------------------

    def hear(self, logits: Float32, span: Span, *, is_clear: bool) -> Float32:
        """Takes a segment's logits, in order; returns them relative to the speaker's baseline."""
        if self.baseline is None:
            return logits
        return self.baseline.accept(logits, span, is_clear=is_clear)

    def end_utterance(self, said: UtteranceMean, end: int) -> None:
        """Takes what was said of an utterance that has ended at sample `end`."""
        self.totals.accept(said)
        if self.baseline is not None:
            self.baseline.end_utterance(end)

    def summary(self) -> Summary:
        """Of the utterances told so far."""
        return self.totals.summary(self.index, self.baseline and self.baseline.end)

    def scored_state(self) -> dict[str, Any]:
        """What depends on the scores so far, as JSON holds it; for `restore_scored`."""
        return {
            "totals": self.totals.state(),
            "rules": self.rules.state(),
            "n_segments": self.n_segments,
            "baseline": self.baseline and self.baseline.state(),
        }

    def restore_scored(self, state: dict[str, Any]) -> None:
        self.totals.restore(state["totals"])
        self.rules.restore(state["rules"])
        self.n_segments = state["n_segments"]
        if self.baseline is not None:
            self.baseline.restore(state["baseline"])

    # --- going on elsewhere --------------------------------------------------------------------

    def resume_from(self, state: dict[str, Any]) -> int:
        """The first sample of the input that what comes after a `state` depends on."""
        return self._entry(state)[0]

    def state(self) -> dict[str, Any]:
        """What was cut so far, as JSON holds it; what the audio tells again is not in it."""
        endpointer, utterance = self._endpointer, self.utterance
        if endpointer is not None:
            ears = endpointer.state()
        else:
            assert utterance is not None
            start = utterance.start
            ears = {"start": start, "cursor": start + self._framer.last_end}
        return {
            "signal_start": self._signal_start,
            "position": self.position,
            "utterance_start": None if utterance is None else utterance.start,
            "n_utterances": self._n_utterances,
            "n_cut": self.n_cut,
            "speech_samples": self.speech_samples,
            "first_patched": self._first_patched,
            "ears": ears,
            "spectrum": self._spectrum.state(),
            "withheld": None if self.withheld is None else _without_features(self.withheld),
        }

    def _entry(self, state: dict[str, Any]) -> tuple[int, int, int]:
        """Where to enter the input, its resampled signal, and the stream (at the model's rate)."""
        ears, features = state["ears"], self._spec.features
        position = ears["start"] + features.n_frames(self._before(state)) * features.hop_samples
        position = min(position, ears.get("audio_start", position))
        in_signal = position - self._at_model_rate(state["signal_start"])
        return state["signal_start"] + self._resampler.source_of(in_signal), in_signal, position

    def _before(self, state: dict[str, Any]) -> int:
        """The end of the last step, from where the steps began, that need not be heard again.

        A segment that is withheld began with its utterance, and is cut again.
        """
        heard = state["ears"]["cursor"] - state["ears"]["start"]
        return 0 if state["withheld"] else max(0, heard - self._spec.segments.segment_samples)

    def restore(self, state: dict[str, Any], audio_from: int) -> None:
        """Goes on from a `state`, with audio from sample `audio_from` of the input on."""
        entry, in_signal, position = self._entry(state)
        if audio_from > entry:
            raise ValueError(f"audio from sample {entry} on is needed, not {audio_from}")
        self._n_received, self._n_skipped = audio_from, entry - audio_from
        self._signal_start = state["signal_start"]
        self._least_position = state["position"]
        rate_hz = self._spec.features.sample_rate_hz
        self._resampler = Resampler(self._rate_in_hz, rate_hz, in_signal)
        self._n_utterances = state["n_utterances"]
        self.n_cut = state["n_cut"]
        if state["utterance_start"] is None:
            self.utterance = None
        else:
            self._n_utterances -= 1
            self.open_utterance(state["utterance_start"])
        self._heard_until = state["ears"]["cursor"]
        self.speech_samples = state["speech_samples"]
        self._first_patched = state["first_patched"]
        self._spectrum.restore(state["spectrum"])
        self._replay = _Replay(state, position, state["ears"]["cursor"], np.empty(0, np.float32))
        self._hops(self._replay.samples)  # where nothing was heard yet, nothing is replayed

    def _replayed(self, replay: _Replay, samples: Float32) -> Float32:
        """Keeps what is replayed; returns what comes after it."""
        n_missing = replay.until - replay.start - len(replay.samples)
        replay.samples = np.concatenate((replay.samples, samples[:n_missing]))
        if len(samples) < n_missing:
            return np.empty(0, np.float32)
        self._replay = None
        self._rebuild(replay)
        return samples[n_missing:]

    def _rebuild(self, replay: _Replay) -> None:
        ears, spec = replay.state["ears"], self._spec
        start = int(ears["start"])
        framer = HopFramer(spec.features, spec.segments.hop_samples, self._before(replay.state))
        features = np.empty((0, spec.features.n_mfcc), np.float32)
        for step in framer.accept(replay.samples[start + framer.first_sample - replay.start :]):
            self._meter.accept(step.samples[-spec.segments.hop_samples :])
            if self.utterance is not None:
                new = mfcc_of_power(power_spectrum(step.samples, spec.features), spec.features)
                self._segmenter.accept(new)
                features = np.concatenate((features, new))
        if self._endpointer is None:
            self._framer = framer
        else:
            self._endpointer.restore(ears, replay.samples[ears["audio_start"] - replay.start :])
        kept = replay.state["withheld"]
        if kept is not None:
            features = features[: spec.features.n_frames(kept["end"] - start)]
            fields: dict[str, Any] = {**kept, "level": InputLevel(**kept["level"])}
            segment = fill(features, self._segmenter.n_frames)
            self.withheld = Hop(**fields, features=segment, utterance=self.utterance)

    def _abandoned(self) -> list[Hop | End]:
        """The stream ends before what was sent again reached the state: it was all heard before."""
        self._replay = None
        if self._endpointer is None or self.utterance is None:
            return []
        end = End(self.position, self.utterance, self.position)
        self.utterance = None
        return [end]


def _without_features(hop: Hop) -> dict[str, Any]:
    return {
        "at": hop.at,
        "start": hop.start,
        "end": hop.end,
        "partial": hop.partial,
        "is_last": hop.is_last,
        "is_patched": hop.is_patched,
        "level": asdict(hop.level),
        "is_narrowband": hop.is_narrowband,
        "snr_db": hop.snr_db,
    }
