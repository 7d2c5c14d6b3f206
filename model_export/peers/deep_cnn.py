"""Deep-CNN: a one-dimensional CNN over a clip's mean features.

Issa, Demirci and Yazici, "Speech emotion recognition with deep convolutional neural networks",
Biomedical Signal Processing and Control 59 (2020) 101894.

Its axis is not time but the features. This is the baseline network, which the publication uses on
RAVDESS: six convolutions of width 5.

Input: the publication's vector has 193 numbers, the means of 40 MFCC, 12 chroma, 128 mel bands
(power), 7 spectral contrasts and 6 tonnetz. Of a segment of MFCC one has the first 40 MFCC and 64
mel bands; chroma, contrast and tonnetz need the spectrum and cannot be had. The 104 numbers are of
2 s, not of a whole clip, after the level is taken off, and are standardised.

Beyond the abstract the text could not be had, and no code of its authors was found: layers and
their order are as public reimplementations give them. Those do not pad; here convolutions keep the
length, as 104 numbers would not outlast six that don't. There the rate is 1e-5 (RMSprop).
"""

from typing import Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from model_export.frontend import LogMel
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DeepCnnConfig:
    """Filters of the first convolution and of the five others; both dropouts."""

    kind: Literal["deep-cnn"] = "deep-cnn"
    n_mfcc: int = 40
    first_channels: int = 256
    channels: int = 128
    first_dropout: float = 0.1
    dropout: float = 0.2


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation of `(B, n)`, which in training may also be of one segment.

    One has no variance: it is normalised as in inference, by what the batches before it left.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) == 1:
            mean, variance = self.running_mean, self.running_var
            return functional.batch_norm(
                input, mean, variance, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(input)


class MeanFeatures(nn.Module):
    """MFCC `(B, T, F)` to means over time `(B, n_mfcc + n_mels)`, standardised."""

    def __init__(self, features: FeatureSpec, n_mfcc: int) -> None:
        super().__init__()
        if n_mfcc > features.n_mfcc:
            raise BadParameter(
                f"the network takes {n_mfcc} MFCC and the features have {features.n_mfcc}",
                remedy=f"give the config's [features] n_mfcc = {n_mfcc} or more",
            )
        self.log_mel = LogMel(features)
        self.n_mfcc, self.n_features = n_mfcc, n_mfcc + features.n_mels
        self.standardise = BatchNorm(self.n_features, affine=False)
        self.input = f"means over 2 s of {n_mfcc} MFCC and of the power of {features.n_mels} bands"

    def forward(self, mfcc: Tensor) -> Tensor:
        mel_db = self.log_mel(mfcc)  # (B, T, n_mels)
        power = torch.exp(mel_db * 0.23025851).mean(dim=1)  # 10^(dB/10)
        cepstrum = mel_db.mean(dim=1) @ self.log_mel.dct[:, : self.n_mfcc]
        return self.standardise(torch.cat([cepstrum, power], dim=1))


class DeepCnn(nn.Module):
    """Segments of MFCC `(B, T, F)` to logits `(B, n_labels)`."""

    def __init__(self, config: DeepCnnConfig, features: FeatureSpec, n_labels: int) -> None:
        super().__init__()
        first, channels = config.first_channels, config.channels
        self.means = MeanFeatures(features, config.n_mfcc)
        self.input = self.means.input

        def convolution(n_in: int, n_out: int) -> nn.Conv1d:
            return nn.Conv1d(n_in, n_out, 5, padding=2)

        self.layers = nn.Sequential(
            convolution(1, first),
            nn.BatchNorm1d(first),
            nn.ReLU(),
            convolution(first, channels),
            nn.ReLU(),
            nn.Dropout(config.first_dropout),
            nn.BatchNorm1d(channels),
            nn.MaxPool1d(8),
            convolution(channels, channels),
            nn.ReLU(),
            convolution(channels, channels),
            nn.ReLU(),
            convolution(channels, channels),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            convolution(channels, channels),
            nn.Flatten(),
            nn.Dropout(config.dropout),
            nn.Linear(channels * (self.means.n_features // 8), n_labels),
            BatchNorm(n_labels),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(self.means(features)[:, None])  # (B, n_labels)
