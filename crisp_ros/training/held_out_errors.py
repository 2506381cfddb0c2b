"""Errors of predicted coordinates on crops that a training holds out."""

from __future__ import annotations

import roma
from torch import Tensor


def coordinate_errors(pnc: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute error (B,) of a coordinate over an object's pixels.

    Args:
        pnc: (B, 3, H, W) predicted, metres.
        target: (B, 3, H, W) true, metres.
        mask: (B, H, W) bool, the object's pixels; an object without any has the error zero.
    """
    error = (pnc - target).abs().mean(1) * mask
    return error.sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)


def rotation_errors(pnc: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Rotation angle (B,), radians, of the rigid motion that best aligns coordinates to the truth.

    It is how far a pose is rotated that these coordinates and perfect depth give (Arun's method).

    Args:
        pnc: (B, 3, H, W) predicted, metres.
        target: (B, 3, H, W) true, metres.
        mask: (B, H, W) bool, the object's pixels.
    """
    weights = mask.flatten(1).double()
    weights = (weights / weights.sum(1, keepdim=True).clamp(min=1))[:, None]
    a, b = pnc.flatten(2).double(), target.flatten(2).double()
    a = a - (a * weights).sum(2, keepdim=True)
    b = b - (b * weights).sum(2, keepdim=True)
    R = roma.special_procrustes((b * weights) @ a.transpose(1, 2))
    return roma.rotmat_to_rotvec(R).norm(dim=-1).float()
