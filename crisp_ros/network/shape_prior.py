"""A Gaussian prior over shapes: codes of the decoder as a linear function of a few numbers."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class ShapePrior:
    """h = mean + z basis, with z standard normal.

    The rows of the basis are the principal components of the training shapes' codes, each as long
    as the standard deviation along it.

    Attributes:
        mean: (C,) code of the mean shape.
        basis: (D, C), rows orthogonal and the longest first.

    Raises:
        ValueError: the parts are inconsistent or not finite.
    """

    mean: Tensor
    basis: Tensor

    def __post_init__(self) -> None:
        if self.mean.ndim != 1 or self.basis.ndim != 2 or len(self.basis) == 0:
            raise ValueError("a shape prior needs a mean (C,) and a basis (D, C) with D >= 1")
        if self.basis.shape[1] != len(self.mean):
            raise ValueError(
                f"a shape prior's basis has codes of length {self.basis.shape[1]}, its mean"
                f" {len(self.mean)}"
            )
        if not (torch.isfinite(self.mean).all() and torch.isfinite(self.basis).all()):
            raise ValueError("a shape prior needs finite values")

    @classmethod
    def of_codes(cls, codes: Tensor, dimensions: int) -> ShapePrior:
        """The prior of shapes with codes (K, C), K >= 2, from their principal components.

        Args:
            codes: of the training shapes.
            dimensions: D, at most; codes that span less get less.

        Raises:
            ValueError: fewer than two codes, or all the same.
        """
        if codes.ndim != 2 or len(codes) < 2:
            raise ValueError("a shape prior needs at least two codes (K, C)")
        mean = codes.double().mean(dim=0)
        _, lengths, rows = torch.linalg.svd(codes.double() - mean, full_matrices=False)
        kept = int((lengths[:dimensions] > 1e-6 * lengths[0]).sum())
        if kept == 0:
            raise ValueError("a shape prior needs codes that differ")
        deviations = lengths[:kept] / (len(codes) - 1) ** 0.5
        basis = deviations[:, None] * rows[:kept]
        return cls(mean.to(codes.dtype), basis.to(codes.dtype))

    @property
    def dimensions(self) -> int:
        """D."""
        return len(self.basis)

    def code(self, latents: Tensor) -> Tensor:
        """Codes (..., C) of latents (..., D)."""
        return self.mean + latents @ self.basis

    def to(self, device: torch.device | str) -> ShapePrior:
        """The same on another device."""
        return ShapePrior(self.mean.to(device), self.basis.to(device))
