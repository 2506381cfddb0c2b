"""Boxes of shapes that are not in the library, found from the points seen on them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints, surface_points
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.fixed_shapes import has_fixed_shapes

_SAMPLES = 16  # a side of the grid that is searched for the body
_REACH = 1.5  # half the side of the first grid, in farthest coordinates of the seen points
_LEAST_REACH_M = 0.01
_GROWTH = 1.6  # of a grid whose border the body touches
_SEARCHES = 5
_BOX_POINTS = 512  # on a surface whose box is measured
_ROOM = 0.01  # around that box, as a share of its diagonal


class Bodies(NamedTuple):
    """Decoded bodies of B shapes.

    Attributes:
        shapes: with their boxes.
        surfaces: points on them.
    """

    shapes: Shapes
    surfaces: SurfacePoints


def with_boxes(field: ShapeField, shapes: Shapes, seen: ObjectPoints) -> Shapes:
    """The shapes with the boxes of their decoded bodies; see `decoded_bodies`."""
    return decoded_bodies(field, shapes, seen).shapes


@torch.no_grad()
def decoded_bodies(field: ShapeField, shapes: Shapes, seen: ObjectPoints) -> Bodies:
    """Find the decoded bodies of shapes, whatever boxes they had.

    A grid around the origin is searched for the body on which the seen points are: the cells with
    the surface or the inside in them that are connected with a seen point. While this body touches
    the border of the grid the grid grows. So a far-away surface that the decoder has besides, as it
    was trained near its shapes only, does not count, and nothing of the body is cut off. The box is
    that of points on its surface.

    Args:
        field: f_d.
        shapes: (B,).
        seen: points on them, in their own frames, metres.
    """
    return run_captured(_decoded_bodies, (field,), shapes, seen)


def _decoded_bodies(field: ShapeField, shapes: Shapes, seen: ObjectPoints) -> Bodies:
    seen = seen.sanitized()
    reach = _REACH * seen.points.abs().amax((1, 2)).clamp_min(_LEAST_REACH_M)
    low = high = None
    for _ in range(_SEARCHES):
        first, last = _body_extent(field, shapes, seen, reach)
        cell = 2 * reach / (_SAMPLES - 1)
        low = (first - 1) * cell[:, None] - reach[:, None]
        high = (last + 1) * cell[:, None] - reach[:, None]
        cut = (last >= first).all(-1) & ((first <= 0) | (last >= _SAMPLES - 1)).any(-1)
        if not has_fixed_shapes(reach) and not cut.any():
            break
        reach = torch.where(cut, _GROWTH * reach, reach)
    lost = (last < first).any(-1, keepdim=True)
    low = torch.where(lost, -reach[:, None], low)
    high = torch.where(lost, reach[:, None], high)
    surface = surface_points(field, shapes._replace(lower=low, upper=high), _BOX_POINTS)
    lower = torch.where(surface.valid[..., None], surface.points, torch.inf).amin(1)
    upper = torch.where(surface.valid[..., None], surface.points, -torch.inf).amax(1)
    found = (lower < upper).all(-1, keepdim=True)
    lower, upper = torch.where(found, lower, low), torch.where(found, upper, high)
    # The outermost point of the surface is seldom among those that were found.
    room = _ROOM * torch.linalg.norm(upper - lower, dim=-1, keepdim=True)
    return Bodies(shapes._replace(lower=lower - room, upper=upper + room), surface)


def _body_extent(
    field: ShapeField, shapes: Shapes, seen: ObjectPoints, reach: Tensor
) -> tuple[Tensor, Tensor]:
    """First and last index (B, 3) of the grid's samples in the body that the seen points are on.

    Where there is no such body the last index is below the first.
    """
    batch = len(reach)
    steps = torch.linspace(-1.0, 1.0, _SAMPLES, dtype=reach.dtype, device=reach.device)
    unit = torch.cartesian_prod(steps, steps, steps)
    cell = 2 * reach / (_SAMPLES - 1)
    sdf = field.sdf(unit * reach[:, None, None], shapes)
    # Half a cell around the surface counts, so that thin walls between samples stay connected.
    solid = (sdf < 0.5 * cell[:, None]).view(batch, 1, _SAMPLES, _SAMPLES, _SAMPLES).float()
    body = _near_points(seen, reach) * solid
    for _ in range(3 * _SAMPLES):
        grown = torch.nn.functional.max_pool3d(body, 3, 1, 1) * solid
        if not has_fixed_shapes(body) and torch.equal(grown, body):
            break
        body = grown
    body = body[:, 0].bool()
    first, last = [], []
    index = torch.arange(_SAMPLES, device=reach.device)
    for axis in range(3):
        others = [1 + other for other in range(3) if other != axis]
        used = body.any(others[1]).any(others[0])
        first.append(torch.where(used, index, _SAMPLES).amin(-1))
        last.append(torch.where(used, index, -1).amax(-1))
    return torch.stack(first, -1), torch.stack(last, -1)


def _near_points(seen: ObjectPoints, reach: Tensor) -> Tensor:
    """Ones at the grid's samples (B, 1, S, S, S) around the seen points, zeros elsewhere."""
    batch = len(reach)
    at = (seen.points / reach[:, None, None] + 1) * 0.5 * (_SAMPLES - 1)
    at = at.round().long().clamp(0, _SAMPLES - 1)
    flat = (at[..., 0] * _SAMPLES + at[..., 1]) * _SAMPLES + at[..., 2]
    hit = torch.zeros(batch, _SAMPLES**3, device=reach.device)
    hit.scatter_reduce_(1, flat, seen.valid.to(hit.dtype), "amax")
    hit = hit.view(batch, 1, _SAMPLES, _SAMPLES, _SAMPLES)
    return torch.nn.functional.max_pool3d(hit, 3, 1, 1)
