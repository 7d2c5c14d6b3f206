"""A segment as the picture that a peer looks at: its cepstrum or its mel bands over time.

B is the number of segments, T frames, F MFCC. Both take the segment's level off as GLRF does.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_export.frontend import LogMel, Normalisation
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec
from ser_core.segments import SegmentSpec


def n_pooled_frames(features: FeatureSpec, frame_pool: int) -> int:
    """Frames of a segment after `frame_pool` neighbours became one."""
    return features.n_frames(SegmentSpec().segment_samples) // frame_pool


def _frames(features: FeatureSpec, frame_pool: int) -> str:
    step_ms = 1000 * features.hop_samples * frame_pool // features.sample_rate_hz
    return f"{n_pooled_frames(features, frame_pool)} frames of {step_ms} ms"


class Cepstrogram(nn.Module):
    """MFCC `(B, T, F)` to the first `n_mfcc` of them, standardised, `(B, n_mfcc, T / frame_pool)`.

    `n_rows` and `n_frames` are the picture's height and width. Raises `BadParameter` when the
    features have fewer MFCC.
    """

    def __init__(self, features: FeatureSpec, n_mfcc: int, frame_pool: int = 1) -> None:
        super().__init__()
        if n_mfcc > features.n_mfcc:
            raise BadParameter(
                f"the network takes {n_mfcc} MFCC and the features have {features.n_mfcc}",
                remedy=f"give the config's [features] n_mfcc = {n_mfcc} or more",
            )
        self.normalise = Normalisation(features, frame_pool=frame_pool)
        self.n_rows, self.n_frames = n_mfcc, n_pooled_frames(features, frame_pool)
        self.input = f"first {n_mfcc} MFCC, {_frames(features, frame_pool)}"

    def forward(self, mfcc: Tensor) -> Tensor:
        return self.normalise(mfcc)[:, : self.n_rows]


class Spectrogram(nn.Module):
    """MFCC `(B, T, F)` to mel decibels `(B, n_rows, T / frame_pool)`, standardised band by band.

    With `deltas` the rows are three times the bands: the bands, their slope over five frames (the
    usual regression) and the slope of that. Of fewer MFCC than bands the bands come out smoothed.
    """

    def __init__(self, features: FeatureSpec, frame_pool: int = 1, *, deltas: bool = False) -> None:
        super().__init__()
        self.log_mel = LogMel(features)
        self.frame_pool, self.deltas = frame_pool, deltas
        self.n_rows = features.n_mels * (3 if deltas else 1)
        self.n_frames = n_pooled_frames(features, frame_pool)
        self.standardise = nn.BatchNorm1d(self.n_rows, affine=False)
        more = ", deltas and their deltas" if deltas else ""
        self.input = f"{features.n_mels} log-mel bands{more}, {_frames(features, frame_pool)}"

    def forward(self, mfcc: Tensor) -> Tensor:
        x = self.log_mel(mfcc).transpose(1, 2)  # (B, n_mels, T)
        if self.frame_pool > 1:
            x = functional.avg_pool1d(x, self.frame_pool)
        if self.deltas:
            slope = delta(x)
            x = torch.cat([x, slope, delta(slope)], dim=1)
        return self.standardise(x)


def delta(x: Tensor) -> Tensor:
    """Slope per frame of `(B, n_bands, T)` by regression over five frames, ends repeated."""
    x = functional.pad(x, (2, 2), mode="replicate")
    return (2 * (x[..., 4:] - x[..., :-4]) + x[..., 3:-1] - x[..., 1:-3]) / 10
