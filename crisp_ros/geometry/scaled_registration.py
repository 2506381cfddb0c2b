"""Registration of coordinates in a unit of unknown size: rotation, translation and scale."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.geometry.registration import Registration, RegistrationSettings, register
from crisp_ros.geometry.se3 import transform

_PAIR_SHIFTS = (0.21, 0.34, 0.47)  # between the points of a pair, as shares of their number
_REFITS = 3
_LEAST_SIZE_M = 1e-4  # of a unit


class ScaledRegistration(NamedTuple):
    """Robust poses of a batch of objects whose coordinates have a unit of their own.

    Attributes:
        registration: of the points with the coordinates in metres, `size` times the given ones.
        size: (B,) metres per unit, always finite and positive.
    """

    registration: Registration
    size: Tensor


@torch.no_grad()
def register_with_scale(
    points_camera: Tensor,
    coordinates: Tensor,
    valid: Tensor,
    settings: RegistrationSettings | None = None,
) -> ScaledRegistration:
    """Estimate robust poses and sizes of the unit from depth points and coordinates (Umeyama).

    The first size is the median ratio of distances between pairs of points. Then, with the inliers
    of a registration at the last size, least squares in the size: the solution of eq. (24) for
    given rotation, which cannot shrink towards zero as the residuals are those of metric points.

    Args:
        points_camera: (B, N, 3) metres, camera frame.
        coordinates: (B, N, 3) units, object frame.
        valid: (B, N) bool; points that are not valid, or not finite, are ignored.
        settings: of the registration.
    """
    finite = torch.isfinite(points_camera).all(-1) & torch.isfinite(coordinates).all(-1)
    valid = valid & finite
    points = torch.where(valid[..., None], points_camera, 0.0)
    units = torch.where(valid[..., None], coordinates, 0.0)
    size = _median_ratio(points, units, valid)
    registration = register(points, units * size[:, None, None], valid, settings)
    for _ in range(_REFITS):
        size = _least_squares(points, units, registration, size)
        registration = register(points, units * size[:, None, None], valid, settings)
    return ScaledRegistration(registration, size)


def _median_ratio(points: Tensor, units: Tensor, valid: Tensor) -> Tensor:
    """Metres per unit (B,), the median over pairs of points; 1 where there are none."""
    ratios = []
    for share in _PAIR_SHIFTS:
        shift = max(1, int(share * points.shape[1]))
        pairs = valid & valid.roll(shift, 1)
        lengths = (points - points.roll(shift, 1)).norm(dim=-1)
        in_units = (units - units.roll(shift, 1)).norm(dim=-1)
        usable = pairs & (in_units > 1e-6) & (lengths > 1e-6)
        ratios.append(torch.where(usable, lengths / in_units.clamp_min(1e-6), torch.nan))
    median = torch.cat(ratios, dim=-1).nanmedian(-1).values
    return torch.nan_to_num(median, nan=1.0).clamp_min(_LEAST_SIZE_M)


def _least_squares(
    points: Tensor, units: Tensor, registration: Registration, size: Tensor
) -> Tensor:
    """Umeyama's scale (B,) of the inliers at a rotation; the given size where there are few."""
    rotated = transform(registration.T_object_camera.to(points), points)
    weights = registration.inliers.to(points.dtype)[..., None]
    total = weights.sum(1).clamp_min(1.0)
    rotated = weights * (rotated - (weights * rotated).sum(1, keepdim=True) / total[:, None])
    centred = weights * (units - (weights * units).sum(1, keepdim=True) / total[:, None])
    spread, shared = rotated.square().sum((1, 2)), (rotated * centred).sum((1, 2))
    fits = registration.converged & (shared > 1e-9)
    # Of units = rotated / size, whose residuals are measured in metres: the depth is the better
    # known side, so that noise of the coordinates does not shrink the size.
    new = torch.where(fits, spread / shared.clamp_min(1e-12), size)
    return new.clamp(0.5 * size, 2.0 * size).clamp_min(_LEAST_SIZE_M)
