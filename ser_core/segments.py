"""The model's 2 s segments, a new one every 0.4 s (paper, Section 3.2: 1.6 s overlap)."""

from dataclasses import dataclass

import numpy as np

from ser_core.features import FeatureSpec, Float32


@dataclass(frozen=True)
class SegmentSpec:
    """Length and hop of segments in samples at the model's rate."""

    segment_samples: int = 32_000
    hop_samples: int = 6_400

    def __post_init__(self) -> None:
        if self.hop_samples <= 0 or self.segment_samples % self.hop_samples:
            raise ValueError("segment_samples must be a whole number of hop_samples")


def fill(features: Float32, n_frames: int) -> Float32:
    """Repeats an utterance shorter than a segment until it fills one.

    `(m, n_mfcc)` with 1 <= m <= n_frames to `(n_frames, n_mfcc)`: the network always sees
    speech, never padding, and needs no mask.
    """
    if len(features) == n_frames:
        return features
    return features[np.arange(n_frames) % len(features)]


def cut(features: Float32, n_frames: int, hop_frames: int) -> Float32:
    """All segments of one whole utterance: `(m, n_mfcc)` to `(n_segments, n_frames, n_mfcc)`.

    An utterance shorter than a segment gives one, filled by repetition; one without a frame
    gives none. What a training set uses; a stream uses `Segmenter`, to the same effect.
    """
    if len(features) == 0:
        return np.empty((0, n_frames, features.shape[1]), np.float32)
    if len(features) < n_frames:
        return fill(features, n_frames)[None]
    starts = range(0, len(features) - n_frames + 1, hop_frames)
    return np.stack([features[start : start + n_frames] for start in starts])


class Segmenter:
    """Keeps the last segment's worth of frames of one utterance."""

    def __init__(self, features: FeatureSpec, segments: SegmentSpec) -> None:
        self.n_frames = features.n_frames(segments.segment_samples)
        self._frames = np.empty((0, features.n_mfcc), np.float32)

    @property
    def is_full(self) -> bool:
        """Whether a whole segment has been heard."""
        return len(self._frames) == self.n_frames

    def accept(self, features: Float32) -> Float32:
        """Takes one hop's new frames `(m, n_mfcc)`; returns the segment that ends with them.

        The result is float32 `(n_frames, n_mfcc)`, filled by repetition while the utterance is
        shorter than a segment.
        """
        frames = np.concatenate((self._frames, features))
        # A copy: a view would keep what it leaves out alive as well.
        self._frames = frames[-self.n_frames :].copy() if len(frames) > self.n_frames else frames
        return fill(self._frames, self.n_frames)

    def peek(self, features: Float32, n_frames: int) -> Float32 | None:
        """The segment of the utterance's first `n_frames`, the last of them in `features`.

        `None` when the utterance is longer than a segment, or holds no more than was accepted.
        Nothing is kept.
        """
        if not len(self._frames) < n_frames <= self.n_frames or self.is_full:
            return None
        return fill(np.concatenate((self._frames, features))[:n_frames], self.n_frames)
