"""The shape decoder f_d(x | h): a FiLM-conditioned sine MLP that predicts signed distances."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crisp_ros.network.cpu_threads import multithreaded

_ROWS_PER_CHUNK = 1024  # the activations of a chunk fit into a core's cache
_MIN_ROWS = 16  # per object and chunk


class SignedDistance(NamedTuple):
    """Signed distances and their spatial gradients.

    Attributes:
        sdf: (..., N) metres, negative inside.
        gradient: (..., N, 3), unitless.
    """

    sdf: Tensor
    gradient: Tensor


class Jacobians(NamedTuple):
    """Signed distances and their derivatives, point by point.

    Attributes:
        sdf: (..., N) metres, negative inside.
        gradient: (..., N, 3) in space, unitless.
        code: (..., N, code_dim) in the code, metres.
    """

    sdf: Tensor
    gradient: Tensor
    code: Tensor


class CodeGradient(NamedTuple):
    """Signed distances and the gradient of a loss with respect to the codes.

    Attributes:
        sdf: (B, N) metres, negative inside.
        gradient: (B, code_dim), in the units of the loss.
    """

    sdf: Tensor
    gradient: Tensor


class _Output(NamedTuple):
    """Modulation of the last layer and the unit: sdf = size * (factor * (w^T y + b) + offset).

    Attributes:
        factor: (..., 1), or None where the last layer is not modulated.
        offset: (..., 1), likewise.
        size: (..., 1) metres per unit, or None where shapes are metric.
    """

    factor: Tensor | None
    offset: Tensor | None
    size: Tensor | None

    def inputs(self, points: Tensor) -> Tensor:
        """The coordinates (..., N, 3) that the first layer takes of points in metres."""
        return points if self.size is None else points / self.size[..., None]

    def sdf(self, last: Tensor) -> Tensor:
        """Signed distances (..., N), metres, of the last layer's values (..., N)."""
        if self.factor is not None:
            last = torch.addcmul(self.offset, last, self.factor)
        return last if self.size is None else last * self.size


