"""DRN-MHSA: a dilated residual network with multi-head self-attention.

Li, Wu, Jia, Zhao and Meng, "Dilated residual network with multi-head self-attention for speech
emotion recognition", ICASSP 2019 (10.1109/ICASSP.2019.8682154).

A residual network over time whose last two stages dilate instead of halving, so that temporal
structure stays; multi-head self-attention over the resulting sequence; then the label.

Of the publication only the abstract could be had, and no code of its authors. The convolutions
(10 x 32; 64 and 128 channels after halving, 256 and 512 with dilations 2 and 4; two residual
blocks each) are as an independent reimplementation of the publication's DRN describes them
(santi-pdp/pase, which leaves the attention out). The rest is this file's: 8 heads and scaled dot
products of "Attention is all you need", one residual layer with layer normalisation, the mean over
time, one linear layer, dropout.

Input: 64 log-mel bands at 10 ms with deltas and their deltas, as one sequence of 192 channels; the
customary input of that line of work, not known to be the publication's.
"""

from typing import Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from model_export.peers.spectrogram import Spectrogram
from ser_core.features import FeatureSpec


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DrnMhsaConfig:
    """Channels of the first convolution and of the four stages.

    Raises `ValueError` for heads that do not divide the last stage's channels.
    """

    kind: Literal["drn-mhsa"] = "drn-mhsa"
    first_channels: int = 32
    stage_channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    n_heads: int = 8
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.stage_channels[-1] % self.n_heads:
            raise ValueError("n_heads must divide the last of stage_channels")


class ResidualBlock(nn.Module):
    """Two convolutions over time with a shortcut: `(B, C, T)` to the same."""

    def __init__(self, channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()

        def convolution() -> nn.Conv1d:
            padding = dilation * (kernel_size // 2)
            return nn.Conv1d(
                channels, channels, kernel_size, padding=padding, dilation=dilation, bias=False
            )

        self.layers = nn.Sequential(
            convolution(),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            convolution(),
            nn.BatchNorm1d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.layers(x))


def _stage(enter: nn.Conv1d, kernel_size: int, dilation: int = 1) -> nn.Sequential:
    blocks = (ResidualBlock(enter.out_channels, kernel_size, dilation) for _ in range(2))
    return nn.Sequential(enter, *blocks)


class MultiHeadSelfAttention(nn.Module):
    """Vaswani et al. 2017, Section 3.2.2, with residual connection and layer normalisation.

    `(B, T, C)` to the same.
    """

    def __init__(self, channels: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        n_segments, n_frames, channels = x.shape
        qkv = self.qkv(x).view(n_segments, n_frames, 3, self.n_heads, channels // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, C / heads)
        heard = functional.scaled_dot_product_attention(q, k, v)
        heard = heard.transpose(1, 2).reshape(n_segments, n_frames, channels)
        return self.norm(x + self.dropout(self.out(heard)))


class DrnMhsa(nn.Module):
    """Segments of MFCC `(B, T, F)` to logits `(B, n_labels)`."""

    def __init__(self, config: DrnMhsaConfig, features: FeatureSpec, n_labels: int) -> None:
        super().__init__()
        self.picture = Spectrogram(features, deltas=True)
        self.input = self.picture.input
        c0, (c1, c2, c3, c4) = config.first_channels, config.stage_channels
        self.dilated_residual = nn.Sequential(
            nn.ConstantPad1d((4, 5), 0.0),
            nn.Conv1d(self.picture.n_rows, c0, 10),
            _stage(nn.Conv1d(c0, c1, 2, stride=2), 5),
            _stage(nn.Conv1d(c1, c2, 2, stride=2), 5),
            _stage(nn.Conv1d(c2, c3, 1), 3, dilation=2),
            _stage(nn.Conv1d(c3, c4, 1), 3, dilation=4),
        )
        self.attend = MultiHeadSelfAttention(c4, config.n_heads, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.score = nn.Linear(c4, n_labels)

    def forward(self, features: Tensor) -> Tensor:
        x = self.dilated_residual(self.picture(features))  # (B, c4, T / 4)
        x = self.attend(x.transpose(1, 2)).mean(dim=1)  # (B, c4)
        return self.score(self.dropout(x))
