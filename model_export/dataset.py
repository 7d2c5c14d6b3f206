"""Utterances as batches of segments."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from model_export.augment import AugmentConfig, Augmenter
from model_export.corpora import Recording, load
from ser_core.features import FeatureSpec, Float32, power_spectrum
from ser_core.segments import SegmentSpec, cut


@dataclass(frozen=True)
class Batch:
    """`features` `(S, n_frames, n_mfcc)`, `n_segments` `(U,)` that sum to S, `labels` `(U,)`."""

    features: Tensor
    n_segments: Tensor
    labels: Tensor


class TrainingSet:
    """Waveforms in memory at several speeds, drawn so that corpora and labels balance.

    Every draw is cut, warped and disturbed anew. Training segments start every 0.2 s (paper,
    Section 3.2: 1.8 s overlap).
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
    ) -> None:
        self._features, self._augment = features, augment
        self._n_frames = features.n_frames(SegmentSpec().segment_samples)
        self._hop_frames = hop_samples // features.hop_samples
        self._max_segments = max_segments
        self._labels = np.array([labels.index(r.label) for r in recordings])
        self._weights = _balanced([(r.corpus, r.label) for r in recordings])
        rate_hz = features.sample_rate_hz
        self._speeds: list[list[NDArray[np.int16]]] = [[] for _ in augment.speeds]
        for recording in recordings:
            samples = load(recording.path, rate_hz)
            for speed, kept in zip(augment.speeds, self._speeds, strict=True):
                kept.append(_int16(_at_speed(samples, speed, rate_hz)))

    def __len__(self) -> int:
        return len(self._labels)

    def epoch(self, rng: Generator, batch_size: int) -> Iterator[Batch]:
        """As many draws as there are recordings, with replacement."""
        augmenter = Augmenter(self._features, self._augment, rng)
        draws = rng.choice(len(self), size=len(self), p=self._weights)
        for start in range(0, len(draws), batch_size):
            chosen = draws[start : start + batch_size]
            cuts = [self._segments(int(index), augmenter, rng) for index in chosen]
            yield Batch(
                torch.from_numpy(np.concatenate(cuts)),
                torch.tensor([len(segments) for segments in cuts]),
                torch.from_numpy(self._labels[chosen]),
            )

    def _segments(self, index: int, augmenter: Augmenter, rng: Generator) -> Float32:
        stored = self._speeds[rng.integers(len(self._speeds))][index]
        samples = stored.astype(np.float32) / np.float32(32768)
        features = augmenter(power_spectrum(samples, self._features))
        segments = cut(features, self._n_frames, self._hop_frames)
        if len(segments) > self._max_segments:
            start = rng.integers(len(segments) - self._max_segments + 1)
            segments = segments[start : start + self._max_segments]
        return segments


def _at_speed(samples: Float32, speed: float, rate_hz: int) -> Float32:
    """Speed perturbation (Ko et al., 2015): tempo and pitch together."""
    if speed == 1:
        return samples
    return soxr.resample(samples, rate_hz * speed, rate_hz, quality="MQ")


def _int16(samples: Float32) -> NDArray[np.int16]:
    return np.clip(samples * 32768, -32768, 32767).astype(np.int16)


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
