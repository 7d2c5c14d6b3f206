"""Light-SERNet: a small, fully convolutional network.

Aftab, Morsali, Ghaemmaghami and Champagne, "Light-SERNet: a lightweight fully convolutional neural
network for speech emotion recognition", ICASSP 2022 (arXiv 2110.03435).

Three parallel paths look along time, along the cepstrum and along both; five convolutional blocks
and an average over the whole map follow.

Input: the first 40 MFCC, as in the publication. Its frames are of 64 ms every 16 ms; here
`frame_pool` frames of 25 ms, 10 ms apart, are averaged into one: two are nearest to the
publication, and the tables take four (40 ms), as for all networks there, to save time. Its MFCC are
of natural logarithms and clipped to +-10; here they are standardised.

Widths, kernels and order are of the authors' code (AryaAftab/LIGHT-SERNET); the text could be read
in summaries only. Where TensorFlow pads ("same"), so does this: an odd map keeps its last row when
it is halved. They train with cross-entropy or focal loss; here it is cross-entropy.
"""

from typing import Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from model_export.peers.spectrogram import Cepstrogram
from ser_core.features import FeatureSpec


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LightSernetConfig:
    """Channels of each path and of the blocks after them."""

    kind: Literal["light-sernet"] = "light-sernet"
    n_mfcc: int = 40
    frame_pool: int = 4
    path_channels: int = 32
    block_channels: tuple[int, int, int, int, int] = (64, 96, 128, 160, 320)
    dropout: float = 0.3


def _average(height: int, width: int) -> nn.AvgPool2d:
    return nn.AvgPool2d((height, width), ceil_mode=True, count_include_pad=False)


def _block(n_in: int, n_out: int, kernel_size: int, pool: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
        pool,
    )


class LightSernet(nn.Module):
    """Segments of MFCC `(B, T, F)` to logits `(B, n_labels)`."""

    def __init__(self, config: LightSernetConfig, features: FeatureSpec, n_labels: int) -> None:
        super().__init__()
        self.picture = Cepstrogram(features, config.n_mfcc, config.frame_pool)
        self.input = self.picture.input
        self.paths = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    1, config.path_channels, (rows, frames), padding=(rows // 2, frames // 2)
                ),
                nn.BatchNorm2d(config.path_channels),
                nn.ReLU(inplace=True),
                _average(2, 2),
            )
            for rows, frames in ((1, 11), (9, 1), (3, 3))
        )
        c1, c2, c3, c4, c5 = config.block_channels
        self.body = nn.Sequential(
            _block(3 * config.path_channels, c1, 3, _average(2, 2)),
            _block(c1, c2, 3, _average(2, 2)),
            _block(c2, c3, 3, _average(1, 2)),  # from here on only time is halved
            _block(c3, c4, 3, _average(1, 2)),
            _block(c4, c5, 1, nn.Identity()),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.score = nn.Linear(c5, n_labels)
        # A quarter faster on a CPU, the same numbers.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, features: Tensor) -> Tensor:
        x = self.picture(features)[:, None]  # (B, 1, n_mfcc, T')
        x = torch.cat([path(x) for path in self.paths], dim=1)  # (B, 3 C, n_mfcc / 2, T' / 2)
        x = self.body(x).mean(dim=(2, 3))  # (B, c5)
        return self.score(self.dropout(x))
