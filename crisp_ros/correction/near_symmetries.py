"""Turns that leave most of a shape's surface in place: a mug's, about its axis, but for its handle.

A network that misreads such a turn gives coordinates that agree with one another and with nearly
all of the depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import roma
import torch
from torch import Tensor

from crisp_ros.correction.pose_lm import SecondOrderSettings, refine
from crisp_ros.correction.residuals import ANY_FALL, geman_mcclure
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.geometry.se3 import from_rotation_translation, transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary

_TRIED_RAD = tuple(map(math.radians, (60.0, 90.0, 120.0, 180.0)))
_ALL_ROUND_RAD = tuple(math.radians(degrees) for degrees in range(30, 331, 15))
_ALL_ROUND = 3  # of the first turns that must do for all others to be tried
_NEAR_M = 4e-3  # a surface point that comes so near to the surface has stayed in place
_MOST = 0.75  # share of the surface that must
_OFF_M = 8e-3  # far more than the decoder's own error
_LEAST = 0.02  # share of the surface that must come so far off, or depth could not tell the turn
_APART_RAD = math.radians(12.0)  # of turns from one another
_TURN_RAD = math.radians(30.0)  # by less the pose solvers get on their own
_FIT = SecondOrderSettings(
    evaluations=13, points=96, robust_scale_m=3e-3, ray_offsets_m=(), move=ANY_FALL
)


@torch.no_grad()
def near_symmetries(
    decoder: ShapeDecoder, library: ShapeLibrary, surfaces: SurfacePoints, index: int
) -> Tensor:
    """Motions (M, 4, 4) of the object frame that nearly map a shape onto itself; M may be zero.

    Turns about the axes of the object frame are tried, a few at first, and all round where most of
    these do; where the axis of a turn lies is found by fitting the turned surface to the shape.
    Those after which all of the surface is in place are left out, like the identity: depth cannot
    tell them from none.

    Args:
        decoder: f_d.
        library: the known shapes.
        surfaces: points on all of them.
        index: of the shape.
    """
    x = surfaces.points[index][surfaces.valid[index]][::3]
    code = library.codes[index]
    if len(x) == 0:
        return x.new_zeros(0, 4, 4)
    axes = torch.eye(3).to(x)
    T, off = _fitted(decoder, code, x, axes, _TRIED_RAD)
    round_axes = off.isfinite().sum(-1) >= _ALL_ROUND
    T, off = T.flatten(0, 1), off.flatten()
    if round_axes.any():
        more = _fitted(decoder, code, x, axes[round_axes], _ALL_ROUND_RAD)
        T, off = (torch.cat((a, b.flatten(0, 1))) for a, b in zip((T, off), more, strict=True))
    rotations = T[:, :3, :3]
    apart = roma.rotmat_geodesic_distance(rotations[:, None], rotations)
    kept: list[int] = []
    for i in off.argsort().tolist():
        if off[i].isfinite() and (apart[i, kept] > _APART_RAD).all():
            kept.append(i)
    return T[kept]


def _fitted(
    decoder: ShapeDecoder,
    code: Tensor,
    x: Tensor,
    axes: Tensor,
    angles_rad: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """A shape fitted to itself from each turn: motions (A, K, 4, 4), and how far off they leave the
    surface, (A, K), infinite for those that are no near symmetries.

    Args:
        code: (C,) of the shape.
        x: (N, 3) points on it.
        axes: (A, 3) of the turns.
        angles_rad: K of them.
    """
    angles = torch.tensor(angles_rad).to(x)
    rotation = roma.rotvec_to_rotmat(angles[:, None] * axes[:, None]).flatten(0, 1)
    middle = x.median(0).values
    start = from_rotation_translation(rotation, middle - rotation @ middle)
    points, codes = x.expand(len(start), -1, -1), code.expand(len(start), -1)
    everything = torch.ones(points.shape[:2], dtype=torch.bool, device=x.device)
    nothing = torch.zeros_like(everything, dtype=x.dtype)
    T = refine(decoder, points, points, nothing, everything, codes, start, _FIT).T_object_camera
    sdf = decoder.sdf(transform(T, points), codes).abs()
    near, far = (part.to(x.dtype).mean(-1) for part in (sdf < _NEAR_M, sdf > _OFF_M))
    angle = roma.rotmat_geodesic_distance(T[:, :3, :3], torch.eye(3).to(T).expand(len(T), 3, 3))
    wanted = (near >= _MOST) & (far >= _LEAST) & (angle > _TURN_RAD)
    cost = geman_mcclure(sdf.square(), sdf.new_tensor(_FIT.robust_scale_m)).cost.mean(-1)
    off = torch.where(wanted, cost, torch.inf)
    shape = (len(axes), len(angles_rad))
    return T.unflatten(0, shape), off.unflatten(0, shape)
