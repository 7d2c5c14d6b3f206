from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from model_export.export import PARITY, write
from model_export.folded import folded, in_half
from model_export.glrf import GlrfConfig
from model_export.losses import OneVsRest
from model_export.mel import feature_spec
from model_export.network import build, scorer
from model_export.onnx_model import OnnxModel
from model_export.peers.light_sernet import LightSernetConfig
from ser_core.errors import BadParameter
from ser_core.features import FeatureSpec, mfcc
from tests.synthetic import model_spec, voice

SMOOTHED = feature_spec(24, 13, 50, 7600)
WHOLE = feature_spec(16, 16, 50, 7600)
SMALL = GlrfConfig(channels=16, n_blocks=3, n_heads=2)
POOLED = replace(SMALL, frame_pool=4)


def trained(config: GlrfConfig, features: FeatureSpec) -> nn.Module:
    """With statistics and scales in its normalisations that a training would leave there."""
    torch.manual_seed(0)
    network = build(config, features, 5).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=3)
            module.running_var.uniform_(0.5, 4)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return network


def segments(features: FeatureSpec) -> np.ndarray:
    """A voice, anything at all, a voice that is hardly there, and no sound."""
    anything = np.random.default_rng(0).normal(0, 20, (198, features.n_mfcc)).astype("f4")
    voiced = voice(32_000)
    quiet, silent = mfcc(1e-3 * voiced, features), mfcc(0 * voiced, features)
    return np.stack([mfcc(voiced, features), anything, quiet, silent])


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        POOLED,
        replace(POOLED, branches="convolutions"),
        replace(POOLED, fusion="sum"),
        replace(POOLED, stem="bands", stem_channels=(4, 8)),
        replace(POOLED, pooling="statistics"),
    ],
    ids=["frames of 10 ms", "frames of 40 ms", "convolutions", "sum", "bands", "statistics"],
)
@pytest.mark.parametrize("features", [SMOOTHED, WHOLE], ids=["13 of 24", "16 of 16"])
def test_a_folded_network_is_the_same_function(config, features):
    network = trained(config, features)
    x = segments(features)
    expected = scorer(network)(x)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(scorer(folded(network))(x), expected, atol=PARITY, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "statistics"])
def test_the_file_gives_the_same_logits_with_fewer_nodes(tmp_path, pooling):
    network = trained(replace(POOLED, pooling=pooling), SMOOTHED)
    x = segments(SMOOTHED)
    spec = model_spec()
    n_nodes = {}
    for name, form in (("plain", network), ("folded", folded(network))):
        expected = tuple(scorer(network)(spec.self_test_features())[0].tolist())
        object.__setattr__(spec, "self_test_logits", expected)
        write(form, spec, tmp_path / name)
        logits = OnnxModel(tmp_path / name).run(x)
        np.testing.assert_allclose(logits, scorer(network)(x), atol=PARITY, rtol=1e-5)
        n_nodes[name] = len(onnx.load(str(tmp_path / name)).graph.node)
    assert n_nodes["folded"] < 0.8 * n_nodes["plain"]


def test_what_stands_around_a_network_stays_around_it():
    network = OneVsRest(trained(SMALL, SMOOTHED)).eval()
    x = segments(SMOOTHED)
    np.testing.assert_allclose(
        scorer(folded(network))(x), scorer(network)(x), atol=PARITY, rtol=1e-5
    )


def test_half_precision_begins_behind_the_level():
    """Features reach hundreds of decibels, of which float16 would keep halves."""
    network = trained(POOLED, SMOOTHED)
    x = segments(SMOOTHED)
    half = in_half(network)
    assert {p.dtype for p in half.parameters()} == {torch.float16}
    logits, expected = scorer(half)(x), scorer(network)(x)
    assert logits.dtype == np.float32
    moved = np.abs(logits - expected).max()
    assert 0 < moved < 0.01 * np.abs(expected).max()
    louder = mfcc(300 * voice(32_000), SMOOTHED)[None]  # C0 in the hundreds
    np.testing.assert_allclose(scorer(half)(louder), logits[:1], atol=0.05)


def test_a_peer_is_left_as_it_is():
    peer = build(LightSernetConfig(), feature_spec(64, 64, 50, 7600), 5)
    assert folded(peer) is peer
    with pytest.raises(BadParameter, match="fp16 is made of GLRF"):
        in_half(peer)
