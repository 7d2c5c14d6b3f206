"""What every network hears of a segment: MFCC to log-mel or MFCC without the recording's level.

Part of the graph, so that a served network needs no other normalisation. Loudness tells of the
microphone and not of the speaker: a recording 12 dB quieter gives the same logits.
"""

import torch
from torch import Tensor, nn

from ser_core.features import FeatureSpec


class LogMel(nn.Module):
    """MFCC `(B, T, F)` back to the mel decibels `(B, T, n_mels)` they were made of.

    Exact when the cepstrum is whole (`n_mfcc == n_mels`), as the DCT is orthonormal; else smoothed.
    The segment's mean power is subtracted and what lies `floor_db` below it is clamped.
    """

    def __init__(self, features: FeatureSpec, floor_db: float = 50.0) -> None:
        super().__init__()
        self.floor_db = floor_db
        self.dct: Tensor
        self.register_buffer("dct", torch.from_numpy(features.dct), persistent=False)

    def forward(self, mfcc: Tensor) -> Tensor:
        mel_db = mfcc @ self.dct.T  # (B, T, n_mels)
        power = torch.exp(mel_db * 0.23025851).mean(dim=(1, 2), keepdim=True)  # 10^(dB/10)
        level_db = 4.3429448 * torch.log(power)  # features have a floor of -100 dB: never zero
        return torch.clamp(mel_db - level_db, min=-self.floor_db)


class Normalisation(nn.Module):
    """MFCC `(B, T, F)` without the segment's level, standardised, as `(B, F, T / frame_pool)`.

    `frame_pool` neighbouring frames become one, the mean of their mel decibels. With `bands` the
    rows are the mel bands themselves, `(B, n_mels, T / frame_pool)`.
    """

    def __init__(
        self,
        features: FeatureSpec,
        floor_db: float = 50.0,
        frame_pool: int = 1,
        *,
        bands: bool = False,
    ) -> None:
        super().__init__()
        self.log_mel = LogMel(features, floor_db)
        self.frame_pool = frame_pool
        self.bands = bands
        n_rows = features.n_mels if bands else features.n_mfcc
        self.standardise = nn.BatchNorm1d(n_rows, affine=False)

    def forward(self, mfcc: Tensor) -> Tensor:
        level_free = self.log_mel(mfcc)  # (B, T, n_mels)
        if not self.bands:
            level_free = level_free @ self.log_mel.dct
        level_free = level_free.transpose(1, 2)
        if self.frame_pool > 1:
            level_free = nn.functional.avg_pool1d(level_free, self.frame_pool)
        return self.standardise(level_free)
