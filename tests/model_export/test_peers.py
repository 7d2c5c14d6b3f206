import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from model_export.corpora import read_manifest
from model_export.experiment import read_experiment
from model_export.fitting import Task, fit
from model_export.mel import feature_spec
from model_export.peers.aa_cnn import AaCnn, AaCnnConfig
from model_export.peers.area_attention import AreaAttention, areas_of
from model_export.peers.deep_cnn import DeepCnn, DeepCnnConfig, MeanFeatures
from model_export.peers.drn_mhsa import (
    DrnMhsa,
    DrnMhsaConfig,
    MultiHeadSelfAttention,
    ResidualBlock,
)
from model_export.peers.glam import GatedMlp, Glam, GlamConfig, MultiScale
from model_export.peers.light_sernet import LightSernet, LightSernetConfig
from model_export.peers.spectrogram import Cepstrogram, Spectrogram, delta
from ser_core.features import mfcc
from tests.model_export.corpus import write_corpus
from tests.synthetic import voice

FEATURES = feature_spec(64, 64, 50, 7600)
NETWORKS = {
    "deep-cnn": (DeepCnn, DeepCnnConfig()),
    "light-sernet": (LightSernet, LightSernetConfig()),
    "glam": (Glam, GlamConfig()),
    "drn-mhsa": (DrnMhsa, DrnMhsaConfig()),
    "aa-cnn": (AaCnn, AaCnnConfig()),
}


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    kind, config = NETWORKS[request.param]
    return kind(config, FEATURES, 4).eval()


def segments(gain=1.0):
    return torch.from_numpy(mfcc(gain * voice(32_000), FEATURES)[None])


def shapes_into(network, kind):
    """Shapes of what every module of a kind is given, in the order of the forward pass."""
    shapes = []
    for module in network.modules():
        if isinstance(module, kind):
            module.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    network(segments())
    return shapes


# All


def test_scores_each_segment_by_itself(network):
    x = torch.randn(3, 198, 64) * 20
    together = network(x)
    assert together.shape == (3, 4)
    for i in range(3):
        torch.testing.assert_close(network(x[i : i + 1]), together[i : i + 1], atol=1e-4, rtol=0)


def test_level_tells_nothing(network):
    torch.testing.assert_close(network(segments(0.01)), network(segments()), atol=1e-3, rtol=0)


def test_all_of_it_is_trained(network):
    network.train()
    x = torch.randn(4, 198, 64) * 20
    functional.cross_entropy(network(x), torch.tensor([0, 1, 2, 3])).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # A bias just before batch normalisation has no effect, and so no gradient.
        if parameter.dim() > 1:
            assert parameter.grad.abs().sum() > 0, name


# Input


def test_a_cepstrogram_is_the_first_mfcc_without_level():
    picture = Cepstrogram(FEATURES, 26, frame_pool=3).eval()
    noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    x = torch.from_numpy(mfcc(noise, FEATURES))
    seen = picture(x[None])[0]
    assert seen.shape == (picture.n_rows, picture.n_frames) == (26, 66)
    expected = x.view(66, 3, 64).mean(dim=1).T[1:26]  # all but the first, which is the level
    torch.testing.assert_close(seen[1:], expected, atol=2e-3, rtol=1e-3)


def test_a_spectrogram_is_standardised_band_by_band():
    picture = Spectrogram(FEATURES, 3, deltas=True).train()
    seen = picture(torch.randn(8, 198, 64) * 20)
    assert seen.shape == (8, picture.n_rows, picture.n_frames) == (8, 192, 66)
    torch.testing.assert_close(seen.mean(dim=(0, 2)), torch.zeros(192), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        seen.std(dim=(0, 2), correction=0), torch.ones(192), atol=1e-2, rtol=0
    )


def test_delta_is_the_slope():
    ramp = torch.arange(20.0).view(1, 1, 20) * 3
    slope = delta(ramp)
    torch.testing.assert_close(slope[..., 2:-2], torch.full((1, 1, 16), 3.0))
    assert slope.shape == ramp.shape
    torch.testing.assert_close(delta(torch.ones(1, 2, 9)), torch.zeros(1, 2, 9))


# Deep-CNN


def test_deep_cnn_hears_means_over_time():
    """40 MFCC and 64 bands' power, whose mean is one once the level is off."""
    means = MeanFeatures(FEATURES, 40).eval()
    noise = np.random.default_rng(0).standard_normal(32_000).astype(np.float32)
    x = mfcc(noise, FEATURES)
    heard = means(torch.from_numpy(x)[None])[0]
    assert heard.shape == (104,)
    assert heard[1:40].numpy() == pytest.approx(x.mean(axis=0)[1:40], abs=2e-3)
    assert float(heard[40:].mean()) == pytest.approx(1, abs=1e-3)


