"""AA-CNN: convolutions and area attention.

Xu, Zhang, Cui and Zhang, "Speech emotion recognition with multiscale area attention and data
augmentation", ICASSP 2021 (arXiv 2102.01813).

Two parallel convolutions, one along the bands and one along time; four more down to 80 channels;
area attention of the map to itself, areas up to 3 x 3, keys means and values sums; one linear
layer over all that comes out.

Input: log-mel bands, as in the publication: there 128, here the 64 that the segment has; there
frames of 50 ms every 25 ms (81 in 2 s), here `frame_pool` frames of 25 ms, 10 ms apart,
averaged into one: three (66 in 2 s) are nearest, and the tables take four (49), as for all there.

The text was read in its readers' summaries; the rest is of the authors' code
(lessonxmk/Optimized_attention_for_SER): kernels and channels, the first two maps joined one above
the other, attention without projections and its dropout. Scores are divided by the root of the
channels as in the text's Equation 1, which the code does not do. The text draws areas of two
dimensions; the code hands the map to its library in such a way that each row of bands is a memory
of its own, so that areas lie along time only. `memory = "rows"` is the code, which made the
published figures, `"map"` is the drawing, at over ten times the cost. Their extra copies of the
data by VTLP are left to the lab's augmentation.
"""

from typing import Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from model_export.peers.area_attention import AreaAttention
from model_export.peers.spectrogram import Spectrogram
from ser_core.features import FeatureSpec


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AaCnnConfig:
    """Channels of each of the two first convolutions and of the four after them.

    `max_area` is the longest side of an area, `dropout` of the attention's weights.
    """

    kind: Literal["aa-cnn"] = "aa-cnn"
    frame_pool: int = 4
    first_channels: int = 16
    channels: tuple[int, int, int, int] = (32, 48, 64, 80)
    max_area: int = 3
    memory: Literal["rows", "map"] = "rows"
    dropout: float = 0.5


def _convolution(n_in: int, n_out: int, height: int, width: int) -> nn.Sequential:
    """Convolution and batch normalisation; padded as TensorFlow pads, the odd one last."""
    pad = (height - 1) // 2, (width - 1) // 2
    more = (height - 1) % 2, (width - 1) % 2
    return nn.Sequential(
        nn.ZeroPad2d((0, more[1], 0, more[0])) if any(more) else nn.Identity(),
        nn.Conv2d(n_in, n_out, (height, width), padding=pad),
        nn.BatchNorm2d(n_out),
    )


class AaCnn(nn.Module):
    """Segments of MFCC `(B, T, F)` to logits `(B, n_labels)`."""

    def __init__(self, config: AaCnnConfig, features: FeatureSpec, n_labels: int) -> None:
        super().__init__()
        self.picture = Spectrogram(features, config.frame_pool)
        self.input = self.picture.input
        first, (c1, c2, c3, c4) = config.first_channels, config.channels
        self.along_bands = _convolution(1, first, 10, 2)
        self.along_time = _convolution(1, first, 2, 8)
        # The largest of rectified is the rectified largest, and there is a quarter to rectify.
        self.convolutions = nn.Sequential(
            nn.ReLU(inplace=True),
            _convolution(first, c1, 3, 3),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            _convolution(c1, c2, 3, 3),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            _convolution(c2, c3, 3, 3),
            nn.ReLU(inplace=True),
            _convolution(c3, c4, 3, 3),
            nn.ReLU(inplace=True),
        )
        height, width = 2 * self.picture.n_rows // 4, self.picture.n_frames // 4
        self.memory_height = height if config.memory == "map" else 1
        self.attend = AreaAttention(self.memory_height, width, config.max_area, config.dropout)
        self.score = nn.Linear(height * width * c4, n_labels)
        # A fifth faster on a CPU, the same numbers.
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, features: Tensor) -> Tensor:
        x = self.picture(features)[:, None]  # (B, 1, n_mels, T')
        x = torch.cat([self.along_bands(x), self.along_time(x)], dim=2)  # (B, C, 2 n_mels, T')
        x = self.convolutions(x).permute(0, 2, 3, 1)  # (B, H, W, c4)
        n_segments, _, width, channels = x.shape
        memories = x.reshape(-1, self.memory_height * width, channels)
        return self.score(self.attend(memories).reshape(n_segments, -1))
