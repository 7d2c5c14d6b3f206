"""Tiny models and signals made on the spot: no test needs a download or the shipped weights."""

from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ser_core.baseline import NeutralVoice
from ser_core.features import FeatureSpec, Float32
from ser_core.labels import LABELS
from ser_core.model_file import INPUT_NAME, METADATA_KEY, OUTPUT_NAME, ModelSpec, Thresholds
from ser_core.posteriors import Calibration
from ser_core.segments import SegmentSpec

N_MFCC = 13
RATE_HZ = 16_000


def mel_filters(n_mels: int = 20, n_bins: int = 201) -> Float32:
    """Plain triangles on a linear axis; enough for a test."""
    centres = np.linspace(1, n_bins - 2, n_mels)[:, None]
    width = n_bins / n_mels
    return np.maximum(0, 1 - np.abs(np.arange(n_bins)[None] - centres) / width).astype(np.float32)


def weights(labels: tuple[str, ...] = LABELS, seed: int = 0) -> Float32:
    """Of the tiny network: logits = mean over frames of MFCC @ weights; `(n_mfcc, n_labels)`."""
    return _weights(labels, seed).copy()


@cache
def _weights(labels: tuple[str, ...], seed: int) -> Float32:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((N_MFCC, len(labels))) / 50).astype(np.float32)


def logits(features: Float32, seed: int = 0) -> Float32:
    """The tiny network in NumPy: `(n, n_frames, n_mfcc)` to `(n, n_labels)`."""
    return features.mean(axis=1) @ weights(seed=seed)


def model_spec(name: str = "tiny", version: str = "1.0.0", seed: int = 0) -> ModelSpec:
    """A spec whose self-test the tiny network of the same seed passes."""

    def spec(expected: tuple[float, ...]) -> ModelSpec:
        return ModelSpec(
            name=name,
            version=version,
            labels=LABELS,
            features=FeatureSpec(mel_filters=mel_filters(), n_mfcc=N_MFCC),
            segments=SegmentSpec(),
            calibration=Calibration(scale=(1.0,) * 5, bias=(0.0,) * 5),
            thresholds=Thresholds(min_samples=12_800),
            provenance={"training_data": "none, random weights"},
            license="CC0-1.0",
            self_test_logits=expected,
            neutral_voice=NeutralVoice((-0.2, 0.1, 0.3, -0.1, 0.2), share=0.4),
        )

    answer = logits(spec((0.0,) * 5).self_test_features(), seed=seed)[0]
    return spec(tuple(float(value) for value in answer))


def write_model(path: Path, spec: ModelSpec | None = None, seed: int = 0) -> ModelSpec:
    """Writes the tiny network with its metadata as `path` and returns its spec."""
    spec = spec or model_spec(seed=seed)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", [INPUT_NAME, "axes"], ["mean"], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], [OUTPUT_NAME]),
        ],
        "tiny",
        [
            helper.make_tensor_value_info(
                INPUT_NAME, TensorProto.FLOAT, ["batch", spec.n_frames, N_MFCC]
            )
        ],
        [
            helper.make_tensor_value_info(
                OUTPUT_NAME, TensorProto.FLOAT, ["batch", len(spec.labels)]
            )
        ],
        [
            numpy_helper.from_array(weights(spec.labels, seed), "weights"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, spec.to_metadata()[METADATA_KEY]
    onnx.save(model, str(path))
    return spec


def voice(
    n_samples: int, rate_hz: int = RATE_HZ, pitch_hz: float = 160.0, seed: int = 0
) -> Float32:
    """A voice-like signal with changing loudness, float32 `(n_samples,)`, peak below 0.7."""
    return _voice(n_samples, rate_hz, pitch_hz, seed).copy()


@lru_cache(maxsize=32)  # a test asks for the same one again and again
def _voice(n_samples: int, rate_hz: int, pitch_hz: float, seed: int) -> Float32:
    rng = np.random.default_rng(seed)
    t = np.arange(n_samples) / rate_hz
    phase = 2 * np.pi * (pitch_hz * t + 8 * np.sin(2 * np.pi * 0.7 * t))
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 8))
    loudness = 0.12 + 0.1 * np.sin(2 * np.pi * 2.3 * t)
    return (loudness * harmonics + 0.002 * rng.standard_normal(n_samples)).astype(np.float32)


def opus_packets(
    samples: Float32, rate_hz: int = 48_000, packet_ms: float = 20, **options: str
) -> list[bytes]:
    """Samples `(n,)` or `(n, 2)` as Opus packets; needs PyAV. `options` are FFmpeg's of libopus."""
    import av

    layout = "mono" if samples.ndim == 1 else "stereo"
    codec = av.CodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = rate_hz, layout, "flt"  # type: ignore[attr-defined]
    codec.options = {"frame_duration": f"{packet_ms:g}", **options}
    packets: list[bytes] = []
    n_packet = round(rate_hz * packet_ms / 1000)
    for start in range(0, len(samples) - n_packet + 1, n_packet):
        block = np.ascontiguousarray(samples[start : start + n_packet].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(block, "flt", layout)
        frame.sample_rate, frame.pts = rate_hz, start
        packets += [bytes(packet) for packet in codec.encode(frame)]  # type: ignore[attr-defined]
    return packets + [bytes(packet) for packet in codec.encode(None)]  # type: ignore[attr-defined]
