"""Latents of codes under a prior, found by least squares."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_ros.network.shape_prior import ShapePrior


def latents_of(prior: ShapePrior, codes: Tensor) -> Tensor:
    """Latents (N, D) whose codes are nearest to codes (N, C)."""
    return torch.linalg.lstsq(prior.basis.T, (codes - prior.mean).T).solution.T
