"""GLRF as it is exported: the same function of the same weights, in half as many graph nodes.

At batches of one to sixteen a third of a segment's time went into nodes that move or scale numbers
(measured in benchmarks/RESULTS.md). What training needs apart is put together here, by algebra that
is exact but for rounding:

- mel decibels become nepers in the cepstral matrix, so that `exp` and `log` need no factors;
- the way back to MFCC and the standardisation go into the stem's convolution: both are linear and
  so is the mean of neighbouring frames, which therefore comes before them;
- batch normalisations go into the convolution before them;
- a softmax of two gates is the sigmoid of their difference.

Convolutions run over (B, C, 1, T), for which ONNX Runtime has blocked kernels, and attention is
ONNX's own operator. B is the number of segments, T frames, F MFCC, C channels.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.onnx import ops

from model_export.frontend import Normalisation
from model_export.glrf import (
    BandStem,
    Fusion,
    GlobalLocalBlock,
    Glrf,
    Pooling,
    SelfAttention,
    TemporalConvolution,
    pooled,
)
from model_export.losses import OneVsRest
from ser_core.errors import BadParameter

#: Decibels of power to nepers, as `LogMel` has it.
NEPERS_PER_DB = 0.23025851


def folded(network: nn.Module) -> nn.Module:
    """The same function, in evaluation mode. A network that is no GLRF is returned as it is."""
    match network:
        case OneVsRest():
            return OneVsRest(folded(network.network)).eval()
        case Glrf():
            return _FoldedGlrf(network).eval()
        case _:
            return network


def in_half(network: nn.Module) -> nn.Module:
    """`folded` in float16 from the first convolution on; features and logits stay float32.

    What comes before, powers and their logarithm, needs the range of float32. Raises `BadParameter`
    for a network that is no GLRF.
    """
    match network:
        case OneVsRest():
            return OneVsRest(in_half(network.network)).eval()
        case Glrf():
            half = _FoldedGlrf(network).eval()
            half.in_half()
            return half
        case _:
            raise BadParameter(
                f"fp16 is made of GLRF, not of {type(network).__name__}",
                remedy="export it as fp32 or int8",
            )


class _FoldedGlrf(nn.Module):
    def __init__(self, network: Glrf) -> None:
        super().__init__()
        network = copy.deepcopy(network)
        self.front = (
            _BandFront(network.normalise, network.stem)
            if isinstance(network.stem, BandStem)
            else _Front(network.normalise, network.stem)
        )
        self.blocks = nn.ModuleList(_Block(block) for block in network.blocks)  # type: ignore[arg-type]
        self.pooling: Pooling = network.pooling
        self.score = network.score

    def in_half(self) -> None:
        """float16 from where the level is off."""
        to_mel = self.front.bands.to_mel
        self.half()
        self.front.bands.to_mel = to_mel

    def forward(self, features: Tensor) -> Tensor:
        x = self.front(features)  # (B, C, 1, T)
        for index, block in enumerate(self.blocks):
            if index:
                x = functional.max_pool2d(_frames_last(x), (1, 2))
            x = block(x)  # (B, T, C)
        return self.score(pooled(x, self.pooling, dim=1)).float()


class _Levelled(nn.Module):
    """MFCC `(B, T, F)` to pooled mel bands without their level, `(B, n_mels, 1, T / frame_pool)`.

    Each band is multiplied by `gain` and moved by `shift`, float64 `(n_mels,)`; its unit before is
    the neper.
    """

    def __init__(self, normalise: Normalisation, gain: Tensor, shift: Tensor) -> None:
        super().__init__()
        log_mel, n_frames = normalise.log_mel, normalise.frame_pool
        n_mels = len(log_mel.dct)
        self.floor = log_mel.floor_db * NEPERS_PER_DB
        self.to_mel: Tensor
        self.register_buffer("to_mel", (log_mel.dct.double().T * NEPERS_PER_DB).float())
        self.pool = nn.Conv2d(n_mels, n_mels, (1, n_frames), stride=(1, n_frames), groups=n_mels)
        with torch.no_grad():
            self.pool.weight.copy_((gain / n_frames)[:, None, None, None])
            assert self.pool.bias is not None
            self.pool.bias.copy_(shift)

    def forward(self, mfcc: Tensor) -> Tensor:
        mel = mfcc @ self.to_mel  # (B, T, n_mels), nepers
        level = torch.log(torch.exp(mel).mean(dim=(1, 2), keepdim=True))
        level_free = torch.clamp(mel - level, min=-self.floor)
        return self.pool(_frames_last(level_free.to(self.pool.weight.dtype)))


class _Front(nn.Module):
    """`Normalisation` and the stem: MFCC `(B, T, F)` to `(B, C, 1, T / frame_pool)`."""

    def __init__(self, normalise: Normalisation, stem: nn.Module) -> None:
        super().__init__()
        assert isinstance(stem, nn.Sequential)
        convolution, norm = stem[0], stem[1]
        assert isinstance(convolution, nn.Conv1d)
        assert isinstance(norm, nn.BatchNorm1d)
        dct = normalise.log_mel.dct.double()  # (n_mels, F), orthonormal columns
        mean, deviation = _moments(normalise.standardise)
        # The spectrum that is standardised to zero. It is subtracted and not made a bias of the
        # convolution, whose padding is of standardised zeros.
        centre = dct @ mean * NEPERS_PER_DB
        self.bands = _Levelled(normalise, torch.ones(len(dct), dtype=torch.float64), -centre)
        weight = torch.einsum("cfk,mf,f->cmk", convolution.weight.double(), dct, 1 / deviation)
        self.stem = _convolution(weight / NEPERS_PER_DB, None, norm)

    def forward(self, mfcc: Tensor) -> Tensor:
        return functional.relu(self.stem(self.bands(mfcc)))


class _BandFront(nn.Module):
    """The same for a stem that looks along the bands."""

    def __init__(self, normalise: Normalisation, stem: BandStem) -> None:
        super().__init__()
        mean, deviation = _moments(normalise.standardise)
        self.bands = _Levelled(normalise, 1 / (deviation * NEPERS_PER_DB), -mean / deviation)
        layers = list(stem.planes)
        self.planes = nn.ModuleList(
            _plane(convolution, norm)
            for convolution, norm in zip(layers[::3], layers[1::3], strict=True)
        )
        convolution, norm = stem.join[0], stem.join[1]
        assert isinstance(convolution, nn.Conv1d)
        assert isinstance(norm, nn.BatchNorm1d)
        self.join = _convolution(convolution.weight.double(), None, norm)

    def forward(self, mfcc: Tensor) -> Tensor:
        x = self.bands(mfcc).transpose(1, 2)  # (B, 1, n_mels, T)
        for plane in self.planes:
            x = functional.relu(plane(x))
        return functional.relu(self.join(x.flatten(1, 2)[:, :, None]))


class _Block(nn.Module):
    """`GlobalLocalBlock` from `(B, C, 1, T)` to `(B, T, C)`."""

    def __init__(self, block: GlobalLocalBlock) -> None:
        super().__init__()
        self.global_, self.local = _branch(block.global_), _branch(block.local)
        self.fusion = _Fusion(block.fusion) if isinstance(block.fusion, Fusion) else torch.add

    def forward(self, x: Tensor) -> Tensor:
        return self.fusion(self.global_(x), self.local(x))


class _Attention(nn.Module):
    """`SelfAttention` from `(B, C, 1, T)` to `(B, T, C)`."""

    def __init__(self, branch: SelfAttention) -> None:
        super().__init__()
        self.n_heads = branch.n_heads
        self.norm, self.qkv, self.out = branch.norm, branch.qkv, branch.out

    def forward(self, x: Tensor) -> Tensor:
        x = _channels_last(x)
        q, k, v = self.qkv(self.norm(x)).chunk(3, dim=2)  # each (B, T, C)
        heard, *_ = ops.attention(q, k, v, q_num_heads=self.n_heads, kv_num_heads=self.n_heads)
        return x + self.out(heard)


class _Convolutions(nn.Module):
    """`TemporalConvolution` from `(B, C, 1, T)` to `(B, T, C)`."""

    def __init__(self, branch: TemporalConvolution) -> None:
        super().__init__()
        first, norm, *_, last = branch.layers
        assert isinstance(first, nn.Conv1d)
        assert isinstance(norm, nn.BatchNorm1d)
        assert isinstance(last, nn.Conv1d)
        self.first = _convolution(first.weight.double(), None, norm)
        self.last = _convolution(last.weight.double(), last.bias, None)

    def forward(self, x: Tensor) -> Tensor:
        return _channels_last(x + self.last(functional.relu(self.first(x))))


class _Fusion(nn.Module):
    """`Fusion` of branches `(B, T, C)`."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.squeeze = fusion.squeeze
        self.gate = nn.Linear(fusion.gates.in_features, fusion.squeeze.in_features)
        with torch.no_grad():
            of_global, of_local = fusion.gates.weight.double().chunk(2)
            self.gate.weight.copy_(of_global - of_local)
            of_global, of_local = fusion.gates.bias.double().chunk(2)
            self.gate.bias.copy_(of_global - of_local)

    def forward(self, global_: Tensor, local: Tensor) -> Tensor:
        z = functional.relu(self.squeeze((global_ + local).mean(dim=1)))
        gate = torch.sigmoid(self.gate(z))[:, None]  # (B, 1, C)
        return local + gate * (global_ - local)


