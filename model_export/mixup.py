"""Mixup (Zhang et al., 2018): an utterance is heard together with another, and told both labels.

U is the number of utterances of a batch, S of their segments in a row.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor
from torch.distributions import Beta


@config_dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class MixupConfig:
    """`probability` of a batch; each utterance's share is drawn from Beta(`alpha`, `alpha`)."""

    probability: Annotated[float, Field(ge=0, le=1)] = 0.0
    alpha: Annotated[float, Field(gt=0)] = 0.4


@dataclass(frozen=True)
class Mixture:
    """Of each utterance `share` `(U,)`, at least a half, and of `partner` `(U,)` the rest."""

    partner: Tensor
    share: Tensor

    def of_utterances(self, x: Tensor) -> Tensor:
        """What there is of each utterance, `(U, ...)`, mixed."""
        return _mixed(x, self.partner, self.share)

    def of_segments(self, x: Tensor, n_segments: Tensor) -> Tensor:
        """What there is of each segment, `(S, ...)`, mixed; a shorter partner begins anew."""
        utterance = torch.arange(len(n_segments), device=x.device).repeat_interleave(n_segments)
        first = n_segments.cumsum(0) - n_segments
        position = torch.arange(len(x), device=x.device) - first[utterance]
        partner = self.partner[utterance]
        segment = first[partner] + position % n_segments[partner]
        return _mixed(x, segment, self.share[utterance])


def draw(config: MixupConfig, n_utterances: int, device: torch.device) -> Mixture | None:
    """A batch's mixture, or `None`, by torch's global generator; of no chance nothing is drawn."""
    if not config.probability or torch.rand(()) >= config.probability:
        return None
    share = Beta(config.alpha, config.alpha).sample((n_utterances,))
    return Mixture(
        torch.randperm(n_utterances).to(device), torch.maximum(share, 1 - share).to(device)
    )


def _mixed(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(x[other], x, share.view(-1, *[1] * (x.dim() - 1)))
