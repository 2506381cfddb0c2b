"""The shape decoder f_d(x | h): a FiLM-conditioned sine MLP that returns signed distances."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

_ROWS_PER_CHUNK = (
    2048  # a chunk's activations stay in a core's cache; larger ones cost more a point
)


class SignedDistance(NamedTuple):
    """Signed distances and their spatial gradients.

    sdf: (..., N) in metres, negative inside. gradient: (..., N, 3), unitless.
    """

    sdf: Tensor
    gradient: Tensor


class ShapeDecoder(nn.Module):
    """Maps object-frame points to signed distances, given a shape code (paper, appendix B).

    The code holds, for every layer, a scale and a shift of `hidden` values each:
    y_{i+1} = sin(scale_i * (W_i y_i + b_i) + shift_i), sdf = w^T y_L + b.
    """

    def __init__(self, hidden: int = 256, layers: int = 5) -> None:
        super().__init__()
        self.hidden = hidden
        widths = [3] + [hidden] * layers
        self.film_layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.final_layer = nn.Linear(hidden, 1)
        # Coordinates are metres (about 0.1), so the first layer has to raise the frequency.
        nn.init.uniform_(self.film_layers[0].weight, -10.0, 10.0)
        for layer in self.film_layers[1:]:
            bound = (6.0 / hidden) ** 0.5
            nn.init.uniform_(layer.weight, -bound, bound)

    @property
    def code_dim(self) -> int:
        """Length of a shape code: layers * 2 * hidden."""
        return len(self.film_layers) * 2 * self.hidden

    def film(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Splits codes (..., code_dim) into scales and shifts, each (..., layers, hidden)."""
        parts = codes.unflatten(-1, (len(self.film_layers), 2, self.hidden))
        return parts[..., 0, :], parts[..., 1, :]

    def forward(self, points: Tensor, codes: Tensor) -> Tensor:
        """Differentiable signed distances.

        Args:
            points: (..., N, 3) object frame, metres.
            codes: (..., code_dim); leading dimensions broadcast against those of `points`.

        Returns:
            (..., N) metres, negative inside.
        """
        scales, shifts = self.film(codes)
        y = points
        for i, layer in enumerate(self.film_layers):
            y = torch.sin(scales[..., i, None, :] * layer(y) + shifts[..., i, None, :])
        return self.final_layer(y).squeeze(-1)

    @torch.no_grad()
    def sdf(self, points: Tensor, codes: Tensor) -> Tensor:
        """`forward` without gradients: in place and in cache-sized chunks, several times faster."""
        weights, biases = self._folded_film(codes)
        pieces = [self._sdf_chunk(chunk, weights, biases) for chunk in self._chunks(points, codes)]
        return torch.cat(pieces, dim=-1)

    @torch.no_grad()
    def sdf_and_gradient(self, points: Tensor, codes: Tensor) -> SignedDistance:
        """Signed distances and their spatial gradient, by a hand-written backward pass.

        Args:
            points: (..., N, 3) object frame, metres.
            codes: (..., code_dim); leading dimensions broadcast against those of `points`.
        """
        weights, biases = self._folded_film(codes)
        pieces = [
            self._gradient_chunk(chunk, weights, biases) for chunk in self._chunks(points, codes)
        ]
        return SignedDistance(
            torch.cat([p.sdf for p in pieces], dim=-1),
            torch.cat([p.gradient for p in pieces], dim=-2),
        )

    def _folded_film(self, codes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Folds scale and shift into per-object weights (..., in, out) and biases (..., 1, out)."""
        scales, shifts = self.film(codes)
        weights, biases = [], []
        for i, layer in enumerate(self.film_layers):
            scale, shift = scales[..., i, :], shifts[..., i, :]
            weights.append(layer.weight.t() * scale[..., None, :])
            biases.append((layer.bias * scale + shift)[..., None, :])
        return weights, biases

    def _chunks(self, points: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
        batch = torch.broadcast_shapes(points.shape[:-2], codes.shape[:-1])
        if points.shape[-2] == 0:
            return (points,)
        if points.is_cuda:
            return (points,)
        rows = max(64, _ROWS_PER_CHUNK // max(1, batch.numel()))
        return points.split(rows, dim=-2)

    def _sdf_chunk(self, points: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
        y = points
        for weight, bias in zip(weights, biases, strict=True):
            y = torch.matmul(y, weight).add_(bias).sin_()
        return self.final_layer(y).squeeze(-1)

    def _gradient_chunk(
        self, points: Tensor, weights: list[Tensor], biases: list[Tensor]
    ) -> SignedDistance:
        y, slopes = points, []
        for weight, bias in zip(weights, biases, strict=True):
            y = torch.matmul(y, weight).add_(bias)
            slopes.append(torch.cos(y))
            y.sin_()
        sdf = self.final_layer(y).squeeze(-1)
        back = self.final_layer.weight.expand_as(y)
        for weight, slope in zip(reversed(weights), reversed(slopes), strict=True):
            back = torch.matmul(slope.mul_(back), weight.transpose(-1, -2))
        return SignedDistance(sdf, back)
