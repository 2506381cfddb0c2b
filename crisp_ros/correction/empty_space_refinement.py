"""Refinement of poses against space seen to be empty.

The points of an object that is seen from one side are explained as well by a shape that is shifted
along that side. The background next to the object excludes such poses: there, nothing of the
shape may be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import select_rows, update_rows
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.empty_space import EmptySpaceSettings, empty_points
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.residuals import geman_mcclure, surface_objective, weighted_mean
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.correction.visibility import Images, VisibilitySettings, exposed
from crisp_ros.geometry.cayley import cayley
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.fixed_shapes import has_fixed_shapes
from crisp_ros.geometry.se3 import invert, rotation_about, transform
from crisp_ros.geometry.spd_inverse import spd_inverse
from crisp_ros.observation.frame import Camera

_LEAST_GAIN = 1e-3  # of the cost in an iteration; a CPU stops there
_LEAST_REACH_M = 1e-3  # of points around their mean: about a line through all of them it is zero


@dataclass(frozen=True)
class EmptySpaceRefinementSettings:
    """Settings of `refine_against_empty_space`.

    Attributes:
        exposed_share: a pose with a smaller share of its surface in space seen to be empty, or off
            the object's mask, is kept untested.
        gain: share to which that share must fall.
        loss: share of itself plus the squared surface error by which the depth points' objective
            may rise.
        surface_error_m: of the decoder, metres.
        iterations: of Levenberg-Marquardt.
        points: depth points and surface points of an object that are used, evenly spaced.
        robust_scale_m: of the depth points' distances, metres.
        empty_weight: of the mean squared depth of empty points inside the shape, against the mean
            squared distance of the depth points.
        step_limit_m: longest step, as root mean square motion of the points, metres.
        empty: of the points in empty space.
        visibility: what the camera would have seen.
    """

    exposed_share: float = 0.05
    gain: float = 0.6
    loss: float = 0.3
    surface_error_m: float = 1.5e-3
    iterations: int = 8
    points: int = 256
    robust_scale_m: float = 0.01
    empty_weight: float = 4.0
    step_limit_m: float = 0.02
    empty: EmptySpaceSettings = field(
        default_factory=lambda: EmptySpaceSettings(reach=1.5, border_px=4, tolerance_m=0.015)
    )
    visibility: VisibilitySettings = field(default_factory=VisibilitySettings)


class RefinedPoses(NamedTuple):
    """Poses of B objects after `refine_against_empty_space`.

    Attributes:
        T_object_camera: (B, 4, 4).
        moved: (B,) bool, those that differ from the start.
        objective: (B,) square metres, of the depth points at the pose; zero where not moved.
    """

    T_object_camera: Tensor
    moved: Tensor
    objective: Tensor


class _Observed(NamedTuple):
    """Constant data of A objects."""

    correspondences: Correspondences
    shapes: Shapes
    empty: ObjectPoints  # in the camera frame


class _State(NamedTuple):
    """A pose with the linearization there, by motions (rho, phi) about a centre."""

    T: Tensor  # (A, 4, 4)
    cost: Tensor  # (A,)
    curvature: Tensor  # (A, 6, 6), rotations in units of the points' reach
    slope: Tensor  # (A, 6)
    centre: Tensor  # (A, 3)
    reach: Tensor  # (A,) root mean square distance of the points from it


@torch.no_grad()
def refine_against_empty_space(
    field: ShapeField,
    hypotheses: Hypotheses,
    surfaces: SurfacePoints,
    images: Images,
    settings: EmptySpaceRefinementSettings | None = None,
) -> RefinedPoses:
    """Move shapes out of space seen to be empty, as far as the depth points allow.

    A few steps of Levenberg-Marquardt minimize the mean robust squared distance of the depth points
    to the surface plus the mean squared depth inside the shape of points where the camera saw that
    nothing is. The new pose is taken where much less of the surface is exposed, and the depth
    points are explained as well as before.

    Args:
        field: f_d.
        hypotheses: B of them.
        surfaces: points on their shapes.
        images: that the objects were seen in.
        settings: see `EmptySpaceRefinementSettings`.
    """
    settings = settings or EmptySpaceRefinementSettings()
    constants = settings, images.camera, field
    shared = images.depth, images.labels
    return run_captured(_refined, constants, hypotheses, surfaces, shared=shared)


def _refined(
    settings: EmptySpaceRefinementSettings,
    camera: Camera,
    field: ShapeField,
    depth: Tensor,
    labels: Tensor,
    hypotheses: Hypotheses,
    surfaces: SurfacePoints,
) -> RefinedPoses:
    images, start = Images(depth, labels, camera), hypotheses.T_object_camera
    surfaces = surfaces.subsample(settings.points)
    hypotheses = hypotheses._replace(correspondences=hypotheses.correspondences.sanitized())
    share = _exposed_share(hypotheses, surfaces, images, settings)
    nothing = torch.zeros_like(share)
    kept = RefinedPoses(start, torch.zeros_like(share, dtype=torch.bool), nothing)

    def refined(some: Hypotheses, points: SurfacePoints, before: Tensor) -> RefinedPoses:
        T = _iterated(field, some, images, settings)
        after = _exposed_share(some._replace(T_object_camera=T), points, images, settings)
        both = torch.stack((some.T_object_camera, T), dim=1)
        points, valid = some.correspondences.points, some.correspondences.valid
        sdf = field.sdf(transform(both, points[:, None]), some.shapes.unsqueeze(1))
        scale = sdf.new_full((len(T), 1), settings.robust_scale_m)
        old, new = surface_objective(sdf, valid[:, None], scale).unbind(1)
        allowed = old + settings.loss * (old + settings.surface_error_m**2)
        moved = (after < settings.gain * before) & (new < allowed)
        moved &= torch.isfinite(T).all(-1).all(-1)
        found = RefinedPoses(T, moved, new)
        return select_rows(moved, found, RefinedPoses(some.T_object_camera, moved, 0.0 * new))

    doubted = share > settings.exposed_share
    return update_rows(doubted, kept, refined, hypotheses, surfaces, share)


def _exposed_share(
    hypotheses: Hypotheses,
    surfaces: SurfacePoints,
    images: Images,
    settings: EmptySpaceRefinementSettings,
) -> Tensor:
    """The share (B,) of the surface that is in empty space, or off the mask with nothing before."""
    T, labels = hypotheses.T_object_camera, hypotheses.labels
    seen = exposed(surfaces, T, labels, images, settings.visibility)
    return (seen.before | seen.outside).sum(-1) / seen.known.sum(-1).clamp_min(1)


def _iterated(
    field: ShapeField,
    hypotheses: Hypotheses,
    images: Images,
    settings: EmptySpaceRefinementSettings,
) -> Tensor:
    """The poses (A, 4, 4) after all iterations."""
    observed, T, shapes, labels, *_ = hypotheses
    empty = empty_points(observed, T, labels, images, settings.empty)
    empty = empty._replace(points=transform(invert(T).to(empty.points), empty.points))
    data = _Observed(observed.subsample(settings.points), shapes, empty)
    state = _linearized(field, data, T, settings)
    damping = torch.full_like(state.cost, 1e-3)
    for _ in range(settings.iterations):
        candidate = _linearized(field, data, _stepped(state, damping, settings), settings)
        accepted = candidate.cost < state.cost
        gain = (state.cost - candidate.cost) / state.cost.clamp_min(1e-12)
        state = select_rows(accepted, candidate, state)
        damping = torch.where(accepted, 0.3 * damping, 8.0 * damping).clamp(1e-6, 1e4)
        if not has_fixed_shapes(gain) and bool(((gain >= 0) & (gain < _LEAST_GAIN)).all()):
            break
    return state.T


def _linearized(
    field: ShapeField, data: _Observed, T: Tensor, settings: EmptySpaceRefinementSettings
) -> _State:
    (points, _, _, valid), shapes, empty = data
    split = points.shape[1]
    moved = transform(T, torch.cat((points, empty.points), dim=1))
    sdf, gradient = field.sdf_and_gradient(moved, shapes)
    share = valid / valid.sum(-1, keepdim=True).clamp_min(1)
    seen = torch.where(valid[..., None], moved[:, :split], 0.0)
    centre = (share[..., None] * seen).sum(1)
    arm = moved - centre[:, None]
    way = torch.where(valid, arm[:, :split].square().sum(-1), 0.0)
    reach = (share * way).sum(1).sqrt().clamp_min(_LEAST_REACH_M)

    robust = geman_mcclure(sdf[:, :split].square(), sdf.new_full((), settings.robust_scale_m))
    inside = torch.where(empty.valid, sdf[:, split:].clamp_max(0.0), 0.0)
    counted = empty.valid / empty.valid.sum(-1, keepdim=True).clamp_min(1)
    weight = settings.empty_weight * counted * (inside < 0)
    weight = torch.cat((share * robust.weight, weight), dim=-1)
    residual = torch.cat((torch.where(valid, sdf[:, :split], 0.0), inside), dim=-1)
    rotation = torch.linalg.cross(arm, gradient) / reach[:, None, None]
    jacobian = torch.cat((gradient, rotation), dim=-1)
    weighted = weight[..., None] * jacobian
    curvature = (weighted.transpose(-1, -2) @ jacobian).double()
    slope = (residual[:, None] @ weighted)[:, 0].double()
    cost = weighted_mean(robust.cost, share)
    cost = cost + settings.empty_weight * weighted_mean(inside.square(), counted)
    return _State(T, cost, curvature, slope, centre, reach)


def _stepped(state: _State, damping: Tensor, settings: EmptySpaceRefinementSettings) -> Tensor:
    """The poses (A, 4, 4) after a damped Newton step of limited length."""
    damped = torch.diag_embed(damping.double()[:, None].expand(-1, 6))
    step = -(spd_inverse(state.curvature + damped) @ state.slope[..., None]).squeeze(-1)
    length = step.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    step = (step * (settings.step_limit_m / length).clamp_max(1.0)).to(state.T)
    motion = cayley(torch.cat((step[:, :3], step[:, 3:] / state.reach[:, None]), dim=-1))
    target = state.centre + motion[:, :3, 3]
    return rotation_about(motion[:, :3, :3], state.centre, target) @ state.T
