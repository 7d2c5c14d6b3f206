"""GLRF, the global-local relation fusion network (paper, Section 2.1 and Figure 2).

`MFCC -> normalise -> stem -> GLRA -> max-pool -> GLRA -> max-pool -> ... -> FC -> logits`

B is the number of segments, T frames, F MFCC, C channels. What the paper leaves open is said where
it is decided; ADR 2 has the reasons.
"""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from model_export.frontend import Normalisation
from ser_core.features import FeatureSpec

Pooling = Literal["mean", "statistics"]

_Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class GlrfConfig:
    """Size of the network, and the ablations of the paper's Table 4.

    `frame_pool` 10 ms frames are averaged into one of the network's. `stem = "frames"` is the
    paper's, a convolution over time whose channels are the MFCC; ours, `"bands"`, goes back to the
    mel bands and looks along both axes, with `stem_channels` and half of the bands after each
    layer.
    `branches = "convolutions"` puts a convolution of kernel 3 and one of kernel 5 in the place of
    the global and the local branch; `fusion = "sum"` adds the branches instead of gating them.
    `pooling = "statistics"` gives the FC layer each channel's deviation over frames beside its mean
    (Snyder et al., 2017).

    Raises `ValueError` for heads that do not divide the channels and for an even kernel.
    """

    kind: Literal["glrf"] = "glrf"
    frame_pool: _Positive = 1
    stem: Literal["frames", "bands"] = "frames"
    stem_channels: tuple[_Positive, ...] = (16, 32, 32)
    branches: Literal["global-local", "convolutions"] = "global-local"
    fusion: Literal["gates", "sum"] = "gates"
    pooling: Pooling = "mean"
    channels: _Positive = 64
    n_blocks: _Positive = 3
    n_heads: _Positive = 4
    kernel_size: _Positive = 5
    squeeze: _Positive = 4
    dropout: float = Field(default=0.1, ge=0, lt=1)

    def __post_init__(self) -> None:
        if self.channels % self.n_heads or self.channels % self.squeeze:
            raise ValueError("n_heads and squeeze must divide channels")
        if self.kernel_size % 2 == 0:
            raise ValueError("kernel_size must be odd, so that a frame stays in its place")


