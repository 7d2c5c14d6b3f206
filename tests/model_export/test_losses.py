"""The head-k-pooling loss against a slow literal transcription and cases computed by hand."""

import math

import pytest
import torch
from torch.nn import functional

from model_export.losses import head_k_pooling_loss, n_decision_makers
from model_export.mixup import Mixture
from ser_core.labels import LABELS

NEUTRAL = LABELS.index("neutral")
HAPPY = LABELS.index("happy")


def literal(z, label, k, negative_sampling=True):
    """Equations 1 and 2 and the two cases of negative sampling, loop by loop, in Python floats."""
    n, c = len(z), len(z[0])
    n_heads = math.ceil(round(k * n / 100, 9))
    posterior = [1 / (1 + math.exp(-z[j][label])) for j in range(n)]
    ranked = sorted(range(n), key=lambda j: -posterior[j])
    heads, assistants = ranked[:n_heads], ranked[n_heads:]
    total = 0.0
    for j in heads:
        for i in range(c):
            y = 1 if i == label else 0
            total += y * math.log(1 + math.exp(-z[j][i])) + (1 - y) * math.log(
                1 + math.exp(z[j][i])
            )
    total /= n_heads * c
    if negative_sampling and assistants:
        negative = 0.0
        for j in assistants:
            for i in range(c):
                in_pool = i != NEUTRAL if label == NEUTRAL else i not in (label, NEUTRAL)
                if in_pool:
                    negative += math.log(1 + math.exp(z[j][i]))
        total += negative / (len(assistants) * c)
    return total


