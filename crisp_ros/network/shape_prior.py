"""A Gaussian prior over shapes: codes of the decoder as a linear function of a few numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class ShapeExamples(NamedTuple):
    """Training shapes of a prior.

    Attributes:
        latents: (K, D).
        kinds: (K,) int64, numbers of their kinds from 0.
        lower: (K, 3) lowest corners of their boxes, object frame, metres.
        upper: (K, 3) highest corners.
    """

    latents: Tensor
    kinds: Tensor
    lower: Tensor
    upper: Tensor


@dataclasses.dataclass(frozen=True)
class ShapePrior:
    """h = mean + z basis, with z standard normal.

    The rows of the basis are the principal components of the training shapes' codes, each as long
    as the standard deviation along it.

    Attributes:
        mean: (C,) code of the mean shape.
        basis: (D, C), rows orthogonal and the longest first.
        examples: shapes by kinds, which say more than the Gaussian of all; None for none.

    Raises:
        ValueError: the parts are inconsistent or not finite.
    """

    mean: Tensor
    basis: Tensor
    examples: ShapeExamples | None = None

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
        if self.examples is not None:
            _check_examples(self.examples, len(self.basis))

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

    def latents(self, codes: Tensor) -> Tensor:
        """Latents (..., D) whose codes are nearest to codes (..., C)."""
        basis = self.basis.double()
        offsets = (codes - self.mean).double() @ basis.T
        return (offsets / basis.square().sum(1)).to(self.basis)

    def to(self, device: torch.device | str) -> ShapePrior:
        """The same on another device."""
        moved = self.examples and ShapeExamples(*(part.to(device) for part in self.examples))
        return ShapePrior(self.mean.to(device), self.basis.to(device), moved)

    def with_examples(
        self, codes: Tensor, kinds: Sequence[str], lower: Tensor, upper: Tensor
    ) -> ShapePrior:
        """The prior with shapes as examples.

        Args:
            codes: (K, C) of the shapes.
            kinds: K names of their kinds.
            lower: (K, 3) lowest corners of their boxes, metres.
            upper: (K, 3) highest corners.
        """
        latents = self.latents(codes)
        names = sorted(set(kinds))
        numbers = torch.tensor([names.index(kind) for kind in kinds])
        examples = ShapeExamples(latents, numbers, lower.to(latents), upper.to(latents))
        return dataclasses.replace(self, examples=examples)


def _check_examples(examples: ShapeExamples, dimensions: int) -> None:
    """Refuse inconsistent examples.

    Raises:
        ValueError: they are.
    """
    latents, kinds, lower, upper = examples
    count = len(latents)
    shapes = [(count, dimensions), (count,), (count, 3), (count, 3)]
    if count == 0 or [tuple(part.shape) for part in examples] != shapes:
        raise ValueError(f"a prior's examples need latents (K, {dimensions}), kinds and boxes")
    if kinds.dtype != torch.int64 or not 0 <= int(kinds.min()) <= int(kinds.max()) < count:
        raise ValueError("the kinds of a prior's examples are not numbers below their count")
    if len(kinds.unique()) != int(kinds.max()) + 1:
        raise ValueError("a prior has kinds without an example")
    if not (torch.isfinite(latents).all() and bool((lower < upper).all())):
        raise ValueError("a prior's examples need finite latents and boxes with lower < upper")
