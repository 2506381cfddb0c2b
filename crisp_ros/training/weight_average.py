"""Running mean of the weights of a training, which is better than the latest weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_BEGINNING = 10  # steps; the mean of the first steps is over less than `averaging` says


class WeightAverage:
    """An exponential running mean of parameters.

    Args:
        parameters: that are trained.
        averaging: share of the old in the mean at each step, 0 (the latest) to below 1.
    """

    def __init__(self, parameters: Sequence[Tensor], averaging: float) -> None:
        self._parameters, self._averaging = list(parameters), averaging
        self.mean = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the parameters into the mean after step number `step`, which counts from 0."""
        share = min(self._averaging, (step + 1) / (step + _BEGINNING))
        for mean, parameter in zip(self.mean, self._parameters, strict=True):
            mean.lerp_(parameter, 1.0 - share)

    @torch.no_grad()
    def load(self, mean: Sequence[Tensor]) -> None:
        """Continue from a stored mean."""
        for own, stored in zip(self.mean, mean, strict=True):
            own.copy_(stored)

    @torch.no_grad()
    def apply(self) -> None:
        """Set the parameters to the mean."""
        for mean, parameter in zip(self.mean, self._parameters, strict=True):
            parameter.copy_(mean)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Set the parameters to the mean, and on leaving back to what they were."""
        latest = [p.detach().clone() for p in self._parameters]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(self._parameters, latest, strict=True):
                    parameter.copy_(value)
