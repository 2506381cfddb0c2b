"""Points spread over the surface of shapes, without meshing them."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import subsample, take_rows
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import ShapeField

_MARGIN = 0.05  # share of the box's diagonal searched around the box
_NEWTON_STEPS = 3
_ARRIVED_M = 5e-4


class SurfacePoints(NamedTuple):
    """Points on the surfaces of B shapes.

    Attributes:
        points: (B, M, 3) object frame, metres.
        valid: (B, M) bool.
    """

    points: Tensor
    valid: Tensor

    def rows(self, which: Tensor | slice) -> SurfacePoints:
        """The points of some of the shapes, by index, mask or slice."""
        return take_rows(self, which)

    def subsample(self, count: int) -> SurfacePoints:
        """At most `count` points of each shape, evenly spaced among its valid ones."""
        return subsample(self, self.valid, count)


@torch.no_grad()
def surface_points(field: ShapeField, shapes: Shapes, count: int = 512) -> SurfacePoints:
    """Points on the zero level sets of shapes, about evenly spread, always the same.

    An evenly filling sequence of points in the shape's box is thinned to a shell around the surface
    and brought onto it by Newton steps; points that do not arrive are not valid.

    Args:
        field: f_d.
        shapes: (B,) with their boxes.
        count: points of a shape, M.
    """
    lower, upper = shapes.lower, shapes.upper
    margin = _MARGIN * torch.linalg.norm(upper - lower, dim=-1, keepdim=True)
    low, high = (lower - margin)[:, None], (upper + margin)[:, None]
    x = low + fill_unit_cube(16 * count, low) * (high - low)
    nearest = field.sdf(x, shapes).abs().topk(count, dim=-1, largest=False).indices
    x = x.gather(1, nearest[..., None].expand(-1, -1, 3))
    for _ in range(_NEWTON_STEPS):
        sdf, gradient = field.sdf_and_gradient(x, shapes)
        slope = gradient.square().sum(-1).clamp_min(0.1)
        x = x - (sdf / slope)[..., None] * gradient
    inside = ((x > low) & (x < high)).all(-1)
    return SurfacePoints(x, inside & (field.sdf(x, shapes).abs() < _ARRIVED_M))


def fill_unit_cube(count: int, like: Tensor) -> Tensor:
    """The first points (count, 3) of an additive recurrence that fills the unit cube evenly.

    They are kept, and not to be changed.
    """
    return _unit_cube_points(count, like.dtype, like.device)


@cache
def _unit_cube_points(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    root = 1.2207440846057596  # of x^4 = x + 1, the golden ratio's cousin in three dimensions
    with torch.inference_mode(False):  # see `constant`
        steps = torch.tensor([root**-1, root**-2, root**-3], dtype=torch.float64)
        index = torch.arange(1, count + 1, dtype=torch.float64)[:, None]
        return ((index * steps) % 1.0).to(device, dtype)
