"""Cuts a channel into utterances where speech begins and ends.

It works in steps of one hop (0.4 s), as all else. In silence the steps follow each other from
where the silence began; when speech is found, the utterance begins a little before it and the steps
begin anew there, so that an utterance's segments are those of a recording cut at the same place.

Its long memory is a handful of numbers (`state`); its short one is the last seconds of audio.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ser_core.features import FeatureSpec, Float32, power_spectrum
from ser_core.frames import HopFramer
from ser_core.silero import SileroDetector
from ser_core.speech import CONTEXT_S, Detector, DetectorName, EnergyDetector, Flags

DEFAULT_SILENCE_S = 0.7

#: Speech begins where this much of a window is speech: a click or a cough of a chair is not.
_ONSET_S, _ONSET_WINDOW_S = 0.1, 0.3
#: An utterance begins this much before its first speech frame, and ends this much after its last.
PRE_ROLL_S, HANGOVER_S = 0.2, 0.2
#: Who talks for longer than this without a pause is cut, and goes on in the next utterance.
_MAX_UTTERANCE_S = 30.0


def hangover_s(silence_s: float) -> float:
    """How long after the last speech an utterance ends that `silence_s` of silence end."""
    return min(HANGOVER_S, silence_s)


def detector(name: DetectorName, features: FeatureSpec) -> Detector:
    """The detector of that name. Raises `DetectorUnavailable` where its library is missing."""
    if name == "energy":
        return EnergyDetector(features)
    return SileroDetector(features)


@dataclass(frozen=True, slots=True)
class Opened:
    """An utterance begins at sample `start`; told when the samples up to `at` have been heard."""

    at: int
    start: int


@dataclass(frozen=True, slots=True)
class Heard:
    """One step that ends at sample `end`: `samples` and `power` of the frames that it completed.

    `is_pause`: no speech for longer than the hangover before `end`, and in silence always; not
    where speech begins anew after a pause, however soon it ends.
    `speech_end`: where the utterance would end if nothing more were said.
    """

    at: int
    start: int
    end: int
    samples: Float32
    power: Float32
    n_new: int
    is_pause: bool
    speech_end: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The utterance ended at sample `end`."""

    at: int
    end: int