def batch(n_segments, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(sum(n_segments), len(LABELS), generator=generator, dtype=torch.float64)
    labels = torch.randint(len(LABELS), (len(n_segments),), generator=generator)
    return logits, torch.tensor(n_segments), labels


@pytest.mark.parametrize("k", [10, 30, 50, 70, 90, 100, 33.3])
@pytest.mark.parametrize("negative_sampling", [True, False])
def test_equals_the_literal_transcription(k, negative_sampling):
    logits, n_segments, labels = batch([1, 2, 3, 10, 7, 1, 29])
    loss = head_k_pooling_loss(
        logits, n_segments, labels, neutral=NEUTRAL, k=k, negative_sampling=negative_sampling
    )
    expected = [
        literal(z.tolist(), int(label), k, negative_sampling)
        for z, label in zip(logits.split(n_segments.tolist()), labels, strict=True)
    ]
    assert loss.item() == pytest.approx(sum(expected) / len(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("k", "n", "expected"),
    [
        (70, 1, 1),
        (70, 3, 3),
        (70, 10, 7),
        (70, 11, 8),
        (10, 10, 1),
        (10, 11, 2),
        (100, 4, 4),
        (29, 100, 29),
    ],
)
def test_k_is_the_ceiling_of_the_share(k, n, expected):
    assert n_decision_makers(k, n) == expected


@pytest.mark.parametrize("k", [0, 9.9, 100.1, -70])
def test_k_outside_the_paper_s_range_is_refused(k):
    with pytest.raises(ValueError, match=r"must lie in \[10, 100\]"):
        n_decision_makers(k, 5)


def test_k_100_is_plain_binary_cross_entropy():
    logits, n_segments, labels = batch([4, 4, 4])
    target = functional.one_hot(labels.repeat_interleave(4), len(LABELS)).double()
    plain = functional.binary_cross_entropy_with_logits(logits, target)
    loss = head_k_pooling_loss(logits, n_segments, labels, neutral=NEUTRAL, k=100)
    assert loss.item() == pytest.approx(plain.item(), rel=1e-12)


def gradient(label, negative_sampling=True):
    """Of four segments with k = 50: segments 1 and 3 are most certain of `label`."""
    logits = torch.zeros(4, len(LABELS), dtype=torch.float64)
    logits[:, label] = torch.tensor([-1.0, 2.0, 0.0, 1.0])
    logits.requires_grad_()
    loss = head_k_pooling_loss(
        logits,
        torch.tensor([4]),
        torch.tensor([label]),
        neutral=NEUTRAL,
        k=50,
        negative_sampling=negative_sampling,
    )
    loss.backward()
    return logits.grad


def test_assistants_of_an_emotion_are_negatives_of_the_other_emotions_only():
    grad = gradient(HAPPY)
    for assistant in (0, 2):
        assert grad[assistant, HAPPY] == 0
        assert grad[assistant, NEUTRAL] == 0
        for other in set(range(5)) - {HAPPY, NEUTRAL}:
            assert grad[assistant, other] == pytest.approx(0.5 / (2 * 5))  # sigmoid(0) / (2 C)
    for head in (1, 3):
        assert grad[head, HAPPY] < 0
        assert all(grad[head, other] > 0 for other in range(5) if other != HAPPY)


def test_assistants_of_neutral_are_negatives_of_every_other_class():
    grad = gradient(NEUTRAL)
    for assistant in (0, 2):
        assert grad[assistant, NEUTRAL] == 0
        assert all(grad[assistant, other] > 0 for other in range(5) if other != NEUTRAL)


def test_without_negative_sampling_assistants_have_no_gradient():
    grad = gradient(HAPPY, negative_sampling=False)
    assert not grad[[0, 2]].any()
    assert grad[[1, 3]].all()


def test_one_segment_by_hand():
    z = torch.tensor([[0.0, math.log(3), 0.0, 0.0, 0.0]])
    loss = head_k_pooling_loss(z, torch.tensor([1]), torch.tensor([HAPPY]), neutral=NEUTRAL, k=70)
    assert loss.item() == pytest.approx((math.log(4 / 3) + 4 * math.log(2)) / 5, rel=1e-6)


def test_an_utterance_s_loss_does_not_depend_on_its_batch():
    logits, n_segments, labels = batch([5, 2])
    one, other = logits.split([5, 2])
    together = head_k_pooling_loss(logits, n_segments, labels, neutral=NEUTRAL)
    apart = [
        head_k_pooling_loss(part, torch.tensor([len(part)]), label[None], neutral=NEUTRAL)
        for part, label in zip((one, other), labels, strict=True)
    ]
    assert together.item() == pytest.approx(sum(loss.item() for loss in apart) / 2, rel=1e-12)


def test_without_a_neutral_class_assistants_are_negatives_of_all_others():
    logits = torch.zeros(2, 3, requires_grad=True)
    head_k_pooling_loss(logits, torch.tensor([2]), torch.tensor([0]), neutral=None, k=50).backward()
    assert logits.grad[1].tolist() == pytest.approx([0, 0.5 / 3, 0.5 / 3])


def test_label_smoothing_moves_the_decision_makers_targets_only():
    logits = torch.tensor([[0.0, 3.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    smoothed = head_k_pooling_loss(
        logits, torch.tensor([2]), torch.tensor([HAPPY]), neutral=NEUTRAL, k=50, label_smoothing=0.2
    )
    target = torch.tensor([0.05, 0.8, 0.05, 0.05, 0.05])
    head = functional.binary_cross_entropy_with_logits(logits[0], target)
    assistant = 3 * math.log(1 + math.e) / 5  # angry, sad, fear
    assert smoothed.item() == pytest.approx(head.item() + assistant, rel=1e-6)


class TestOfAMixture:
    def loss(self, logits, n_segments, labels, share, **options):
        n_utterances = len(labels)
        mixture = Mixture(
            torch.arange(n_utterances).roll(1),
            torch.full((n_utterances,), share, dtype=torch.float64),
        )
        return head_k_pooling_loss(
            logits, n_segments, labels, neutral=NEUTRAL, mixture=mixture, **options
        )

    def test_with_a_share_of_one_decision_makers_are_as_without(self):
        of = batch([4, 2, 3])
        options = {"negative_sampling": False, "label_smoothing": 0.1}
        expected = head_k_pooling_loss(*of, neutral=NEUTRAL, **options)
        torch.testing.assert_close(self.loss(*of, 1.0, **options), expected)

    def test_decision_makers_have_both_targets_by_their_shares(self):
        logits, n_segments, _ = batch([2, 2])
        labels = torch.tensor([HAPPY, NEUTRAL])
        target = torch.zeros(2, len(LABELS), dtype=torch.float64)
        target[0, HAPPY] = target[1, NEUTRAL] = 0.7
        target[0, NEUTRAL] = target[1, HAPPY] = 0.3
        expected = functional.binary_cross_entropy_with_logits(
            logits, target.repeat_interleave(2, dim=0)
        )
        torch.testing.assert_close(self.loss(logits, n_segments, labels, 0.7, k=100), expected)

    def test_a_teacher_s_posteriors_are_mixed_too(self):
        of = batch([1, 1])
        posteriors = torch.eye(len(LABELS), dtype=torch.float64)[:2]
        taught = {"posteriors": posteriors, "posterior_share": 1.0}
        expected = functional.binary_cross_entropy_with_logits(
            of[0], 0.6 * posteriors + 0.4 * posteriors.roll(1, 0)
        )
        torch.testing.assert_close(self.loss(*of, 0.6, **taught), expected)

    def test_assistants_are_negatives_of_neither_label(self):
        logits, n_segments, _ = batch([10, 10])
        labels = torch.tensor([HAPPY, LABELS.index("sad")])
        logits.requires_grad_()
        self.loss(logits, n_segments, labels, 0.6, k=10).backward()
        assistants = logits.grad.abs().view(2, 10, -1).topk(10, dim=1).values[:, 1:]
        negatives = {LABELS[i] for i in range(len(LABELS)) if (assistants[:, :, i] > 0).all()}
        assert negatives == {"angry", "fear"}
