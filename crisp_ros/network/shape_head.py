"""The shape head f_e(I): from pooled backbone features to a shape code."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn


class ShapeHead(nn.Module):
    """A feed-forward network; every hidden layer is linear, LayerNorm, ReLU (paper, appendix B)."""

    def __init__(self, in_features: int, hidden: Sequence[int], code_dim: int) -> None:
        super().__init__()
        widths = [in_features, *hidden]
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.LayerNorm(b), nn.ReLU()]
        layers.append(nn.Linear(widths[-1], code_dim))
        self.layers = nn.Sequential(*layers)

    def forward(self, pooled: Tensor) -> Tensor:
        """Shape codes (B, code_dim) of pooled features (B, in_features)."""
        return self.layers(pooled)