class Endpointer:
    """Accepts samples of one channel in any chunking; yields steps, and where utterances lie.

    Between `Opened` and `Closed`, steps are an utterance's and `start` is its start; otherwise
    they are silence. Positions count from the stream's start, at the features' rate.
    """

    def __init__(
        self, features: FeatureSpec, step_samples: int, detector: Detector, silence_s: float
    ) -> None:
        def frames(duration_s: float) -> int:
            return max(1, round(duration_s * features.sample_rate_hz / features.hop_samples))

        self._features = features
        self._step_samples = step_samples
        self._detector = detector
        self._silence_samples = round(silence_s * features.sample_rate_hz)
        self._hangover_samples = round(hangover_s(silence_s) * features.sample_rate_hz)
        self._max_samples = round(_MAX_UTTERANCE_S * features.sample_rate_hz)
        self._pre_roll_frames = frames(PRE_ROLL_S)
        self._n_onset, self._n_window = frames(_ONSET_S), frames(_ONSET_WINDOW_S)
        self._context_samples = round(CONTEXT_S * features.sample_rate_hz)
        self.seek(0)

    def seek(self, position: int) -> None:
        """Silence begins at `position`, and nothing before it is known."""
        self._audio = np.empty(0, np.float32)
        self._audio_start = self._at = position
        self._earliest_start = position  # where the last utterance ended
        self._last_speech = position
        self._reach = position  # the utterance does not end before
        self._heard = position  # the detector has judged all frames that end before
        self.is_open = False
        self._begin(position)
        self._recent = np.empty(0, np.bool_)

    def _begin(self, start: int) -> None:
        """The steps begin anew at `start`."""
        self.start = self._cursor = start
        self._framer = HopFramer(self._features, self._step_samples)

    @property
    def _received(self) -> int:
        return self._audio_start + len(self._audio)

    @property
    def next_end(self) -> int:
        """Where the next step will end: nothing is told before."""
        return self._cursor + self._step_samples

    def accept(self, samples: Float32) -> Iterator[Opened | Heard | Closed]:
        """Takes float32 `(n,)`."""
        self._audio = np.concatenate((self._audio, samples))
        while self._received >= self.next_end:
            yield from self._step(self.next_end)

    def flush(self, position: int) -> Iterator[Opened | Heard | Closed]:
        """Ends the utterance, if there is one; the next sample accepted is the one at `position`.

        `position` is at or near what was received: a resampler may give one sample more or less.
        """
        while self._cursor < self._received:
            yield from self._step(min(self._received, self._cursor + self._step_samples))
        if self.is_open:
            yield Closed(self._at, min(self._speech_end, position))
        self.seek(position)

    @property
    def _speech_end(self) -> int:
        return min(max(self._last_speech + self._hangover_samples, self._reach), self._cursor)

    def _step(self, end: int) -> Iterator[Opened | Heard | Closed]:
        """One step of the frames that lie whole before `end`; `accept` and `flush` loop over it."""
        hop, offset = self._features.hop_samples, self._audio_start
        first_frame = self._features.n_frames(self._cursor - self.start)
        begin, n_new = self._cursor, end - self._cursor
        steps = self._framer.accept(self._audio[self._cursor - offset : end - offset])
        step = steps[0] if steps else self._framer.flush()
        samples = np.empty(0, np.float32) if step is None else step.samples
        power = power_spectrum(samples, self._features)
        self._cursor = end
        self._at = max(self._at, end)
        spoken_until = self._last_speech
        flags = self._judge(power, self.start + first_frame * hop, end)
        next_frame = self.start + (first_frame + len(power)) * hop

        def heard(speech_end: int) -> Heard:
            is_pause = not self.is_open or speech_end < end
            return Heard(self._at, self.start, end, samples, power, n_new, is_pause, speech_end)

        if self.is_open and flags.any():
            spoken = np.flatnonzero(flags)
            starts = next_frame - (len(flags) - spoken) * hop
            ends = np.concatenate(([spoken_until], starts[:-1] + self._features.frame_samples))
            pauses = np.flatnonzero(starts - ends >= self._silence_samples)
            if len(pauses):  # silence that was long enough ended within the step
                resumed = pauses[-1]
                speech_end = max(int(ends[resumed]) + self._hangover_samples, self._reach)
                yield heard(speech_end)
                yield self._close(speech_end)
                flags[: spoken[resumed]] = False  # what lies before begins nothing any more
                self._begin(end)
        if not self.is_open:
            start = self._onset(flags, next_frame)
            if start is not None:
                self.is_open = True
                self._begin(start)
                yield Opened(self._at, start)
                return
        elif flags.any() and spoken_until + self._hangover_samples < begin:
            self._reach = end  # a word after a pause is scored with all its step
        if self.start < end:
            yield heard(self._speech_end)
        if self.is_open and (
            end - self._last_speech >= self._silence_samples
            or end - self.start >= self._max_samples
        ):
            yield self._close(self._speech_end)
            self._begin(end)
        self._forget()

    def _close(self, end: int) -> Closed:
        self._earliest_start = end
        self.is_open = False
        return Closed(self._at, end)

    def _judge(self, power: Float32, first_start: int, end: int) -> Flags:
        """Has the detector judge the frames that it has not seen; after `Opened` some come twice.

        `first_start` is where the first frame begins, `end` where the step ends.
        """
        hop, length = self._features.hop_samples, self._features.frame_samples
        n_seen = max(0, -(-(self._heard - length - first_start + 1) // hop))
        if end <= self._heard or n_seen >= len(power):
            return np.empty(0, np.bool_)
        first = max(0, self._heard - self._context_samples - self._audio_start)
        new = self._audio[first : end - self._audio_start]
        self._heard = end
        flags = self._detector.accept(new, power[n_seen:])
        if flags.any():
            last = n_seen + int(np.flatnonzero(flags)[-1])
            self._last_speech = first_start + last * hop + length
        return flags

    def _onset(self, flags: Flags, next_frame: int) -> int | None:
        """Where an utterance begins, if enough of the last frames are speech.

        `next_frame` is where the frame after the last of `flags` would begin.
        """
        flags = np.concatenate((self._recent, flags))
        self._recent = flags[len(flags) - min(len(flags), self._n_window - 1) :]
        counts = np.concatenate(([0], np.cumsum(flags)))
        ends = np.arange(1, len(counts))
        begins = np.maximum(0, ends - self._n_window)
        found = np.flatnonzero(counts[ends] - counts[begins] >= self._n_onset)
        if not len(found):
            return None
        window = int(begins[found[0]])
        first = window + int(np.argmax(flags[window:]))
        hop = self._features.hop_samples
        start = next_frame - (len(flags) - first + self._pre_roll_frames) * hop
        earliest = max(self._earliest_start, self._audio_start)
        if start < earliest:  # still on the frames' grid
            start += -(-(earliest - start) // hop) * hop
        self._recent = np.empty(0, np.bool_)
        return start

    def _forget(self) -> None:
        """Lets audio go that no utterance can begin with any more, and no detector looks at.

        The next step's onset lies among its frames or, in silence, the window before them.
        """
        n_frames = self._pre_roll_frames + (0 if self.is_open else self._n_window)
        n_onset = n_frames * self._features.hop_samples + self._features.frame_samples
        n_old = self._cursor - max(n_onset, self._context_samples) - self._audio_start
        if n_old > 0:
            # A copy: a view would keep what it leaves out alive as well.
            self._audio = self._audio[n_old:].copy()
            self._audio_start += n_old

    def state(self) -> dict[str, Any]:
        """What `restore` needs besides the audio from `audio_start` to `cursor`."""
        return {
            "start": self.start,
            "cursor": self._cursor,
            "audio_start": self._audio_start,
            "at": self._at,
            "is_open": self.is_open,
            "earliest_start": self._earliest_start,
            "last_speech": self._last_speech,
            "reach": self._reach,
            "heard": self._heard,
            "recent": "".join("01"[int(flag)] for flag in self._recent),
            "detector": self._detector.state(),
        }

    def restore(self, state: dict[str, Any], audio: Float32) -> None:
        """Goes on where `state` was taken, as if it had heard all that came before.

        `audio` is float32 `(cursor - audio_start,)`; what came after `cursor` is to be accepted
        again.
        """
        self._audio, self._audio_start = audio, int(state["audio_start"])
        self.is_open = bool(state["is_open"])
        self.start, self._cursor = int(state["start"]), int(state["cursor"])
        self._framer = HopFramer(self._features, self._step_samples)
        n_done = self._cursor - self.start
        first = self.start + self._features.n_frames(n_done) * self._features.hop_samples
        self._framer.resume(n_done, self._audio[first - self._audio_start :])
        self._at, self._heard = int(state["at"]), int(state["heard"])
        self._earliest_start = int(state["earliest_start"])
        self._last_speech, self._reach = int(state["last_speech"]), int(state["reach"])
        self._recent = np.array([flag == "1" for flag in state["recent"]], np.bool_)
        self._detector.restore(state["detector"])