class ShapeDecoder(nn.Module):
    """Map object-frame points to signed distances, given a shape code (paper, appendix B).

    The code contains a scale and a shift of `hidden` values each for every layer:
    y_{i+1} = sin(scale_i * (W_i y_i + b_i) + shift_i), sdf = w^T y_L + b.

    Args:
        hidden: width of the layers.
        layers: number of sine layers.
        modulated_output: a scale and a shift of w^T y_L + b follow in the code.
        normalised: shapes have a unit of their own. The last value of a code is the size s of that
            unit in metres: sdf(x) = s f(x / s).
    """

    def __init__(
        self,
        hidden: int = 256,
        layers: int = 5,
        modulated_output: bool = False,
        normalised: bool = False,
    ) -> None:
        super().__init__()
        self.hidden, self.modulated_output, self.normalised = hidden, modulated_output, normalised
        widths = [3] + [hidden] * layers
        self.film_layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.final_layer = nn.Linear(hidden, 1)
        # Coordinates are about 0.1 m, so the first layer must raise the frequency.
        nn.init.uniform_(self.film_layers[0].weight, -10.0, 10.0)
        for layer in self.film_layers[1:]:
            bound = (6.0 / hidden) ** 0.5
            nn.init.uniform_(layer.weight, -bound, bound)

    @property
    def code_dim(self) -> int:
        """Length of a shape code, layers * 2 * hidden unless the last layer takes part of it."""
        return self._film_dim + 2 * self.modulated_output + self.normalised

    @property
    def predicted_dim(self) -> int:
        """Length of what a shape head predicts: a code without the size of its unit."""
        return self.code_dim - self.normalised

    @property
    def _film_dim(self) -> int:
        return len(self.film_layers) * 2 * self.hidden

    def film(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Split codes (..., code_dim) into scales and shifts, each (..., layers, hidden)."""
        parts = codes[..., : self._film_dim].unflatten(-1, (-1, 2, self.hidden))
        return parts[..., 0, :], parts[..., 1, :]

    def _output(self, codes: Tensor) -> _Output:
        factor = offset = size = None
        if self.modulated_output:
            start = self._film_dim
            factor, offset = codes[..., start : start + 1], codes[..., start + 1 : start + 2]
        if self.normalised:
            size = codes[..., -1:]
        return _Output(factor, offset, size)

    def forward(self, points: Tensor, codes: Tensor) -> Tensor:
        """Compute signed distances, differentiable in points and codes.

        Args:
            points: (..., N, 3) object frame, metres.
            codes: (..., code_dim); leading dimensions broadcast against those of `points`.

        Returns:
            (..., N) metres, negative inside.
        """
        scales, shifts = self.film(codes)
        output = self._output(codes)
        y = output.inputs(points)
        for i, layer in enumerate(self.film_layers):
            y = torch.sin(scales[..., i, None, :] * layer(y) + shifts[..., i, None, :])
        return output.sdf(self.final_layer(y).squeeze(-1))

    @multithreaded()
    @torch.no_grad()
    def sdf(self, points: Tensor, codes: Tensor) -> Tensor:
        """Compute `forward` without gradients: in place, in chunks that fit the cache."""
        film, output = self._film_terms(codes), self._output(codes)
        pieces = [self._sdf_chunk(chunk, film, output) for chunk in self._chunks(points, codes)]
        return torch.cat(pieces, dim=-1)

    @multithreaded()
    @torch.no_grad()
    def sdf_and_gradient(self, points: Tensor, codes: Tensor) -> SignedDistance:
        """Compute signed distances and their spatial gradient with an explicit backward pass.

        Args:
            points: (..., N, 3) object frame, metres.
            codes: (..., code_dim); leading dimensions broadcast against those of `points`.
        """
        film, output = self._film_terms(codes), self._output(codes)
        chunks = self._chunks(points, codes)
        pieces = [self._gradient_chunk(chunk, film, output) for chunk in chunks]
        return SignedDistance(
            torch.cat([p.sdf for p in pieces], dim=-1),
            torch.cat([p.gradient for p in pieces], dim=-2),
        )

    @multithreaded()
    @torch.no_grad()
    def jacobians(self, points: Tensor, codes: Tensor) -> Jacobians:
        """Compute signed distances and their derivatives in space and in the code.

        Holds code_dim values a point: for some hundred points, not for a grid.

        Args:
            points: (..., N, 3) object frame, metres.
            codes: (..., code_dim); leading dimensions broadcast against those of `points`.

        Raises:
            ValueError: a decoder with a modulated output or normalised shapes.
        """
        if self.modulated_output or self.normalised:
            raise ValueError("a decoder with a modulated output or normalised shapes")
        scales, shifts = (part.unsqueeze(-2).unbind(-3) for part in self.film(codes))
        y, products, slopes = points, [], []
        for layer, scale, shift in zip(self.film_layers, scales, shifts, strict=True):
            products.append(layer(y))
            y = torch.addcmul(shift, products[-1], scale)
            slopes.append(torch.cos(y))
            y = y.sin()
        sdf = self.final_layer(y).squeeze(-1)
        back, parts = self.final_layer.weight, []
        for i in reversed(range(len(slopes))):
            back = slopes[i] * back
            parts.append(torch.stack((products[i] * back, back), dim=-2))
            back = torch.matmul(back * scales[i], self.film_layers[i].weight)
        return Jacobians(sdf, back, torch.stack(parts[::-1], dim=-3).flatten(-3))

    @multithreaded()
    @torch.no_grad()
    def sdf_and_code_gradient(
        self, points: Tensor, codes: Tensor, slope: Callable[[Tensor], Tensor]
    ) -> CodeGradient:
        """Compute signed distances and the gradient of a loss with respect to the codes.

        Args:
            points: (B, N, 3) object frame, metres.
            codes: (B, code_dim).
            slope: derivative of the loss: maps distances (B, N) to dL/dsdf (B, N).
        """
        scales, shifts = (part.unsqueeze(-2).unbind(-3) for part in self.film(codes))
        output = self._output(codes)
        y, products, slopes = output.inputs(points), [], []
        for layer, scale, shift in zip(self.film_layers, scales, shifts, strict=True):
            products.append(layer(y))
            y = torch.addcmul(shift, products[-1], scale)
            slopes.append(torch.cos(y))
            y.sin_()
        last = self.final_layer(y).squeeze(-1)
        sdf = output.sdf(last)
        in_sdf = slope(sdf)
        in_last = in_sdf if output.size is None else in_sdf * output.size
        tail = []
        if output.factor is not None:
            tail = [(in_last * last).sum(-1, keepdim=True), in_last.sum(-1, keepdim=True)]
            in_last = in_last * output.factor
        back = in_last[..., None] * self.final_layer.weight
        parts = []
        for i in reversed(range(len(slopes))):
            back = slopes[i].mul_(back)
            parts.append(torch.stack((products[i].mul_(back).sum(-2), back.sum(-2)), dim=-2))
            if i > 0 or output.size is not None:
                back = torch.matmul(back.mul_(scales[i]), self.film_layers[i].weight)
        if output.size is not None:
            # Of s f(x / s) in s: f - x . grad f / s; `back` has dL/d(x / s).
            in_size = in_sdf * sdf - (back * points).sum(-1) / output.size
            tail.append((in_size / output.size).sum(-1, keepdim=True))
        return CodeGradient(
            sdf, torch.cat([torch.stack(parts[::-1], dim=-3).flatten(-3), *tail], dim=-1)
        )

    def _film_terms(self, codes: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the factor and the offset of the product W y of each layer, (..., 1, hidden).

        The weights are shared by all objects, so a layer is one matrix product for any number of
        objects: folding the FiLM terms into weights per object costs more than it saves.
        """
        scales, shifts = (part.unsqueeze(-2).unbind(-3) for part in self.film(codes))
        return [
            (scale, torch.addcmul(shift, layer.bias, scale))
            for layer, scale, shift in zip(self.film_layers, scales, shifts, strict=True)
        ]

    def _chunks(self, points: Tensor, codes: Tensor) -> tuple[Tensor, ...]:
        batch = torch.broadcast_shapes(points.shape[:-2], codes.shape[:-1])
        if points.shape[-2] == 0 or points.is_cuda:
            return (points,)
        rows = max(_MIN_ROWS, _ROWS_PER_CHUNK // max(1, batch.numel()))
        return points.split(rows, dim=-2)

    def _sdf_chunk(
        self, points: Tensor, film: list[tuple[Tensor, Tensor]], output: _Output
    ) -> Tensor:
        y = output.inputs(points)
        for layer, (scale, shift) in zip(self.film_layers, film, strict=True):
            y = torch.addcmul(shift, torch.matmul(y, layer.weight.t()), scale).sin_()
        return output.sdf(self.final_layer(y).squeeze(-1))

    def _gradient_chunk(
        self, points: Tensor, film: list[tuple[Tensor, Tensor]], output: _Output
    ) -> SignedDistance:
        y, slopes = output.inputs(points), []
        for layer, (scale, shift) in zip(self.film_layers, film, strict=True):
            y = torch.addcmul(shift, torch.matmul(y, layer.weight.t()), scale)
            slopes.append(torch.cos(y).mul_(scale))
            y.sin_()
        sdf = output.sdf(self.final_layer(y).squeeze(-1))
        back = self.final_layer.weight
        for layer, slope in zip(reversed(self.film_layers), reversed(slopes), strict=True):
            back = torch.matmul(slope.mul_(back), layer.weight)
        if output.factor is not None:
            back = back * output.factor[..., None]
        return SignedDistance(sdf, back)
