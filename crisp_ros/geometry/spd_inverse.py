"""Inverse of small symmetric positive definite matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_ros.geometry.fixed_shapes import has_fixed_shapes


def spd_inverse(matrices: Tensor) -> Tensor:
    """Invert symmetric positive definite matrices, without an error where one is singular.

    The inverse of a singular matrix, or of one that is not finite, is not finite.

    Args:
        matrices: (B, N, N); N is small.
    """
    if not has_fixed_shapes(matrices):
        inverse, failed = torch.linalg.inv_ex(matrices)
        return torch.where((failed == 0)[:, None, None], inverse, torch.nan)
    # LAPACK's counterparts for a GPU make the host wait. A positive definite matrix needs no pivot.
    size = matrices.shape[-1]
    identity = torch.eye(size, dtype=matrices.dtype, device=matrices.device)
    rows = torch.cat((matrices, identity.expand_as(matrices)), dim=-1)
    for k in range(size):
        pivot = rows[:, k : k + 1] / rows[:, k : k + 1, k : k + 1]
        rows = torch.baddbmm(rows, rows[:, :, k : k + 1] - identity[:, k : k + 1], pivot, alpha=-1)
    return rows[..., size:]
