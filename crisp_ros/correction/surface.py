"""Points spread over the surface of decoded shapes, without meshing them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary

_MARGIN = 0.05  # share of the box's diagonal searched around the box
_NEWTON_STEPS = 3
_ARRIVED_M = 5e-4


class SurfacePoints(NamedTuple):
    """Points on surfaces: points (B, M, 3) object frame, metres; valid (B, M) bool."""

    points: Tensor
    valid: Tensor


@torch.no_grad()
def surface_points(
    decoder: ShapeDecoder, codes: Tensor, lower: Tensor, upper: Tensor, count: int = 512
) -> SurfacePoints:
    """Points on the zero level sets of decoded shapes, about evenly spread, always the same.

    An evenly filling sequence of points in the shape's box is thinned to a shell around the surface
    and brought onto it by Newton steps; points that do not arrive are not valid.

    Args:
        decoder: f_d.
        codes: (B, C).
        lower, upper: (B, 3) corners of the shapes' boxes, object frame, metres.
        count: points an object, M.
    """
    margin = _MARGIN * torch.linalg.norm(upper - lower, dim=-1, keepdim=True)
    low, high = (lower - margin)[:, None], (upper + margin)[:, None]
    x = low + _filling(16 * count, codes) * (high - low)
    nearest = decoder.sdf(x, codes).abs().topk(count, dim=-1, largest=False).indices
    x = x.gather(1, nearest[..., None].expand(-1, -1, 3))
    for _ in range(_NEWTON_STEPS):
        sdf, gradient = decoder.sdf_and_gradient(x, codes)
        slope = gradient.square().sum(-1).clamp_min(0.1)
        x = x - (sdf / slope)[..., None] * gradient
    inside = ((x > low) & (x < high)).all(-1)
    return SurfacePoints(x, inside & (decoder.sdf(x, codes).abs() < _ARRIVED_M))


def library_surfaces(
    decoder: ShapeDecoder, library: ShapeLibrary, count: int = 512
) -> SurfacePoints:
    """`surface_points` of every library shape, (K, M, 3) and (K, M)."""
    return surface_points(decoder, library.codes, library.lower, library.upper, count)


def _filling(count: int, like: Tensor) -> Tensor:
    """The first points (count, 3) of an additive recurrence that fills the unit cube evenly."""
    root = 1.2207440846057596  # of x^4 = x + 1, the golden ratio's cousin in three dimensions
    steps = torch.tensor([root**-1, root**-2, root**-3], dtype=torch.float64)
    index = torch.arange(1, count + 1, dtype=torch.float64)[:, None]
    return ((index * steps) % 1.0).to(like)
