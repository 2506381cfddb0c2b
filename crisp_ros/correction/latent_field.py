"""Signed distances to shapes of a prior, with their slopes in space and in the latent."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.shape_prior import ShapePrior


class LatentDistances(NamedTuple):
    """Signed distances and their derivatives.

    Attributes:
        sdf: (B, N) metres, negative inside.
        gradient: (B, N, 3) in space, unitless.
        slope: (B, N, D) in the latent, metres for each standard deviation.
    """

    sdf: Tensor
    gradient: Tensor
    slope: Tensor


class LatentField(Protocol):
    """Signed distances f(x | z) of shapes with a latent z that is standard normal."""

    def sdf(self, points: Tensor, latents: Tensor) -> Tensor:
        """Signed distances (B, N) of points (B, N, 3), object frame, to shapes (B, D)."""

    def derivatives(self, points: Tensor, latents: Tensor) -> LatentDistances:
        """Signed distances with their derivatives; arguments as those of `sdf`."""

    def of_shape(self, latent: Tensor) -> LatentField:
        """The field of the shape (D,) alone, whose latents have no dimensions left."""


class PriorField:
    """The shape decoder under a prior as such a field: f_d(x | mean + z basis)."""

    def __init__(self, decoder: ShapeDecoder, prior: ShapePrior) -> None:
        self._decoder, self._prior = decoder, prior

    @torch.no_grad()
    def sdf(self, points: Tensor, latents: Tensor) -> Tensor:
        """See `LatentField`."""
        return self._decoder.sdf(points, self._prior.code(latents))

    @torch.no_grad()
    def derivatives(self, points: Tensor, latents: Tensor) -> LatentDistances:
        """See `LatentField`."""
        found = self._decoder.jacobians(points, self._prior.code(latents))
        return LatentDistances(found.sdf, found.gradient, found.code @ self._prior.basis.T)

    def of_shape(self, latent: Tensor) -> LatentField:
        """See `LatentField`."""
        return _ShapeField(self._decoder, self._prior.code(latent))


class _ShapeField:
    """The field of one shape, by its code."""

    def __init__(self, decoder: ShapeDecoder, code: Tensor) -> None:
        self._decoder, self._code = decoder, code

    @torch.no_grad()
    def sdf(self, points: Tensor, latents: Tensor) -> Tensor:
        """See `LatentField`."""
        return self._decoder.sdf(points, self._code.expand(len(points), -1))

    @torch.no_grad()
    def derivatives(self, points: Tensor, latents: Tensor) -> LatentDistances:
        """See `LatentField`."""
        found = self._decoder.sdf_and_gradient(points, self._code.expand(len(points), -1))
        return LatentDistances(*found, points.new_zeros((*points.shape[:2], 0)))

    def of_shape(self, latent: Tensor) -> LatentField:
        """See `LatentField`."""
        return self