class SelfAttention(nn.Module):
    """Global branch: multi-head self-attention over frames with a residual connection."""

    def __init__(self, channels: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        n_segments, channels, n_frames = x.shape  # (B, C, T)
        qkv = self.qkv(self.norm(x.transpose(1, 2)))  # (B, T, 3C)
        qkv = qkv.view(n_segments, n_frames, 3, self.n_heads, channels // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, C / heads)
        heard = functional.scaled_dot_product_attention(q, k, v)
        heard = heard.transpose(1, 2).reshape(n_segments, n_frames, channels)
        return x + self.out(heard).transpose(1, 2)


class TemporalConvolution(nn.Module):
    """Local branch: temporal convolution and linear layers with a residual connection."""

    def __init__(self, channels: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv1d(channels, channels, 1),  # a linear layer over channels, frame by frame
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)  # (B, C, T)


class Fusion(nn.Module):
    """Gates of the global-local fusion module, as in selective kernel networks (reference [7]).

    Sum of the branches, global average pooling to `s`, an FC squeeze to `z`, one FC a branch back
    to channels, softmax across the branches, weighted sum.
    """

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // squeeze)
        self.gates = nn.Linear(channels // squeeze, 2 * channels)

    def forward(self, global_: Tensor, local: Tensor) -> Tensor:
        s = (global_ + local).mean(dim=2)  # (B, C)
        z = functional.relu(self.squeeze(s))  # (B, C / squeeze)
        gates = self.gates(z).unflatten(1, (2, -1)).softmax(dim=1)[..., None]  # (B, 2, C, 1)
        return gates[:, 0] * global_ + gates[:, 1] * local


class GlobalLocalBlock(nn.Module):
    """GLRA: both branches side by side on the same input, then fused."""

    def __init__(self, config: GlrfConfig) -> None:
        super().__init__()
        channels, dropout = config.channels, config.dropout
        if config.branches == "global-local":
            self.global_ = SelfAttention(channels, config.n_heads)
            self.local = TemporalConvolution(channels, config.kernel_size, dropout)
        else:
            self.global_ = TemporalConvolution(channels, 3, dropout)
            self.local = TemporalConvolution(channels, 5, dropout)
        self.fusion = Fusion(channels, config.squeeze) if config.fusion == "gates" else torch.add

    def forward(self, x: Tensor) -> Tensor:
        return self.fusion(self.global_(x), self.local(x))  # (B, C, T)


class BandStem(nn.Module):
    """Mel bands over time `(B, n_bands, T)` to channels `(B, C, T)`, by convolutions over both.

    A longer or shorter vocal tract shifts what is heard along the bands: a kernel that moves along
    them knows it again, where one that has the MFCC for channels must learn each shift.
    """

    def __init__(self, config: GlrfConfig, n_bands: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 1
        for n_out in config.stem_channels:
            layers += [
                nn.Conv2d(n_in, n_out, 3, stride=(2, 1), padding=1, bias=False),
                nn.BatchNorm2d(n_out),
                nn.ReLU(inplace=True),
            ]
            n_in, n_bands = n_out, -(-n_bands // 2)
        self.planes = nn.Sequential(*layers)
        self.join = nn.Sequential(
            nn.Conv1d(n_in * n_bands, config.channels, 1, bias=False),
            nn.BatchNorm1d(config.channels),
            nn.ReLU(),
        )
        # A quarter faster on a CPU, the same numbers.
        self.planes.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        planes = self.planes(x[:, None])  # (B, C', n_bands / 2^n, T)
        return self.join(planes.flatten(1, 2))


def pooled(x: Tensor, pooling: Pooling, dim: int) -> Tensor:
    """Frames, along `dim` of `(B, C, T)` or `(B, T, C)`, as statistics `(B, C)` or `(B, 2 C)`."""
    mean = x.mean(dim=dim)
    if pooling == "mean":
        return mean
    # A channel that is the same in all frames would have no gradient at a deviation of zero.
    deviation = (x.var(dim=dim, correction=0) + 1e-5).sqrt()
    return torch.cat([mean, deviation], dim=1)


class Glrf(nn.Module):
    """Segments of MFCC `(B, T, F)` to one-vs-rest logits `(B, n_labels)`."""

    def __init__(self, config: GlrfConfig, features: FeatureSpec, n_labels: int) -> None:
        super().__init__()
        self.normalise = Normalisation(
            features, frame_pool=config.frame_pool, bands=config.stem == "bands"
        )
        if config.stem == "bands":
            self.stem: nn.Module = BandStem(config, features.n_mels)
        else:
            self.stem = nn.Sequential(
                nn.Conv1d(features.n_mfcc, config.channels, 3, padding=1, bias=False),
                nn.BatchNorm1d(config.channels),
                nn.ReLU(),
            )
        self.blocks = nn.ModuleList(GlobalLocalBlock(config) for _ in range(config.n_blocks))
        self.channels = config.channels
        self.pooling: Pooling = config.pooling
        self.dropout = nn.Dropout(config.dropout)
        n_statistics = 1 if config.pooling == "mean" else 2
        self.score = nn.Linear(n_statistics * config.channels, n_labels)

    def blocks_of(
        self, features: Tensor, mix: Callable[[Tensor], Tensor] | None = None
    ) -> list[Tensor]:
        """The frames that each block gives, `(B, C, T / 2^i)`.

        `mix` may change what the stem hears, `(B, F, T)` without level and standardised.
        """
        x = self.normalise(features)
        if mix is not None:
            x = mix(x)
        x = self.stem(x)  # (B, C, T)
        given: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            if index:
                x = functional.max_pool1d(x, 2)  # halves T between two blocks
            x = block(x)
            given.append(x)
        return given

    def embed(self, features: Tensor, mix: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """What the scores are taken from, `(B, C)`, or `(B, 2 C)` with the deviations."""
        return pooled(self.blocks_of(features, mix)[-1], self.pooling, dim=2)

    def decide(self, embedded: Tensor) -> Tensor:
        """Logits `(B, n_labels)` from what `embed` gave."""
        return self.score(self.dropout(embedded))

    def forward(self, features: Tensor) -> Tensor:
        return self.decide(self.embed(features))  # (B, n_labels)
