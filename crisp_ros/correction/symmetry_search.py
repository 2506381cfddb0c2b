"""Search among near-symmetric poses for the one that the depth image supports.

The pose solvers go downhill from the network's pose, and cannot move the handle of a mug around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import radians
from typing import NamedTuple

import roma
import torch
from torch import Tensor

from crisp_ros.correction.batch import take_rows
from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.residuals import ANY_FALL, clearly_better, surface_objective
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.correction.visibility import Images, VisibilitySettings, exposed
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.device_constants import constant
from crisp_ros.geometry.fixed_shapes import has_fixed_shapes
from crisp_ros.geometry.se3 import invert, rotation_about, transform
from crisp_ros.observation.frame import Camera

_OFFSETS_RAD = tuple(map(radians, (-12.0, -6.0, 0.0, 6.0, 12.0)))


@dataclass(frozen=True)
class SymmetrySearchSettings:
    """Settings of `resolve_near_symmetries`.

    Attributes:
        points: depth points and surface points of an object that are compared, evenly spaced.
        doubted_above_m: poses whose cost is below the square of this, metres, are kept untested.
        robust_scale_m: of the depth points' distances, metres; large, because the points of a
            handle that are nowhere near the shape have to count.
        exposed_m: a surface point that the camera would have seen, or has seen past, counts as a
            depth point at this distance from the surface, metres.
        significance: share of itself plus the squared surface error by which the cost must fall.
        surface_error_m: of the decoder, metres.
        visibility: what the camera would have seen.
        pose: of the solver that refines the pose found.
        refined_rivals: of the near symmetries of an object that depth contradicts, so many are
            refined before they are excluded.
        rival_pose: of that refinement.
    """

    points: int = 384
    doubted_above_m: float = 2e-3
    robust_scale_m: float = 0.02
    exposed_m: float = 0.01
    significance: float = 0.15
    surface_error_m: float = 1.5e-3
    visibility: VisibilitySettings = field(default_factory=VisibilitySettings)
    pose: PoseLmSettings = field(
        default_factory=lambda: PoseLmSettings(ray_offsets_m=(), move=ANY_FALL)
    )
    refined_rivals: int = 2
    rival_pose: PoseLmSettings = field(
        default_factory=lambda: PoseLmSettings(
            evaluations=8, points=128, ray_offsets_m=(), move=ANY_FALL
        )
    )


class Rivals(NamedTuple):
    """Near symmetries of an object's shape.

    Attributes:
        motions: (A, 4, 4) of the object frame.
        possible: (A,) bool, those that the depth image does not contradict.
    """

    motions: Tensor
    possible: Tensor

    @classmethod
    def none(cls, like: Tensor) -> Rivals:
        """No motions, with the dtype and device of another tensor."""
        return cls(like.new_zeros(0, 4, 4), like.new_zeros(0, dtype=torch.bool))


class ResolvedSymmetries(NamedTuple):
    """Objects whose pose is replaced by one of its near symmetries.

    Attributes:
        rows: (M,) of the batch.
        motions: (M, 4, 4) of the object frame, to be applied to the network's coordinates.
        T_object_camera: (M, 4, 4) the new poses.
        objective: (M,) square metres, over all valid points, at the new poses.
    """

    rows: Tensor
    motions: Tensor
    T_object_camera: Tensor
    objective: Tensor


class _Scene(NamedTuple):
    """Constant data of the cost of poses, on the device."""

    field: ShapeField
    images: Images
    settings: SymmetrySearchSettings


class _Candidates(NamedTuple):
    """Hypotheses with points on their shapes."""

    hypotheses: Hypotheses
    surfaces: SurfacePoints

    @classmethod
    def of(cls, hypotheses: Hypotheses, surfaces: SurfacePoints, count: int) -> _Candidates:
        """Hypotheses with at most `count` depth points and surface points each."""
        observed, surfaces = run_captured(_few, (count,), hypotheses.correspondences, surfaces)
        return cls(hypotheses._replace(correspondences=observed), surfaces)

    def with_poses(self, T_object_camera: Tensor) -> _Candidates:
        return self._replace(hypotheses=self.hypotheses._replace(T_object_camera=T_object_camera))


def _few(
    count: int, correspondences: Correspondences, surfaces: SurfacePoints
) -> tuple[Correspondences, SurfacePoints]:
    return correspondences.sanitized().subsample(count), surfaces.subsample(count)


@torch.no_grad()
def resolve_near_symmetries(
    field: ShapeField,
    hypotheses: Hypotheses,
    surfaces: SurfacePoints,
    motions: Sequence[Tensor],
    images: Images,
    settings: SymmetrySearchSettings | None = None,
) -> ResolvedSymmetries:
    """Find the objects that the depth image shows at a near symmetry of their estimates.

    The cost of a pose is the robust mean squared distance of the depth points to the surface, plus
    that of the surface points that are in space seen to be empty, or outside the object's mask with
    nothing in front of them. The pose of least cost is refined, by depth alone, and taken where its
    cost is clearly lower.

    Args:
        field: f_d.
        hypotheses: B of them, with finite poses.
        surfaces: points on their shapes.
        motions: (M_i, 4, 4) the near symmetries of each object's shape, at least one each.
        images: that the objects were seen in.
        settings: see `SymmetrySearchSettings`.
    """
    settings = settings or SymmetrySearchSettings()
    scene = _Scene(field, images, settings)
    few = _Candidates.of(hypotheses, surfaces, settings.points)
    before = _cost(scene, few)
    doubted = _rows_where(before > settings.doubted_above_m**2)
    rows = _as_index(doubted, before)
    if len(doubted) == 0:
        nothing = hypotheses.T_object_camera[:0]
        return ResolvedSymmetries(rows, nothing, nothing, before[:0])
    some = take_rows(few, rows)
    motion, least = _least_cost(scene, some, [motions[i] for i in doubted])
    promising = least < before[rows]
    if not has_fixed_shapes(before):  # a GPU refines all of them sooner than the host has looked
        kept = _as_index(_rows_where(promising), before)
        rows, some, motion = rows[kept], take_rows(some, kept), motion[kept]
        promising = promising[kept]
        if len(rows) == 0:
            return ResolvedSymmetries(rows, motion, motion, before[rows])
    motion, _ = _least_cost(scene, some, list(_around(motion)))
    whole = hypotheses.correspondences.rows(rows)
    depth_only = Correspondences.of_points(whole.points, whole.valid)
    shapes, T = some.hypotheses.shapes, some.hypotheses.T_object_camera
    step = refine_pose(field, depth_only, shapes, motion @ T, settings.pose)
    after = _cost(scene, some.with_poses(step.T_object_camera))
    better = clearly_better(before[rows], after, settings.significance, settings.surface_error_m)
    better = _as_index(_rows_where(better & promising), before)
    motion = step.T_object_camera @ invert(T)
    return ResolvedSymmetries(
        rows[better], motion[better], step.T_object_camera[better], step.objective[better]
    )


def rivals_by_object(
    field: ShapeField,
    hypotheses: Hypotheses,
    surfaces: SurfacePoints,
    near: Mapping[int, Tensor],
    images: Images,
    settings: SymmetrySearchSettings | None = None,
) -> list[Rivals]:
    """Find the rivals of each object; none of those that have no near symmetries.

    Args:
        field: f_d.
        hypotheses: B of them.
        surfaces: points on their shapes.
        near: near symmetries (M, 4, 4) by the number of an object.
        images: that the objects were seen in.
        settings: see `SymmetrySearchSettings`.
    """
    rivals = [Rivals.none(hypotheses.T_object_camera)] * len(hypotheses.T_object_camera)
    tested = [i for i, motions in near.items() if len(motions) > 0]
    if not tested:
        return rivals
    rows = torch.tensor(tested, device=hypotheses.T_object_camera.device)
    motions = [near[i] for i in tested]
    some = hypotheses.rows(rows), surfaces.rows(rows)
    for i, found in zip(
        tested, rival_motions(field, *some, motions, images, settings), strict=True
    ):
        rivals[i] = found
    return rivals


@torch.no_grad()
def rival_motions(
    field: ShapeField,
    hypotheses: Hypotheses,
    surfaces: SurfacePoints,
    motions: Sequence[Tensor],
    images: Images,
    settings: SymmetrySearchSettings | None = None,
) -> list[Rivals]:
    """Find which near symmetries the depth image does not clearly contradict.

    Arguments as those of `resolve_near_symmetries`, after which it is called.

    Returns:
        B of them; possible are those motions whose cost is not clearly above that of the pose.
    """
    settings = settings or SymmetrySearchSettings()
    scene = _Scene(field, images, settings)
    few = _Candidates.of(hypotheses, surfaces, settings.points)
    stay = torch.eye(4, dtype=motions[0].dtype, device=motions[0].device)[None]
    costs, tried, rows = _motion_costs(scene, few, [torch.cat((stay, part)) for part in motions])
    counts = [1 + len(part) for part in motions]
    own = costs.index_select(0, _as_index(_starts(counts), costs))
    worse = clearly_better(costs, own[rows], settings.significance, settings.surface_error_m)
    parts = zip(tried.split(counts), (~worse).split(counts), strict=True)
    rivals = [Rivals(some[1:], possible[1:]) for some, possible in parts]
    if settings.refined_rivals == 0:
        return rivals
    return _with_refined(scene, few, own, rivals, [part[1:] for part in costs.split(counts)])


def _with_refined(
    scene: _Scene,
    candidates: _Candidates,
    own: Tensor,
    rivals: Sequence[Rivals],
    costs: Sequence[Tensor],
) -> list[Rivals]:
    """The rivals, and of those that depth contradicts the best ones, after a refinement.

    A motion of the prepared library fits the shape to itself, not to the points at hand.
    """
    settings, count = scene.settings, scene.settings.refined_rivals
    motions = []
    for part, cost in zip(rivals, costs, strict=True):
        contradicted = cost.masked_fill(part.possible, torch.inf)
        best = contradicted.topk(min(count, len(cost)), largest=False).indices
        # Equally many of each object; a few twice where it has fewer.
        motions.append(part.motions[best.repeat(count)[:count]])
    rows = torch.arange(len(rivals), device=own.device).repeat_interleave(count)
    some = take_rows(candidates, rows)
    observed, T = some.hypotheses.correspondences, some.hypotheses.T_object_camera
    depth_only = Correspondences.of_points(observed.points, observed.valid)
    start, pose = torch.cat(motions) @ T, settings.rival_pose
    step = refine_pose(scene.field, depth_only, some.hypotheses.shapes, start, pose)
    cost = _cost(scene, some.with_poses(step.T_object_camera))
    worse = clearly_better(cost, own[rows], settings.significance, settings.surface_error_m)
    found = step.T_object_camera @ invert(T)
    new = zip(rivals, found.split(count), (~worse).split(count), strict=True)
    return [
        Rivals(torch.cat((part.motions, more)), torch.cat((part.possible, possible)))
        for part, more, possible in new
    ]


def _motion_costs(
    scene: _Scene, candidates: _Candidates, motions: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Costs (M,) of the objects at their motions (M_i, 4, 4), one after another; these; and rows.

    The rows (M,) are those of the objects.
    """
    T = candidates.hypotheses.T_object_camera
    tried = torch.cat(list(motions)).to(T)
    rows = _as_index([i for i, part in enumerate(motions) for _ in part], T)
    moved = take_rows(candidates, rows).with_poses(tried @ T[rows])
    return _cost(scene, moved), tried, rows


