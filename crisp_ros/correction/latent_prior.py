"""Gaussian priors over latents, one for each object, for solvers that work in deviations."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LatentPrior(NamedTuple):
    """Priors z = mean + factor u over the latents of B objects, with u standard normal.

    Attributes:
        mean: (B, D).
        factor: (B, D, D), invertible.
        inverse: (B, D, D), of the factor.
    """

    mean: Tensor
    factor: Tensor
    inverse: Tensor

    @classmethod
    def standard(cls, latents: Tensor) -> LatentPrior:
        """Standard normal priors over latents like these (B, D)."""
        count, dimensions = latents.shape
        unit = torch.eye(dimensions).to(latents).expand(count, -1, -1)
        return cls(torch.zeros_like(latents), unit, unit)

    @classmethod
    def of_covariances(cls, mean: Tensor, covariance: Tensor) -> LatentPrior:
        """Priors with these means (B, D) and covariances (B, D, D), positive definite."""
        factor = torch.linalg.cholesky(covariance.double())
        return cls(mean, factor.to(mean), torch.linalg.inv(factor).to(mean))

    def latents(self, deviations: Tensor) -> Tensor:
        """The z (B, D) of u (B, D)."""
        return self.mean + (self.factor @ deviations[..., None]).squeeze(-1)

    def deviations(self, latents: Tensor) -> Tensor:
        """The u (B, D) of z (B, D)."""
        return (self.inverse @ (latents - self.mean)[..., None]).squeeze(-1)

    def log_density(self, latents: Tensor) -> Tensor:
        """Logarithms (B,) of the densities at latents (B, D), up to a constant of D."""
        heights = self.inverse.diagonal(dim1=1, dim2=2).log().sum(1)
        return heights - 0.5 * self.deviations(latents).square().sum(1)
