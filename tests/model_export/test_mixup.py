import pytest
import torch
from scipy.special import betainc

from model_export.mixup import Mixture, MixupConfig, draw

CPU = torch.device("cpu")


def test_segments_are_mixed_with_their_partners_and_a_shorter_one_begins_anew():
    n_segments = torch.tensor([3, 1, 2])
    x = torch.tensor([[10.0], [11.0], [12.0], [20.0], [30.0], [31.0]])
    mixture = Mixture(torch.tensor([2, 0, 1]), torch.tensor([0.5, 0.75, 1.0]))
    expected = [[20.0], [21.0], [21.0], [17.5], [30.0], [31.0]]
    torch.testing.assert_close(mixture.of_segments(x, n_segments), torch.tensor(expected))
    pictures = x[:, :, None].expand(6, 4, 5)
    mixed = mixture.of_segments(pictures, n_segments)
    torch.testing.assert_close(mixed[:, 3, 4], torch.tensor(expected)[:, 0])


def test_utterances_are_mixed_by_the_same_shares():
    mixture = Mixture(torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    torch.testing.assert_close(mixture.of_utterances(x), expected)


def test_its_own_share_is_at_least_a_half_and_often_nearly_all():
    torch.manual_seed(0)
    mixture = draw(MixupConfig(probability=1.0, alpha=0.4), 1000, CPU)
    assert mixture is not None
    assert sorted(mixture.partner.tolist()) == list(range(1000))
    assert 0.5 <= mixture.share.min() < 0.51
    expected = 2 * betainc(0.4, 0.4, 0.05)
    assert (mixture.share > 0.95).double().mean().item() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("probability", "n_expected"), [(0.3, 60), (1.0, 200)])
def test_a_batch_is_mixed_by_chance(probability, n_expected):
    torch.manual_seed(0)
    config = MixupConfig(probability=probability)
    n_mixed = sum(draw(config, 4, CPU) is not None for _ in range(200))
    assert abs(n_mixed - n_expected) < 20


def test_without_mixup_nothing_is_drawn():
    """So that older experiments draw as they did."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert draw(MixupConfig(), 4, CPU) is None
    assert torch.equal(torch.rand(3), expected)
