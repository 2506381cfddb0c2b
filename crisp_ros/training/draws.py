"""Random numbers of a batch of crops, each crop's from a stream of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Draws:
    """Random numbers for the crops of a batch, each crop's from a stream of its own.

    A crop's view depends on its seed alone, not on the process or the rest of its batch.

    Args:
        seeds: one a crop.
        device: where the numbers are wanted.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._streams = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self._device = device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape) numbers from low to high."""
        numbers = torch.stack([torch.rand(shape, generator=g) for g in self._streams])
        return (low + (high - low) * numbers).to(self._device)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) standard normal numbers."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._streams]).to(
            self._device
        )