def test_deep_cnn_has_the_published_layers():
    network = DeepCnn(DeepCnnConfig(), FEATURES, 8).eval()
    assert shapes_into(network, nn.Conv1d) == [
        (1, 1, 104),
        (1, 256, 104),
        (1, 128, 13),
        (1, 128, 13),
        (1, 128, 13),
        (1, 128, 13),
    ]
    assert {m.kernel_size for m in network.modules() if isinstance(m, nn.Conv1d)} == {(5,)}


def test_deep_cnn_learns_from_a_batch_of_one_segment(tmp_path):
    """Nine recordings of a segment each, in batches of eight."""
    labels = ("angry", "neutral", "sad")
    recordings = read_manifest(write_corpus(tmp_path, labels), tmp_path, labels)
    short = [recording for recording in recordings if recording.duration_s < 2][:9]
    config = tmp_path / "deep.toml"
    config.write_text(
        'name = "deep"\nlabels = ["angry", "neutral", "sad"]\n'
        "[features]\nn_mels = 24\nn_mfcc = 13\n"
        '[network]\nkind = "deep-cnn"\nn_mfcc = 13\nfirst_channels = 8\nchannels = 8\n'
        '[loss]\nkind = "cross-entropy"\n[training]\nepochs = 2\nbatch_size = 8\n'
    )
    experiment, _ = read_experiment(config)
    network = fit(Task(experiment, 1, short), tmp_path / "run")
    assert all(weights.isfinite().all() for weights in network.state_dict().values())
    steps = torch.load(tmp_path / "run/last.pt", weights_only=True)["average"]["n_updates"]
    assert steps == 4


# Light-SERNet


def test_light_sernet_has_the_published_layers():
    """Halves the map twice and then time alone; odd maps keep their last row."""
    network = LightSernet(LightSernetConfig(frame_pool=2), FEATURES, 4).eval()
    assert shapes_into(network, nn.Conv2d) == [
        *[(1, 1, 40, 99)] * 3,
        (1, 96, 20, 50),
        (1, 64, 10, 25),
        (1, 96, 5, 13),
        (1, 128, 5, 7),
        (1, 160, 5, 4),
    ]


def test_light_sernet_has_the_published_size():
    """Weights of the body have no bias, those of the paths have."""
    network = LightSernet(LightSernetConfig(frame_pool=2), FEATURES, 4)
    paths = 32 * (11 + 9 + 9) + 3 * 32 + 3 * 64
    body = 9 * (96 * 64 + 64 * 96 + 96 * 128 + 128 * 160) + 160 * 320 + 2 * (64 + 96 + 128 + 160)
    assert sum(p.numel() for p in network.parameters()) == paths + body + 640 + 320 * 4 + 4


def test_an_average_at_the_edge_is_of_what_is_there():
    modules = LightSernet(LightSernetConfig(frame_pool=2), FEATURES, 4).modules()
    pool = next(module for module in modules if isinstance(module, nn.AvgPool2d))
    torch.testing.assert_close(pool(torch.ones(1, 1, 5, 3)), torch.ones(1, 1, 3, 2))


# GLAM


def test_glam_has_the_published_layers():
    network = Glam(GlamConfig(frame_pool=3), FEATURES, 4).eval()
    assert shapes_into(network, MultiScale) == [(1, 16, 52, 66), (1, 32, 26, 33), (1, 64, 13, 16)]
    assert shapes_into(network, GatedMlp) == [(1, 128, 13 * 16)]


def test_multi_scale_by_hand():
    block = MultiScale(2).eval()
    x = torch.randn(1, 2, 6, 7)
    fine = functional.conv2d(x, block.fine.weight, block.fine.bias, padding=1) + x
    coarse = functional.conv2d(x, block.coarse.weight, block.coarse.bias, padding=2) + x
    expected = torch.cat([fine, coarse], dim=1).relu() / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x), expected)


def test_gated_mlp_by_hand():
    """Tokens are mixed in the gate alone, which starts as tanh(1) everywhere."""
    mlp = GatedMlp(6, 4, 4)
    x = torch.randn(2, 4, 6)
    kept = functional.gelu(mlp.widen(mlp.norm(x)))[..., :12]
    at_start = x + mlp.narrow(kept * float(np.tanh(1)))
    torch.testing.assert_close(mlp(x), at_start, atol=1e-2, rtol=0)
    nn.init.normal_(mlp.mix.weight)
    gate = functional.layer_norm(functional.gelu(mlp.widen(mlp.norm(x)))[..., 12:], (12,))
    mixed = torch.einsum("ij,bjd->bid", mlp.mix.weight[..., 0], gate) + 1
    torch.testing.assert_close(mlp(x), x + mlp.narrow(kept * mixed.tanh()))


