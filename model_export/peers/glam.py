"""GLAM: multi-scale convolutions, fused by a gated MLP.

Zhu and Li, "Speech emotion recognition with global-aware fusion on multi-scale feature
representation", ICASSP 2022 (arXiv 2204.05571).

Two convolutions, along the cepstrum and along time; three multi-scale blocks of kernels 3 and 5
side by side with shortcuts; one convolution; then a gated MLP (gMLP, Liu et al. 2021) over the
whole map, whose tokens are the channels, and one linear layer over all that comes out.

Input: the first 26 MFCC, as in the publication. Its frames are librosa's default, 128 ms every 32
ms, 63 in 2 s; here `frame_pool` frames of 25 ms, 10 ms apart, are averaged into one: three (66 in 2
s) give nearly its published size, and the tables take four (49), as for all networks there. Its
segments are of 1.8 s, here of 2 s.

Of the text only the beginning could be read; channels, the first two maps joined one above the
other, the convolution of kernel 5 after the blocks and the gMLP's settings (depth 1, widened four
times, tanh gate, first gates alike) are of the authors' code (lixiangucas01/GLAM) and of the gMLP
it uses (lucidrains/g-mlp-pytorch). Their training mixes pairs (mixup); here augmentation is the
lab's, the same for all.
"""

from typing import Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from model_export.peers.spectrogram import Cepstrogram
from ser_core.features import FeatureSpec


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GlamConfig:
    """`channels` of the first convolutions; every multi-scale block doubles them."""

    kind: Literal["glam"] = "glam"
    n_mfcc: int = 26
    frame_pool: int = 4
    channels: int = 16
    widening: int = 4


class MultiScale(nn.Module):
    """Kernels 3 and 5 side by side, each with a shortcut: C channels to 2 C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fine = nn.Conv2d(channels, channels, 3, padding=1)
        self.coarse = nn.Conv2d(channels, channels, 5, padding=2)
        self.norm = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(torch.cat([self.fine(x) + x, self.coarse(x) + x], dim=1)))


class GatedMlp(nn.Module):
    """One gMLP block on `(B, n_tokens, width)`, with a residual connection.

    Half of the widened features, mixed across tokens, gates the other half.
    """

    def __init__(self, width: int, n_tokens: int, widening: int) -> None:
        super().__init__()
        inner = width * widening // 2
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * inner)
        self.gate_norm = nn.LayerNorm(inner)
        self.mix = nn.Conv1d(n_tokens, n_tokens, 1)  # the same for every feature
        self.narrow = nn.Linear(inner, width)
        nn.init.uniform_(self.mix.weight, -1e-3 / n_tokens, 1e-3 / n_tokens)
        nn.init.ones_(self.mix.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> Tensor:
        kept, gate = functional.gelu(self.widen(self.norm(x))).chunk(2, dim=-1)
        gate = torch.tanh(self.mix(self.gate_norm(gate)))
        return x + self.narrow(kept * gate)


class Glam(nn.Module):
    """Segments of MFCC `(B, T, F)` to logits `(B, n_labels)`."""

    def __init__(self, config: GlamConfig, features: FeatureSpec, n_labels: int) -> None:
        super().__init__()
        c = config.channels
        self.picture = Cepstrogram(features, config.n_mfcc, config.frame_pool)
        self.input = self.picture.input
        self.along_rows, self.along_time = (
            nn.Sequential(nn.Conv2d(1, c, kernel, padding=padding), nn.BatchNorm2d(c), nn.ReLU())
            for kernel, padding in (((3, 1), (1, 0)), ((1, 3), (0, 1)))
        )
        self.scales = nn.Sequential(
            MultiScale(c),
            nn.MaxPool2d(2),
            MultiScale(2 * c),
            nn.MaxPool2d(2),
            MultiScale(4 * c),
            nn.Conv2d(8 * c, 8 * c, 5, padding=2),
            nn.BatchNorm2d(8 * c),
            nn.ReLU(),
        )
        n_places = (2 * self.picture.n_rows // 4) * (self.picture.n_frames // 4)
        self.fuse = GatedMlp(n_places, 8 * c, config.widening)
        self.score = nn.Linear(8 * c * n_places, n_labels)

    def forward(self, features: Tensor) -> Tensor:
        x = self.picture(features)[:, None]  # (B, 1, n_mfcc, T')
        x = torch.cat([self.along_rows(x), self.along_time(x)], dim=2)  # (B, C, 2 n_mfcc, T')
        x = self.scales(x).flatten(2)  # (B, 8 C, places)
        return self.score(functional.relu(self.fuse(x)).flatten(1))
