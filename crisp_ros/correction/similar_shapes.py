"""Similar shapes of a library: their surfaces are nearly the same, each at the right pose.

From one side, and with noise, they are taken for one another by a network and by the certificate.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping

import torch

from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.residuals import ANY_FALL, weighted_mean
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.geometry.rotation_grid import rotation_grid
from crisp_ros.geometry.se3 import from_rotation_translation, invert, transform

_SIMILAR_SHARE = 0.03  # of the smaller diagonal, mean distance of the surfaces
_SCREENED_SHARE = 0.08  # root mean square, before the refinement
_SIZE_RATIO = 4 / 3  # most, of the diagonals
_ROTATIONS = 144
_SCREENED_POINTS = 64
_POINTS = 128
_STARTS = 8
_FIT = PoseLmSettings(evaluations=10, ray_offsets_m=(), move=ANY_FALL)


def similar_shapes(
    field: ShapeField,
    shapes: Shapes,
    surfaces: SurfacePoints,
    index: int,
    found: MutableMapping[tuple[int, int], float],
) -> tuple[int, ...]:
    """The shapes that are similar to one of them, the most similar one first.

    Args:
        field: f_d.
        shapes: (K,) with boxes.
        surfaces: points on these; those of shapes of about the size of the one suffice.
        index: of the one.
        found: distances of pairs (first, second), first < second, that are known; new ones are
            added.
    """
    ratios = shapes.diameters / shapes.diameters[index]
    distances = []
    for other in shapes_near_in_size(ratios, index):
        ordered = min(index, other), max(index, other)
        pair = torch.tensor(ordered, device=ratios.device)
        if ordered not in found:
            both = surfaces.rows(pair).subsample(_POINTS)
            found[ordered] = _distance(field, shapes.rows(pair), both)
        smaller = float(shapes.diameters[pair].min())
        if found[ordered] < _SIMILAR_SHARE * smaller:
            distances.append((found[ordered], other))
    return tuple(other for _, other in sorted(distances))


def shapes_near_in_size(ratios: torch.Tensor, index: int) -> list[int]:
    """The shapes, but for one of them, whose diagonals (K,) in its units are about its own."""
    near = (ratios < _SIZE_RATIO) & (ratios > 1 / _SIZE_RATIO)
    return [other for other in near.nonzero().squeeze(-1).tolist() if other != index]


def _distance(field: ShapeField, pair: Shapes, surfaces: SurfacePoints) -> float:
    """The mean distance of two shapes' surfaces, registered, metres; infinite if far too great."""
    first, second = (pair.rows(torch.tensor([i])) for i in (0, 1))
    points, valid = surfaces
    middles = (pair.lower + pair.upper) / 2
    rotation = rotation_grid(_ROTATIONS).to(points)
    T = from_rotation_translation(rotation, middles[1] - rotation @ middles[0])
    few = surfaces.subsample(_SCREENED_POINTS)
    x = transform(T, few.points[:1].expand(len(T), -1, -1))
    cost = weighted_mean(field.sdf(x, second).square(), few.valid[:1].expand(len(T), -1))
    best = cost.topk(_STARTS, largest=False)
    if float(best.values[0].sqrt()) > _SCREENED_SHARE * float(pair.diameters.min()):
        return math.inf
    T = T[best.indices]
    onto = second.rows(torch.zeros(_STARTS, dtype=torch.long))
    observed = Correspondences.of_points(points[:1], valid[:1]).repeated(_STARTS)
    T = refine_pose(field, observed.aligned_to(T), onto, T, _FIT).T_object_camera
    of_first = transform(T, points[:1].expand(_STARTS, -1, -1))
    of_second = transform(invert(T), points[1:].expand(_STARTS, -1, -1))
    there = weighted_mean(field.sdf(of_first, second).abs(), valid[:1].expand(_STARTS, -1))
    back = weighted_mean(field.sdf(of_second, first).abs(), valid[1:].expand(_STARTS, -1))
    return float(torch.maximum(there, back).min())