def _branch(branch: nn.Module) -> nn.Module:
    if isinstance(branch, SelfAttention):
        return _Attention(branch)
    assert isinstance(branch, TemporalConvolution)
    return _Convolutions(branch)


def _moments(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a batch normalisation takes off, and what it divides by; float64."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.double(), (norm.running_var.double() + norm.eps).sqrt()


def _plane(convolution: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """A convolution over bands and time, and the batch normalisation after it, as one layer."""
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    mean, deviation = _moments(norm)
    gain = norm.weight.double() / deviation
    n_in, n_out = convolution.in_channels, convolution.out_channels
    layer = nn.Conv2d(n_in, n_out, 3, stride=(2, 1), padding=1)
    with torch.no_grad():
        layer.weight.copy_(convolution.weight.double() * gain[:, None, None, None])
        assert layer.bias is not None
        layer.bias.copy_(norm.bias.double() - mean * gain)
    return layer


def _convolution(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm1d | None) -> nn.Conv2d:
    """Weights float64 `(C_out, C_in, k)`, and a batch normalisation after them, as one layer."""
    shift = torch.zeros(len(weight), dtype=torch.float64) if bias is None else bias.double()
    if norm is not None:
        mean, deviation = _moments(norm)
        gain = norm.weight.double() / deviation
        weight = weight * gain[:, None, None]
        shift = (shift - mean) * gain + norm.bias.double()
    n_out, n_in, kernel = weight.shape
    layer = nn.Conv2d(n_in, n_out, (1, kernel), padding=(0, kernel // 2))
    with torch.no_grad():
        layer.weight.copy_(weight[:, :, None])
        assert layer.bias is not None
        layer.bias.copy_(shift)
    return layer


def _frames_last(x: Tensor) -> Tensor:
    return x[:, None].permute(0, 3, 1, 2)  # (B, T, C) to (B, C, 1, T)


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).squeeze(1)  # (B, C, 1, T) to (B, T, C)
