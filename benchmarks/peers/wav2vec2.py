"""A network of wav2vec 2.0 base's shape, random weights, in ONNX Runtime on 2 s windows.

    python -m benchmarks.peers.wav2vec2 export wav2vec2.onnx
    python -m benchmarks.peers.wav2vec2 run wav2vec2.onnx

What most published recognisers of emotion rest on (Baevski et al., 2020, Section 3 and table 2:
seven convolutions, then 12 Transformer layers of width 768, 95 million parameters). Weights do
not change what it costs.
"""

import argparse
import logging
import warnings
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers.bare import measure
from ser_core.segments import SegmentSpec

WIDTH, N_HEADS, N_LAYERS, N_INNER = 768, 12, 12, 3072
N_CHANNELS = 512
#: Kernel and stride of each convolution: 20 ms a frame.
CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
POSITION_KERNEL, POSITION_GROUPS = 128, 16
OPSET = 18


class ConvolutionalEncoder(nn.Module):
    """Samples `(B, n)` to frames `(B, T, 512)`."""

    def __init__(self) -> None:
        super().__init__()
        sizes = [1, *(N_CHANNELS for _ in CONVOLUTIONS)]
        self.layers = nn.ModuleList(
            nn.Conv1d(n_in, N_CHANNELS, kernel, stride, bias=False)
            for n_in, (kernel, stride) in zip(sizes, CONVOLUTIONS, strict=False)
        )
        self.norm = nn.GroupNorm(N_CHANNELS, N_CHANNELS)

    def forward(self, samples: Tensor) -> Tensor:
        x = samples[:, None]
        for index, layer in enumerate(self.layers):
            x = layer(x)
            x = functional.gelu(self.norm(x) if index == 0 else x)
        return x.transpose(1, 2)


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward network, each normalised after its residual."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.inner = nn.Sequential(nn.Linear(WIDTH, N_INNER), nn.GELU(), nn.Linear(N_INNER, WIDTH))
        self.norm_attention, self.norm_inner = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n_windows, n_frames, _ = x.shape
        qkv = self.qkv(x).view(n_windows, n_frames, 3, N_HEADS, WIDTH // N_HEADS)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        heard = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = self.norm_attention(x + self.out(heard.reshape(n_windows, n_frames, WIDTH)))
        return self.norm_inner(x + self.inner(x))


class Wav2Vec2Base(nn.Module):
    """Samples `(B, n)` to an embedding of each frame, `(B, T, 768)`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = ConvolutionalEncoder()
        self.project = nn.Sequential(nn.LayerNorm(N_CHANNELS), nn.Linear(N_CHANNELS, WIDTH))
        self.position = nn.Conv1d(
            WIDTH, WIDTH, POSITION_KERNEL, padding=POSITION_KERNEL // 2, groups=POSITION_GROUPS
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.layers = nn.ModuleList(TransformerLayer() for _ in range(N_LAYERS))

    def forward(self, samples: Tensor) -> Tensor:
        x = self.project(self.encoder(samples))
        # An even kernel gives one frame too many.
        position = functional.gelu(self.position(x.transpose(1, 2))[:, :, :-1])
        x = self.norm(x + position.transpose(1, 2))
        for layer in self.layers:
            x = layer(x)
        return x


def export(path: Path) -> None:
    """Writes the network, for windows of 2 s, and its weights beside it if the exporter likes."""
    torch.manual_seed(0)
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Wav2Vec2Base().eval(),
            (torch.zeros(1, SegmentSpec.segment_samples),),
            path,
            input_names=["samples"],
            output_names=["frames"],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )


def run(path: Path) -> None:
    """Measures it, on one thread that does not spin, as this service runs its model."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    measure(lambda samples: session.run(None, {"samples": samples[None]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="wav2vec 2.0 base's shape on 2 s windows.")
    parser.add_argument("action", choices=["export", "run"])
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    (export if arguments.action == "export" else run)(arguments.path)