def _least_cost(
    scene: _Scene, candidates: _Candidates, motions: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """The motion of least cost (B, 4, 4) of each object, and that cost (B,)."""
    T = candidates.hypotheses.T_object_camera
    if len(motions) == 0:
        return T, T[:, 0, 0]
    costs, tried, _ = _motion_costs(scene, candidates, motions)
    counts = [len(part) for part in motions]
    places = [(i, k) for i, count in enumerate(counts) for k in range(count)]
    table = costs.new_full((len(motions), max(counts)), torch.inf)
    table[tuple(_as_index([place[axis] for place in places], costs) for axis in (0, 1))] = costs
    least = table.min(-1)
    return tried[_as_index(_starts(counts), costs) + least.indices], least.values


def _rows_where(mask: Tensor) -> list[int]:
    """The rows of a mask (B,), on the host."""
    return [row for row, held in enumerate(mask.tolist()) if held]


def _as_index(rows: Sequence[int], like: Tensor) -> Tensor:
    """Rows as a tensor, on the device of another."""
    return torch.tensor(rows, dtype=torch.long, device=like.device)


def _starts(counts: Sequence[int]) -> list[int]:
    """Return the start index of each part in the concatenation of parts of these lengths."""
    return [0, *accumulate(counts)][: len(counts)]


def _around(motions: Tensor) -> Tensor:
    """Motions (B, 4, 4), and others with slightly other angles about the same axes, (B, 5, 4, 4).

    A handle is thin: from farther away the solver would fit its visible side with its far side.
    """
    rotvec = roma.rotmat_to_rotvec(motions[:, :3, :3])
    angle = rotvec.norm(dim=-1, keepdim=True)
    axis, shift = rotvec / angle, motions[:, :3, 3]
    along = (axis * shift).sum(-1, keepdim=True) * axis
    # The point of the axis nearest to the origin stays, but for the shift along the axis.
    middle = (shift - along) / 2 + torch.linalg.cross(axis, shift) / (2 * (angle / 2).tan())
    angles = angle + constant(_OFFSETS_RAD, angle)
    rotation = roma.rotvec_to_rotmat(angles[..., None] * axis[:, None])
    return rotation_about(rotation, middle[:, None], (middle + along)[:, None])


def _cost(scene: _Scene, candidates: _Candidates) -> Tensor:
    """Square metres (B,), see `resolve_near_symmetries`."""
    (correspondences, T, shapes, labels, *_), surfaces = candidates
    depth, label_image, camera = scene.images
    constants, shared = (scene.field, scene.settings, camera), (depth, label_image)
    rows = correspondences, T, shapes, labels, surfaces
    return run_captured(_costs, constants, *rows, shared=shared)[0]


def _costs(
    field: ShapeField,
    settings: SymmetrySearchSettings,
    camera: Camera,
    depth: Tensor,
    label_image: Tensor,
    *rows: tuple | Tensor,
) -> tuple[Tensor]:
    correspondences, T, shapes, labels, surfaces = rows
    sdf = field.sdf(transform(T, correspondences.points), shapes)
    scale = sdf.new_full((), settings.robust_scale_m)
    images = Images(depth, label_image, camera)
    seen = exposed(surfaces, T, labels, images, settings.visibility)
    wrong = (seen.before | seen.outside).sum(-1) / seen.known.sum(-1).clamp_min(1)
    objective = surface_objective(sdf, correspondences.valid, scale)
    return (objective + wrong * settings.exposed_m**2,)
