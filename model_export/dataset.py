"""Utterances as batches of segments."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import soxr
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from model_export.augment import MAX_EDGE_FRAMES, AugmentConfig, Augmenter, speech_bounds
from model_export.corpora import Recording, load
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec, Float32, power_spectrum
from ser_core.segments import SegmentSpec, cut

#: Of power spectra that a process keeps. At three speeds an hour of speech is some 0.9 GB: the
#: corpora of the tables stay whole, a corpus of a hundred hours does not fill the machine.
MAX_KEPT_BYTES: Final = 4 * 2**30


@dataclass(frozen=True)
class Batch:
    """`features` `(S, n_frames, n_mfcc)`, `n_segments` `(U,)` that sum to S, `labels` `(U,)`.

    `drawn` `(U,)` are the recordings' indices in the training set, `seconds` `(S, n_frames)` where
    the middle of each frame lies in its recording, as that was before its speed was changed.
    """

    features: Tensor
    seconds: Tensor
    n_segments: Tensor
    labels: Tensor
    drawn: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on that device."""
        return Batch(*(getattr(self, one.name).to(device) for one in fields(self)))

    @property
    def utterance(self) -> Tensor:
        """Of which utterance each segment is, `(S,)`."""
        of = torch.arange(len(self.n_segments), device=self.n_segments.device)
        return of.repeat_interleave(self.n_segments)


class TrainingSet:
    """Recordings at several speeds, drawn so that corpora and labels balance, or as `weights` say.

    Every draw is cut, warped and disturbed anew. Training segments start every `hop_samples`, 0.2 s
    by default (paper, Section 3.2: 1.8 s overlap). A recording's power spectrum is kept from its
    first draw on, some 80 kB for each second of speech and speed; beyond `max_kept_bytes` the
    oldest ones are let go, and made again when they are drawn. A draw of what is shorter than a
    frame raises `BadParameter`.
    """

    def __init__(
        self,
        recordings: list[Recording],
        labels: tuple[str, ...],
        features: FeatureSpec,
        augment: AugmentConfig,
        *,
        hop_samples: int = 3_200,
        max_segments: int = 10,
        weights: NDArray[np.float64] | None = None,
        max_kept_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        self._features, self._augment = features, augment
        self.n_frames = features.n_frames(SegmentSpec().segment_samples)
        self._hop_frames = hop_samples // features.hop_samples
        self._max_segments = max_segments
        self._labels = np.array([labels.index(r.label) for r in recordings])
        if weights is None:
            weights = _balanced([(r.corpus, r.label) for r in recordings])
        self._weights = weights
        self._paths = [recording.path for recording in recordings]
        self._power: dict[tuple[int, float], _Kept] = {}  # the oldest first
        self._max_kept_bytes, self._kept_bytes = max_kept_bytes, 0

    def __len__(self) -> int:
        return len(self._labels)

    def n_steps(self, batch_size: int) -> int:
        """Batches in an epoch."""
        return -(-len(self) // batch_size)

    def epoch(
        self, rng: Generator, batch_size: int, rank: int = 0, size: int = 1
    ) -> Iterator[Batch]:
        """As many draws as there are recordings, with replacement.

        Of `size` processes with the same `rng` each draws its own share of every batch, and at
        least one recording.
        """
        draws = rng.choice(len(self), size=len(self), p=self._weights)
        if size > 1:
            rng = rng.spawn(size)[rank]
        augmenter = Augmenter(self._features, self._augment, rng)
        for start in range(0, len(draws), batch_size):
            batch = draws[start : start + batch_size]
            chosen = batch[rank::size] if len(batch) >= size else batch
            cuts = [self._segments(int(index), augmenter, rng) for index in chosen]
            yield Batch(
                torch.from_numpy(np.concatenate([segments for segments, _ in cuts])),
                torch.from_numpy(np.concatenate([seconds for _, seconds in cuts])),
                torch.tensor([len(segments) for segments, _ in cuts]),
                torch.from_numpy(self._labels[chosen]),
                torch.from_numpy(chosen),
            )

    def _segments(
        self, index: int, augmenter: Augmenter, rng: Generator
    ) -> tuple[Float32, Float32]:
        """A draw's segments `(N, n_frames, n_mfcc)`, and the seconds of their frames."""
        speed = self._augment.speeds[rng.integers(len(self._augment.speeds))]
        kept = self._power_spectrum(index, speed)
        features, first = augmenter(kept.power)
        frames = np.arange(len(features), dtype=np.float32)[:, None] + (kept.first + first)
        segments = cut(features, self.n_frames, self._hop_frames)
        numbers = cut(frames, self.n_frames, self._hop_frames)[..., 0]
        if len(segments) > self._max_segments:
            start = rng.integers(len(segments) - self._max_segments + 1)
            segments = segments[start : start + self._max_segments]
            numbers = numbers[start : start + self._max_segments]
        spec = self._features
        middle = numbers * spec.hop_samples + spec.frame_samples / 2
        return segments, (middle * (speed / spec.sample_rate_hz)).astype(np.float32)

    def _power_spectrum(self, index: int, speed: float) -> "_Kept":
        if (index, speed) in self._power:
            return self._power[index, speed]
        rate_hz = self._features.sample_rate_hz
        samples = _at_speed(load(self._paths[index], rate_hz), speed, rate_hz)
        power = power_spectrum(samples, self._features)
        if not len(power):
            raise BadParameter(
                f"{self._paths[index]} is shorter than a frame",
                remedy="leave it out: `glrf corpus check` names all that are",
            )
        first, last = speech_bounds(power)
        start = max(0, first - MAX_EDGE_FRAMES)
        kept = _Kept(power[start : last + MAX_EDGE_FRAMES].copy(), start)
        self._power[index, speed] = kept
        self._kept_bytes += kept.power.nbytes
        while self._kept_bytes > self._max_kept_bytes:
            self._kept_bytes -= self._power.pop(next(iter(self._power))).power.nbytes
        return kept


@dataclass(frozen=True)
class _Kept:
    """A recording's power spectrum `(T, n_bins)` from its frame `first` on."""

    power: Float32
    first: int


def _at_speed(samples: Float32, speed: float, rate_hz: int) -> Float32:
    """Speed perturbation (Ko et al., 2015): tempo and pitch together."""
    if speed == 1:
        return samples
    return soxr.resample(samples, rate_hz * speed, rate_hz, quality="MQ")


def _balanced(groups: list[tuple[str, str]]) -> NDArray[np.float64]:
    """Draw probabilities by which every corpus, and within it every label, comes equally often."""
    weights = np.empty(len(groups))
    corpora = sorted({corpus for corpus, _ in groups})
    for corpus in corpora:
        own = [group for group in groups if group[0] == corpus]
        n_labels = len(set(own))
        for group in set(own):
            mask = np.array([g == group for g in groups])
            weights[mask] = 1 / (len(corpora) * n_labels * mask.sum())
    return weights


def by_voice(recordings: list[Recording]) -> NDArray[np.float64]:
    """Draw probabilities by which a voice comes as the root of its hours, a recording as its own.

    Many voices are what is to be heard, and not one announcer for hours.
    """
    spoken_s: dict[tuple[str, str], float] = {}
    for one in recordings:
        spoken_s[one.speaker_key] = spoken_s.get(one.speaker_key, 0.0) + one.duration_s
    weights = np.array([r.duration_s / spoken_s[r.speaker_key] ** 0.5 for r in recordings])
    return weights / weights.sum()