# DRN-MHSA


def test_dilation_keeps_the_resolution():
    """Halved twice, then dilated: the attention hears a sequence of 49 frames of 40 ms."""
    network = DrnMhsa(DrnMhsaConfig(), FEATURES, 4).eval()
    assert shapes_into(network, ResidualBlock) == [
        *[(1, 64, 99)] * 2,
        *[(1, 128, 49)] * 2,
        *[(1, 256, 49)] * 2,
        *[(1, 512, 49)] * 2,
    ]
    assert shapes_into(network, MultiHeadSelfAttention) == [(1, 49, 512)]


def test_a_dilated_block_reaches_in_steps():
    block = ResidualBlock(4, 3, dilation=4).eval()
    x = torch.randn(1, 4, 40, requires_grad=True)
    block.layers(x)[0, :, 20].sum().backward()
    reached = torch.nonzero(x.grad.abs().sum(dim=(0, 1))).flatten().tolist()
    assert set(reached) <= {12, 16, 20, 24, 28}
    assert {12, 28} <= set(reached)


def test_multi_head_attention_by_hand():
    attention = MultiHeadSelfAttention(4, 2, 0.0)
    x = torch.randn(1, 6, 4)
    q, k, v = attention.qkv(x)[0].split(4, dim=1)
    heads = []
    for part in (slice(0, 2), slice(2, 4)):
        weights = torch.softmax(q[:, part] @ k[:, part].T / 2**0.5, dim=1)
        heads.append(weights @ v[:, part])
    expected = functional.layer_norm(x[0] + attention.out(torch.cat(heads, dim=1)), (4,))
    torch.testing.assert_close(attention(x)[0], expected)


def test_heads_divide_the_channels():
    with pytest.raises(ValueError, match="n_heads must divide"):
        DrnMhsaConfig(n_heads=7)


# AA-CNN


def test_areas_are_all_rectangles():
    areas = areas_of(2, 2, 2)
    assert areas.shape == (4, 9)  # four items, two rows, two columns, all
    assert sorted(areas.sum(dim=0).tolist()) == [1, 1, 1, 1, 2, 2, 2, 2, 4]
    assert areas_of(1, 5, 3).shape == (5, 5 + 4 + 3)
    assert areas_of(4, 5, 3).shape == (20, (4 + 3 + 2) * (5 + 4 + 3))


def test_area_attention_is_that_of_materialised_areas():
    """The mean of an area's items is its key, their sum its value."""
    attention = AreaAttention(3, 4, 2).eval()
    x = torch.randn(1, 12, 5)
    grid = x.view(3, 4, 5)
    keys, values = [], []
    for h, w in ((1, 1), (1, 2), (2, 1), (2, 2)):
        for top in range(3 - h + 1):
            for left in range(4 - w + 1):
                area = grid[top : top + h, left : left + w].reshape(-1, 5)
                keys.append(area.mean(dim=0))
                values.append(area.sum(dim=0))
    weights = torch.softmax(x[0] @ torch.stack(keys).T / 5**0.5, dim=1)
    torch.testing.assert_close(attention(x)[0], weights @ torch.stack(values))


def test_dropout_is_of_areas_and_in_training_only():
    attention = AreaAttention(2, 2, 2, dropout=1.0)
    x = torch.randn(1, 4, 3)
    assert attention.train()(x).abs().sum() == 0
    assert attention.eval()(x).abs().sum() > 0


@pytest.mark.parametrize(("memory", "n_memories"), [("rows", 2 * 32), ("map", 2)])
def test_a_row_of_bands_is_a_memory(memory, n_memories):
    network = AaCnn(AaCnnConfig(frame_pool=3, memory=memory, max_area=1), FEATURES, 4).eval()
    shapes = []
    network.attend.register_forward_pre_hook(lambda _, args: shapes.append(tuple(args[0].shape)))
    network(torch.randn(2, 198, 64))
    assert shapes == [(n_memories, 2 * 32 * 16 // n_memories, 80)]


def test_aa_cnn_has_the_published_layers():
    """The first two maps stand one above the other; kernels of even length pad the end."""
    network = AaCnn(AaCnnConfig(frame_pool=3), FEATURES, 4).eval()
    assert shapes_into(network, nn.Conv2d) == [
        (1, 1, 65, 67),
        (1, 1, 65, 67),
        (1, 16, 128, 66),
        (1, 32, 64, 33),
        (1, 48, 32, 16),
        (1, 64, 32, 16),
    ]
