"""Of the poses that leave most of a shape in place, the one that the depth image allows.

The pose solvers go downhill from the network's pose, and cannot carry a mug's handle round the mug.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import radians
from typing import NamedTuple

import roma
import torch
from torch import Tensor

from crisp_ros.correction.pose_lm import SecondOrderSettings, refine
from crisp_ros.correction.residuals import (
    ANY_FALL,
    clearly_better,
    evenly_chosen,
    surface_objective,
    usable,
)
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.correction.visibility import Images, VisibilitySettings, exposed
from crisp_ros.geometry.se3 import from_rotation_translation, invert, transform
from crisp_ros.network.decoder import ShapeDecoder

_AROUND_RAD = tuple(map(radians, (-12.0, -6.0, 0.0, 6.0, 12.0)))


@dataclass(frozen=True)
class TurnSettings:
    """Settings of `best_turns`.

    Attributes:
        points: depth points and surface points of an object that are compared, chosen evenly.
        doubted_above_m: poses of less cost than the square of this, metres, stay without a trial.
        robust_scale_m: of the depth points' distances, metres; large, as the points of a handle
            count that are nowhere near the shape.
        exposed_m: a surface point that the camera would have seen, or has seen past, counts as a
            depth point so far off, metres.
        significance: the cost must fall by this share of itself plus the squared
        surface_error_m: ... error of the decoder, metres, or the pose stays.
        visibility: what the camera would have seen.
        pose: of the turned pose.
    """

    points: int = 384
    doubted_above_m: float = 2e-3
    robust_scale_m: float = 0.02
    exposed_m: float = 0.01
    significance: float = 0.15
    surface_error_m: float = 1.5e-3
    visibility: VisibilitySettings = field(default_factory=VisibilitySettings)
    pose: SecondOrderSettings = field(
        default_factory=lambda: SecondOrderSettings(ray_offsets_m=(), move=ANY_FALL)
    )


class Posed(NamedTuple):
    """B objects as they were estimated.

    points: (B, N, 3) depth points, camera frame, metres. valid: (B, N) bool. codes: (B, C).
    T_object_camera: (B, 4, 4). surfaces: points on their shapes. labels: (B,) in the label image.
    """

    points: Tensor
    valid: Tensor
    codes: Tensor
    T_object_camera: Tensor
    surfaces: SurfacePoints
    labels: Tensor

    def rows(self, which: Tensor) -> Posed:
        """Some of the objects, or one several times."""
        surfaces = SurfacePoints(*(part[which] for part in self.surfaces))
        return Posed(*(p[which] for p in self[:4]), surfaces, self.labels[which])


class Turned(NamedTuple):
    """Objects that are to be turned: rows (T,) of the batch; turns (T, 4, 4) motions of the object
    frame, to be applied to what the network said; T_object_camera (T, 4, 4) and objective (T,)
    square metres, over all valid points, of the turned poses."""

    rows: Tensor
    turns: Tensor
    T_object_camera: Tensor
    objective: Tensor


@torch.no_grad()
def best_turns(
    decoder: ShapeDecoder,
    objects: Posed,
    turns: Sequence[Tensor],
    images: Images,
    settings: TurnSettings | None = None,
) -> Turned:
    """Which objects the depth image shows turned, against their estimates.

    The cost of a pose is the robust mean squared distance of the depth points to the surface, plus
    that of the surface points which lie in space seen to be empty, or beside the object's mask with
    nothing before them. The turned pose of least cost is refined, by depth alone, and taken where
    its cost is clearly lower.

    Args:
        decoder: f_d.
        objects: B of them, with finite poses.
        turns: (M_i, 4, 4) of each object's shape, at least one each, see `near_symmetries`.
        images: that they were seen in.
        settings: see `TurnSettings`.
    """
    settings = settings or TurnSettings()
    objects = objects._replace(valid=usable(objects.points, objects.valid))
    few = _thinned(objects, settings.points)
    before = _cost(decoder, few, images, settings)
    rows = (before > settings.doubted_above_m**2).nonzero().squeeze(-1)
    some = few.rows(rows)
    turn, least = _least(decoder, some, [turns[i] for i in rows.tolist()], images, settings)
    promising = least < before[rows]
    rows, some, turn = rows[promising], some.rows(promising), turn[promising]
    if len(rows) == 0:
        return Turned(rows, turn, turn, before[rows])
    turn, _ = _least(decoder, some, list(_about(turn)), images, settings)
    whole = objects.rows(rows)
    step = refine(
        decoder,
        whole.points,
        whole.points,
        torch.zeros_like(whole.points[..., 0]),
        whole.valid,
        whole.codes,
        turn @ whole.T_object_camera,
        settings.pose,
    )
    T = step.T_object_camera
    after = _cost(decoder, some._replace(T_object_camera=T), images, settings)
    better = clearly_better(before[rows], after, settings.significance, settings.surface_error_m)
    rows, T = rows[better], T[better]
    turn = T @ invert(objects.T_object_camera[rows])
    return Turned(rows, turn, T, step.objective[better])


def _least(
    decoder: ShapeDecoder,
    objects: Posed,
    turns: Sequence[Tensor],
    images: Images,
    settings: TurnSettings,
) -> tuple[Tensor, Tensor]:
    """The turn of least cost (B, 4, 4) of each object, and that cost (B,)."""
    T = objects.T_object_camera
    if len(turns) == 0:
        return T, T[:, 0, 0]
    counts = torch.tensor([len(part) for part in turns], device=T.device)
    motions = torch.cat(list(turns)).to(T)
    turned = objects.rows(torch.arange(len(turns), device=T.device).repeat_interleave(counts))
    turned = turned._replace(T_object_camera=motions @ turned.T_object_camera)
    costs = _cost(decoder, turned, images, settings).split(counts.tolist())
    best = torch.stack([part.argmin() for part in costs])
    least = torch.stack([part.min() for part in costs])
    return motions[counts.cumsum(0) - counts + best], least


def _about(turns: Tensor) -> Tensor:
    """Turns (B, 4, 4), and others by a little more or less about the same axes, (B, 5, 4, 4).

    A handle is thin: from further off its seen side would be fitted with its far one.
    """
    rotvec = roma.rotmat_to_rotvec(turns[:, :3, :3])
    angle = rotvec.norm(dim=-1, keepdim=True)
    axis, shift = rotvec / angle, turns[:, :3, 3]
    along = (axis * shift).sum(-1, keepdim=True) * axis
    # The point of the axis nearest to the origin stays, but for the shift along the axis.
    middle = (shift - along) / 2 + torch.linalg.cross(axis, shift) / (2 * (angle / 2).tan())
    around = angle + torch.tensor(_AROUND_RAD).to(angle)
    rotation = roma.rotvec_to_rotmat(around[..., None] * axis[:, None])
    moved = (middle + along)[:, None] - (rotation @ middle[:, None, :, None]).squeeze(-1)
    return from_rotation_translation(rotation, moved)


def _cost(decoder: ShapeDecoder, objects: Posed, images: Images, settings: TurnSettings) -> Tensor:
    """Square metres (B,), see `best_turns`."""
    sdf = decoder.sdf(transform(objects.T_object_camera, objects.points), objects.codes)
    scale = sdf.new_tensor(settings.robust_scale_m)
    seen = exposed(
        objects.surfaces,
        objects.T_object_camera,
        objects.labels,
        images,
        settings.visibility,
    )
    wrong = (seen.before | seen.beside).sum(-1) / seen.known.sum(-1).clamp_min(1)
    return surface_objective(sdf, objects.valid, scale) + wrong * settings.exposed_m**2


def _thinned(objects: Posed, count: int) -> Posed:
    points, surface = (
        evenly_chosen(valid, min(count, valid.shape[1]))
        for valid in (objects.valid, objects.surfaces.valid)
    )
    rows = torch.arange(len(points), device=points.device)[:, None]
    kept = (part[rows, points] for part in objects[:2])
    surfaces = SurfacePoints(*(part[rows, surface] for part in objects.surfaces))
    return Posed(*kept, *objects[2:4], surfaces, objects.labels)
