"""Head-k-pooling loss with negative sampling (paper, Section 2.2, equations 1 and 2).

Beside it the softmax cross-entropy that the paper's peers were published with.
"""

from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from model_export.mixup import Mixture

LossKind = Literal["head-k", "cross-entropy"]


def n_decision_makers(k: float, n_segments: int) -> int:
    """K = ceil(k % * N), exact for any decimal k. Raises `ValueError` for k outside [10, 100]."""
    if not 10 <= k <= 100:
        raise ValueError(f"k={k} must lie in [10, 100] percent")
    share = Fraction(str(k)) * n_segments / 100
    return -(-share.numerator // share.denominator)


def head_k_pooling_loss(
    logits: Tensor,
    n_segments: Tensor,
    labels: Tensor,
    *,
    neutral: int | None,
    k: float = 70.0,
    negative_sampling: bool = True,
    label_smoothing: float = 0.0,
    posteriors: Tensor | None = None,
    posterior_share: float = 0.0,
    mixture: Mixture | None = None,
) -> Tensor:
    """Mean over utterances of the head-k-pooling loss.

    `logits` is float `(sum of n_segments, C)`, the segments of each utterance in a row;
    `n_segments` int `(U,)`, each at least 1; `labels` int `(U,)`; `neutral` the index of the
    neutral class, or `None` where there is none.

    Equation 1: of an utterance labelled i the K = ceil(k % * N) segments with the largest
    sigmoid(z_i) are its decision-makers. Equation 2: they are trained with the utterance's label
    by the mean over K and C of binary cross-entropy. With `negative_sampling` the rest, the
    assistants, are negatives of every class that is neither the utterance's nor neutral: for a
    neutral utterance (case 1) of all other classes, for another (case 2) of those but neutral.
    Everywhere else their gradient is zero. The paper gives no weight for them; the same mean over
    segments and C is used, so that k = 100 is plain binary cross-entropy.

    `label_smoothing` e (not in the paper) moves the decision-makers' targets 1 and 0 to 1 - e and
    e / (C - 1); what assistants are negatives of keeps the target 0. `posteriors` `(U, C)`, also
    not in the paper, are a teacher's: `posterior_share` of the decision-makers' targets. Of a
    `mixture` (neither in the paper) decision-makers have both utterances' targets, and assistants
    are negatives of neither label.
    """
    n_utterances, n_classes = len(labels), logits.shape[1]
    n_longest = int(n_segments.max())
    position = torch.arange(n_longest, device=logits.device)
    exists = position < n_segments[:, None]  # (U, N)
    z = logits.new_zeros(n_utterances, n_longest, n_classes)
    z[exists] = logits  # (U, N, C)

    own = functional.one_hot(labels, n_classes).bool()  # (U, C)
    confidence = (z.detach() * own[:, None]).sum(dim=2).masked_fill(~exists, -torch.inf)
    order = confidence.argsort(dim=1, descending=True, stable=True)
    rank = order.argsort(dim=1)  # (U, N)
    n_heads = torch.tensor([n_decision_makers(k, int(n)) for n in n_segments], device=z.device)
    is_head = (rank < n_heads[:, None]) & exists
    is_assistant = ~is_head & exists

    off = label_smoothing / (n_classes - 1)
    target = own.to(z.dtype) * (1 - label_smoothing - off) + off  # (U, C)
    if posteriors is not None:
        target = target.lerp(posteriors, posterior_share)
    if mixture is not None:
        target = mixture.of_utterances(target)
    bce = functional.binary_cross_entropy_with_logits(
        z, target[:, None].expand_as(z), reduction="none"
    )
    loss = (bce * is_head[:, :, None]).sum(dim=(1, 2)) / (n_heads * n_classes)
    if negative_sampling:
        pool = ~own if mixture is None else ~own & ~own[mixture.partner]
        if neutral is not None:
            pool[:, neutral] = False
        negative = functional.softplus(z) * (is_assistant[:, :, None] & pool[:, None])
        n_assistants = is_assistant.sum(dim=1).clamp(min=1)
        loss = loss + negative.sum(dim=(1, 2)) / (n_assistants * n_classes)
    return loss.mean()


def segment_cross_entropy(
    logits: Tensor, n_segments: Tensor, labels: Tensor, *, label_smoothing: float = 0.0
) -> Tensor:
    """Mean over utterances of the softmax cross-entropy of all their segments.

    Shapes as in `head_k_pooling_loss`. Every segment is trained with its utterance's label; an
    utterance counts once, however long it is.
    """
    of_segment = labels.repeat_interleave(n_segments)
    share = 1 / n_segments.to(logits.dtype).repeat_interleave(n_segments)
    loss = functional.cross_entropy(
        logits, of_segment, reduction="none", label_smoothing=label_smoothing
    )
    return (loss * share).sum() / len(labels)


class OneVsRest(nn.Module):
    """A softmax network with one-vs-rest logits: the sigmoid of each is the softmax posterior.

    `z_i - log(sum of exp(z_j), j != i)` is the log odds of class i; so the pipeline, which takes a
    sigmoid of every logit, needs to know of one kind of network only.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        z = self.network(features)  # (B, n_labels)
        own = torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
        rest = z[:, None, :].masked_fill(own, -1e4)  # (B, i, j)
        return z - rest.logsumexp(dim=2)
