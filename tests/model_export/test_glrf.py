from dataclasses import replace

import numpy as np
import pytest
import torch

from model_export.glrf import (
    BandStem,
    Fusion,
    GlobalLocalBlock,
    Glrf,
    GlrfConfig,
    SelfAttention,
)
from model_export.mel import feature_spec
from ser_core.features import mfcc
from tests.synthetic import voice

FEATURES = feature_spec(24, 13, 50, 7600)
CONFIG = GlrfConfig(channels=8, n_blocks=3, n_heads=2, dropout=0)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Glrf(CONFIG, FEATURES, 5).eval()


def segments(gain=1.0):
    return torch.from_numpy(mfcc(gain * voice(32_000), FEATURES)[None])


def test_scores_each_segment_by_itself(network):
    x = torch.randn(3, 198, 13) * 20
    together = network(x)
    assert together.shape == (3, 5)
    for i in range(3):
        torch.testing.assert_close(network(x[i : i + 1]), together[i : i + 1], atol=1e-5, rtol=0)


def test_level_tells_nothing(network):
    """12 dB lie between the corpora; 40 dB change nothing."""
    torch.testing.assert_close(network(segments(0.01)), network(segments()), atol=1e-3, rtol=0)


def test_what_lies_far_below_the_level_tells_nothing(network):
    silent_tail = voice(32_000)
    silent_tail[16_000:] = 0
    faint_tail = silent_tail.copy()
    faint_tail[16_000:] += 1e-6 * np.random.default_rng(0).standard_normal(16_000).astype("f4")
    quiet, faint = (torch.from_numpy(mfcc(s, FEATURES)[None]) for s in (silent_tail, faint_tail))
    torch.testing.assert_close(network(faint), network(quiet), atol=2e-2, rtol=0)


@pytest.mark.parametrize("n_mels", [24, 40, 64])
def test_a_stem_over_bands_halves_them_and_keeps_time(n_mels):
    torch.manual_seed(0)
    features = feature_spec(n_mels, n_mels, 50, 7600)
    config = GlrfConfig(channels=8, n_heads=2, stem="bands", stem_channels=(2, 4), frame_pool=4)
    network = Glrf(config, features, 5).eval()
    shapes = []
    assert isinstance(network.stem, BandStem)
    network.stem.planes.register_forward_hook(lambda _, __, out: shapes.append(out.shape))
    logits = network(torch.from_numpy(mfcc(voice(32_000), features)[None]))
    assert logits.shape == (1, 5)
    assert shapes == [(1, 4, n_mels // 4, 49)]
    quieter = network(torch.from_numpy(mfcc(0.01 * voice(32_000), features)[None]))
    torch.testing.assert_close(quieter, logits, atol=1e-3, rtol=0)


def test_a_stem_over_bands_hears_a_shift_along_them():
    """What lies two bands higher gives the same pattern one row higher, away from the edges."""
    torch.manual_seed(0)
    stem = BandStem(GlrfConfig(channels=8, n_heads=2, stem_channels=(3,)), 24).eval()
    picture = torch.zeros(1, 24, 20)
    picture[:, 8:12] = torch.randn(4, 20)
    shifted = picture.roll(2, dims=1)
    planes, moved = stem.planes(picture[:, None]), stem.planes(shifted[:, None])
    torch.testing.assert_close(moved[:, :, 2:10], planes[:, :, 1:9])


def test_statistics_over_frames_are_their_mean_and_deviation():
    torch.manual_seed(0)
    config = replace(CONFIG, pooling="statistics")
    network = Glrf(config, FEATURES, 5).eval()
    last = []
    network.blocks[-1].register_forward_hook(lambda _, __, out: last.append(out))
    embedded = network.embed(segments())
    (frames,) = last
    torch.testing.assert_close(embedded[:, :8], frames.mean(dim=2))
    torch.testing.assert_close(embedded[:, 8:], frames.std(dim=2, correction=0), atol=4e-3, rtol=0)
    assert network.decide(embedded).shape == (1, 5)


def test_a_channel_that_stays_the_same_has_a_gradient():
    network = Glrf(replace(CONFIG, pooling="statistics"), FEATURES, 5).train()
    network.blocks = torch.nn.ModuleList(
        [torch.nn.Identity()]
    )  # others would tell the first frame from the others
    network.stem = torch.nn.Conv1d(13, 8, 1)
    network(torch.zeros(2, 198, 13)).sum().backward()
    assert network.stem.bias.grad.isfinite().all()


def test_what_the_stem_hears_may_be_mixed(network):
    x = torch.randn(2, 198, 13) * 20
    embedded = network.embed(x)
    torch.testing.assert_close(network.embed(x, lambda bands: bands.flip(0)), embedded.flip(0))


def test_max_pooling_halves_time_between_blocks(network):
    n_frames = []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, args: n_frames.append(args[0].shape[2]))
    network(segments())
    assert n_frames == [198, 99, 49]


def test_gates_weigh_the_branches_by_channel():
    """Gates sum to one across the branches, so two equal branches come out unchanged."""
    fusion = Fusion(8, 4)
    x, y = torch.randn(2, 8, 20), torch.randn(2, 8, 20)
    torch.testing.assert_close(fusion(x, x), x)
    with torch.no_grad():
        fusion.gates.weight.zero_()
        fusion.gates.bias[:8], fusion.gates.bias[8:] = 40.0, -40.0
    torch.testing.assert_close(fusion(x, y), x)


def test_gates_listen_to_both_branches():
    fusion = Fusion(8, 4)
    x = torch.randn(1, 8, 20)
    y = torch.randn(1, 8, 20, requires_grad=True)
    fusion(x, y).sum().backward()
    assert y.grad.abs().sum() > 0
    assert not torch.equal(fusion(x, y) - y, fusion(x, y + 1) - (y + 1))


def test_both_branches_are_residual():
    block = GlobalLocalBlock(CONFIG).eval()
    with torch.no_grad():
        for layer in (block.global_.get_submodule("out"), block.local.get_submodule("layers.4")):
            for weights in layer.parameters():
                weights.zero_()
    x = torch.randn(2, 8, 30)
    torch.testing.assert_close(block(x), x)


def test_the_global_branch_hears_all_frames_and_the_local_one_its_neighbours():
    block = GlobalLocalBlock(CONFIG).eval()

    def reach(branch):
        x = torch.randn(1, 8, 60, requires_grad=True)
        branch(x)[0, :, 30].sum().backward()
        return torch.nonzero(x.grad.abs().sum(dim=(0, 1))).flatten().tolist()

    assert reach(block.global_) == list(range(60))
    assert reach(block.local) == [28, 29, 30, 31, 32]


def test_attention_by_hand():
    """softmax(q k / sqrt(d)) v, head by head."""
    attention = SelfAttention(4, 2)
    x = torch.randn(1, 4, 6)
    q, k, v = attention.qkv(attention.norm(x.transpose(1, 2)))[0].split(4, dim=1)
    heads = []
    for part in (slice(0, 2), slice(2, 4)):
        weights = torch.softmax(q[:, part] @ k[:, part].T / 2**0.5, dim=1)
        heads.append(weights @ v[:, part])
    expected = x[0].T + attention.out(torch.cat(heads, dim=1))
    torch.testing.assert_close(attention(x)[0].T, expected)


@pytest.mark.parametrize("wrong", [{"n_heads": 3}, {"squeeze": 5}, {"kernel_size": 4}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        GlrfConfig(**({"channels": 8} | wrong))
