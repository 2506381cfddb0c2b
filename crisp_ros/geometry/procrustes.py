"""The rotation nearest to a matrix."""

from __future__ import annotations

from functools import lru_cache

import roma
import torch
from torch import Tensor

from crisp_ros.geometry.fixed_shapes import has_fixed_shapes

_SQUARINGS = 6  # between two normalizations; 3.5^64 is far from the largest double
_NORMALIZATIONS = 3


def nearest_rotation(matrices: Tensor) -> Tensor:
    """The rotations R (B, 3, 3) that maximize tr(R^T M), differentiable on a CPU.

    Args:
        matrices: M (B, 3, 3), of norm 1 or 0; the rotation of zero is the identity.
    """
    if torch.is_grad_enabled() and matrices.requires_grad:
        return roma.special_procrustes(matrices)
    if not has_fixed_shapes(matrices):
        U, _, Vh = torch.linalg.svd(matrices)
        # A reflection becomes a rotation where that costs least, at the last singular value.
        signs = torch.stack((*[torch.ones_like(U[:, 0, 0])] * 2, torch.det(U @ Vh)), dim=-1)
        return (U * signs[:, None]) @ Vh
    # The singular value decomposition of a GPU waits for the host. tr(R(q)^T M) is q^T K q for unit
    # quaternions, and the powers of K, shifted to be positive, converge to the best q q^T.
    profile, to_rotation = _quaternion_maps(matrices.device)
    K = (matrices.double().flatten(1) @ profile).unflatten(1, (4, 4))
    K = K + 3**0.5 * torch.eye(4, dtype=K.dtype, device=K.device)
    for _ in range(_NORMALIZATIONS):
        for _ in range(_SQUARINGS):
            K = K @ K
        K = K / K.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    # Where no quaternion is better than the others, that of the identity is taken.
    weight = K.diagonal(dim1=-2, dim2=-1)
    best = torch.where(weight[:, 3] > 0.2, 3, weight.argmax(-1))[:, None, None]
    q = torch.nn.functional.normalize(K.gather(2, best.expand(-1, 4, 1)).squeeze(-1), dim=-1)
    products = (q[:, :, None] * q[:, None]).flatten(1)
    return (products @ to_rotation).unflatten(1, (3, 3)).to(matrices.dtype)


@lru_cache(maxsize=8)
def _quaternion_maps(device: torch.device) -> tuple[Tensor, Tensor]:
    """Linear maps (9, 16) from M to K, and (16, 9) from q q^T to R(q); q is (x, y, z, w)."""
    to_rotation = torch.zeros(16, 9, dtype=torch.float64)
    # R(q) is linear in the products: by polarization of roma's map, row by row.
    unit = torch.eye(4, dtype=torch.float64)

    def rotation(q: Tensor) -> Tensor:
        return roma.unitquat_to_rotmat(q / q.norm()).flatten() * q.square().sum()

    for i in range(4):
        for j in range(4):
            both = rotation(unit[i] + unit[j]) - rotation(unit[i]) - rotation(unit[j])
            to_rotation[4 * i + j] = both / 2
    return to_rotation.T.contiguous().to(device), to_rotation.to(device)
