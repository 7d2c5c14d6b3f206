"""Area attention: Li, Kaiser, Bengio and Si, "Area attention", ICML 2019.

Queries attend not to items but to areas: all rectangles of neighbouring items up to a largest size.
An area's key is the mean of its items' keys and its value the sum of their values.
"""

import torch
from torch import Tensor, nn


def areas_of(height: int, width: int, max_side: int) -> Tensor:
    """Which items each area holds: 0 and 1, float32 `(height * width, n_areas)`.

    Items are counted row by row; sides are 1 to `max_side`, cut to the map's own.
    """
    areas = []
    for h in range(1, min(max_side, height) + 1):
        for w in range(1, min(max_side, width) + 1):
            for top in range(height - h + 1):
                for left in range(width - w + 1):
                    area = torch.zeros(height, width)
                    area[top : top + h, left : left + w] = 1
                    areas.append(area.flatten())
    return torch.stack(areas, dim=1)


class AreaAttention(nn.Module):
    """Self-attention of the items of a map to its areas: `(B, N, C)` to the same.

    Query, key and value are the items themselves. No area's key or value is ever made: the score of
    a mean is the mean of the scores, and a weight on a sum is that weight on each of its items.
    The numbers are those of materialised areas; the tensors are as many times smaller as a segment
    has more channels than areas have items.
    """

    def __init__(self, height: int, width: int, max_side: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.areas: Tensor
        self.means: Tensor
        areas = areas_of(height, width, max_side)
        self.register_buffer("areas", areas.T.contiguous(), persistent=False)
        self.register_buffer("means", areas / areas.sum(dim=0), persistent=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, items: Tensor) -> Tensor:
        scores = items @ items.transpose(1, 2) / items.shape[2] ** 0.5  # (B, N, N)
        weights = (scores @ self.means).softmax(dim=2)  # (B, N, areas)
        return self.dropout(weights) @ self.areas @ items  # (B, N, C)
