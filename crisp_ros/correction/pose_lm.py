"""The pose part of the corrector as Levenberg-Marquardt on SE(3), with the PNC as a prior.

By Lemma 5 the optimum of eq. (7) over all Z is the optimum of eq. (5) over the pose alone: six
unknowns an object. Directions that the seen surface leaves free (along a plane, about the axis of a
can) have no curvature in the signed distances; there, and only there, the network's correspondences
decide. A search along the viewing ray comes first: a network that shrinks its coordinates moves the
object along it, and without the search the depth points of a thin shape could end up on its far
side, which no camera sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import select_rows, take_rows
from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.residuals import (
    MoveSettings,
    geman_mcclure,
    masked_median,
    surface_objective,
    weighted_mean,
    worth_moving,
)
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.steps import PoseStep
from crisp_ros.geometry.cayley import cayley
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.device_constants import constant
from crisp_ros.geometry.fixed_shapes import has_fixed_shapes
from crisp_ros.geometry.se3 import from_rotation_translation, transform
from crisp_ros.geometry.spd_inverse import spd_inverse

_UNEXPLAINED_M2 = 1.0  # squared residual that costs as much as one can
_LEAST_WAY_M2 = 1e-6  # added to that of a rotation: about a line through all points it is zero


@dataclass(frozen=True)
class PoseLmSettings:
    """Settings of `refine_pose`.

    Attributes:
        evaluations: field evaluations of an object at most, those of the last check included.
        points: depth points used while iterating, evenly spaced; the last check uses all.
        robust_scale_m: c of the robust loss on signed distances, metres.
        prior_weight: weight of the PNC correspondences against the signed distances.
        free_curvature: mean squared slope of the distances along a motion below which the prior
            decides that motion; above it the prior fades.
        ray_offsets_m: shifts along the viewing ray that are tried first, metres; networks shrink
            their coordinates, which moves the object along that ray.
        ray_points: depth points used for that.
        ray_gain: the shift must lower the cost to this share to be taken.
        away_cosine: in that search a point is unexplained where its outward normal is along the
            viewing ray by this cosine, on a side that faces away from the camera.
        prior_scale_m: least scale of the robust loss on correspondences, metres.
        step_limit_m: longest step, as root mean square motion of the points, metres.
        stop_step_m: an object stops when a step is shorter than this, metres.
        move: when the start is left.
    """

    evaluations: int = 12
    points: int = 256
    robust_scale_m: float = 0.01
    prior_weight: float = 0.01
    free_curvature: float = 0.02
    ray_offsets_m: tuple[float, ...] = (-0.04, -0.025, -0.012, 0.012, 0.025, 0.04)
    ray_points: int = 48
    ray_gain: float = 0.8
    away_cosine: float = 0.3
    prior_scale_m: float = 0.005
    step_limit_m: float = 0.03
    stop_step_m: float = 5e-5
    move: MoveSettings = field(default_factory=MoveSettings)


class _Rows(NamedTuple):
    """Constant data of A objects while they are iterated.

    Poses are those of the points from their middle, and motions come before them, in the axes of
    the camera: there the arms of the points, and what follows from them, stay as they are.
    """

    arms: Tensor  # (A, 2 M, 3) the points from their middle, twice
    pnc: Tensor  # (A, M, 3)
    shapes: Shapes
    counted: Tensor  # (A, 2, M) bool: valid points, and those with a correspondence
    shares: Tensor  # (A, 2, M) of each valid point, zero for the others; weights of the prior
    metric: Tensor  # (A, 6, 6) squared root mean square way of the points
    inverse_metric: Tensor  # (A, 6, 6)


class _State(NamedTuple):
    """The best pose so far and its linearization, about motions (rho, phi) around the middle."""

    T: Tensor  # (A, 4, 4)
    sdf: Tensor  # (A, M)
    scale: Tensor  # (A,) of the robust loss
    slope: Tensor  # (A, 6, 1) of the signed distances
    curvature: Tensor  # (A, 6, 6) of the signed distances
    prior: Tensor  # (A, 6, 6) curvature of the prior
    prior_slope: Tensor  # (A, 6, 1)
    damping: Tensor  # (A,)


@torch.no_grad()
def refine_pose(
    field: ShapeField,
    correspondences: Correspondences,
    shapes: Shapes,
    T_object_camera: Tensor,
    settings: PoseLmSettings | None = None,
) -> PoseStep:
    """Minimize eq. (5) over (R, t): mean_i rho(f_d(R x_i + t | h)) plus the prior of the PNC.

    Args:
        field: f_d.
        correspondences: of B objects; the weights are those of the prior.
        shapes: (B,) of the objects.
        T_object_camera: (B, 4, 4) the poses to start from.
        settings: see `PoseLmSettings`.
    """
    constants = field, settings or PoseLmSettings()
    return run_captured(_refined_pose, constants, correspondences, shapes, T_object_camera)


def _refined_pose(
    field: ShapeField,
    settings: PoseLmSettings,
    correspondences: Correspondences,
    shapes: Shapes,
    T_object_camera: Tensor,
) -> PoseStep:
    observed = correspondences.sanitized()
    few = observed.subsample(settings.points)
    start = T_object_camera.to(observed.points.dtype)
    T = _shift_along_ray(field, few, shapes, start, settings)
    T, iterations = _iterate(field, few, shapes, T, settings)

    scale = T.new_full((len(T), 1), settings.robust_scale_m)
    both = torch.stack((start, T), dim=1)
    z = transform(both, observed.points[:, None])
    sdf = field.sdf(z, shapes.unsqueeze(1))
    before, after = surface_objective(sdf, observed.valid[:, None], scale).unbind(1)
    better = worth_moving(before, after, z[:, 0], z[:, 1], observed, settings.move)
    return PoseStep(
        torch.where(better[:, None, None], T, start),
        torch.where(better, after, before),
        before,
        iterations,
    )


def _iterate(
    field: ShapeField,
    correspondences: Correspondences,
    shapes: Shapes,
    T: Tensor,
    settings: PoseLmSettings,
) -> tuple[Tensor, Tensor]:
    """The poses (B, 4, 4) after Levenberg-Marquardt from poses T, and the iterations (B,)."""
    rows, middle = _rows(correspondences, shapes)
    T = torch.bmm(T, _shift(middle))
    state = _linearize(field, rows, T, settings)
    steps = settings.evaluations - 4
    if has_fixed_shapes(T):
        T, iterations = _iterate_all(field, rows, state, settings, steps)
        return torch.bmm(T, _shift(-middle)), iterations
    iterations = torch.zeros(len(T), dtype=torch.long, device=T.device)
    active = torch.arange(len(T), device=T.device)
    for _ in range(steps):
        state, going = _next_state(field, rows, state, settings)
        iterations[active] += 1
        T[active] = state.T
        left = going.nonzero().squeeze(-1)
        if len(left) == 0:
            break
        if len(left) < len(active):
            active, rows, state = active[left], take_rows(rows, left), take_rows(state, left)
    return torch.bmm(T, _shift(-middle)), iterations


def _iterate_all(
    field: ShapeField, rows: _Rows, state: _State, settings: PoseLmSettings, steps: int
) -> tuple[Tensor, Tensor]:
    """`_iterate` without a look at the values: the state of finished objects stays."""
    going = torch.ones_like(state.scale, dtype=torch.bool)
    iterations = torch.zeros_like(state.scale, dtype=torch.long)
    for _ in range(steps):
        new, go_on = _next_state(field, rows, state, settings)
        iterations = iterations + going
        state = select_rows(going, new, state)
        going = going & go_on
    return state.T, iterations


def _next_state(
    field: ShapeField, rows: _Rows, state: _State, settings: PoseLmSettings
) -> tuple[_State, Tensor]:
    """The state after one step, and which objects (A,) go on."""
    step = _damped_step(rows, state, settings)
    candidate = _linearize(field, rows, _moved_pose(state, step), settings, state)
    state = _accept(rows, state, candidate, step)
    # One that was not accepted is followed by smaller ones.
    small = _length(rows.metric, step) < settings.stop_step_m
    return state, ~small & (state.damping < 1e4)


def _shift_along_ray(
    field: ShapeField,
    correspondences: Correspondences,
    shapes: Shapes,
    T: Tensor,
    settings: PoseLmSettings,
) -> Tensor:
    """The poses (B, 4, 4), shifted along the mean viewing ray where that explains much more."""
    points, _, _, valid = correspondences.subsample(settings.ray_points)
    rays = torch.nn.functional.normalize(points, dim=-1)
    rays = rays @ T[:, :3, :3].transpose(-1, -2)
    mean_ray = torch.nn.functional.normalize(
        torch.where(valid[..., None], rays, 0.0).sum(1), dim=-1
    )
    offsets = constant((0.0, *settings.ray_offsets_m), T)
    shifted = T[:, None].repeat(1, len(offsets), 1, 1)
    shifted[:, :, :3, 3] += offsets[:, None] * mean_ray[:, None]
    moved = transform(shifted, points[:, None])
    sdf, gradient = field.sdf_and_gradient(moved, shapes.unsqueeze(1))
    away = (gradient * rays[:, None]).sum(-1) > settings.away_cosine
    square = torch.where(away, _UNEXPLAINED_M2, sdf.square())
    scale = sdf.new_full((), 1.5 * settings.robust_scale_m)
    cost = weighted_mean(geman_mcclure(square, scale).cost, valid[:, None])
    best = cost.argmin(-1)
    rows = torch.arange(len(T), device=T.device)
    best = torch.where(cost[rows, best] < settings.ray_gain * cost[:, 0], best, 0)
    return shifted[rows, best]


def _rows(correspondences: Correspondences, shapes: Shapes) -> tuple[_Rows, Tensor]:
    """The data that all iterations share, and the middles (A, 3) of the points."""
    points, pnc, weights, valid = correspondences
    share = valid / valid.sum(-1, keepdim=True).clamp_min(1)
    middle = torch.bmm(share[:, None], points)
    arm = points - middle
    metric, inverse = _metric(arm, share)
    rows = _Rows(
        torch.cat((arm, arm), dim=1),
        pnc,
        shapes,
        torch.stack((valid, weights > 0), dim=1),
        torch.stack((share, weights), dim=1),
        metric,
        inverse,
    )
    return rows, middle[:, 0]


def _shift(vector: Tensor) -> Tensor:
    """The translations (A, 4, 4) by vectors (A, 3)."""
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device).expand(len(vector), 3, 3)
    return from_rotation_translation(identity, vector)


def _linearize(
    field: ShapeField,
    rows: _Rows,
    T: Tensor,
    settings: PoseLmSettings,
    previous: _State | None = None,
) -> _State:
    """The signed distances at T, their slope and curvature, and the prior."""
    count = rows.pnc.shape[1]
    rotation, arms = T[:, :3, :3], rows.arms
    moved = torch.baddbmm(T[:, None, :3, 3], arms[:, :count], rotation.mT)
    sdf, gradient = field.sdf_and_gradient(moved, rows.shapes)
    # The directions in which the distances to the surface and to the coordinates grow.
    vectors = torch.bmm(torch.cat((gradient, moved - rows.pnc), dim=1), rotation)
    levers = torch.cat((vectors, torch.linalg.cross(arms, vectors)), dim=-1)
    error = torch.linalg.vector_norm(vectors[:, count:], dim=-1)
    residuals = torch.stack((sdf, error), dim=1)

    scales = 2 * masked_median(residuals.abs(), rows.counted)
    scales = torch.maximum(scales, _least_scales(settings, scales))
    scale = scales[:, 0]
    if previous is not None:
        scale = torch.minimum(scale, previous.scale)
        scales = torch.stack((scale, scales[:, 1]), dim=1)
    weights = geman_mcclure(residuals.square(), scales[..., None]).weight * rows.shares
    jacobian, weight = levers[:, :count], weights[:, :1]
    trust = weights[:, 1:]
    trust = trust / trust.sum(-1, keepdim=True).clamp_min(1e-12)
    weighted = weight.mT * jacobian
    curvature = torch.bmm(weighted.mT, jacobian).double()
    slope = torch.bmm(sdf[:, None], weighted).double().mT
    prior_slope = torch.bmm(trust, levers[:, count:]).double().mT

    # While the shape is still far off, curvature says little, and the network's place even less.
    trusted = settings.prior_weight * (settings.robust_scale_m / scale).square()
    prior = _prior(curvature, rows.inverse_metric, settings) * trusted[:, None, None]
    pulled = torch.bmm(prior, torch.bmm(rows.inverse_metric, prior_slope))
    damping = torch.full_like(scale, 1e-2) if previous is None else previous.damping
    return _State(T, sdf, scale, slope, curvature, prior, pulled, damping)


def _least_scales(settings: PoseLmSettings, like: Tensor) -> Tensor:
    """The least scales (2,) of the robust losses on signed distances and on correspondences."""
    return constant((settings.robust_scale_m, settings.prior_scale_m), like)


def _metric(arm: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """The metric G (A, 6, 6) of motions, float64, and its inverse.

    xi^T G xi is the squared root mean square way of the points, for a motion xi about their middle.

    Args:
        arm: (A, M, 3) the points from their middle, metres.
        share: (A, M) of them.
    """
    arm = arm.double()
    spread = (share[..., None] * arm).transpose(-1, -2) @ arm
    trace = spread.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    metric = torch.eye(6, dtype=arm.dtype, device=arm.device).repeat(len(arm), 1, 1)
    inverse = metric.clone()
    rotation = (trace + _LEAST_WAY_M2) * metric[:, :3, :3] - spread
    metric[:, 3:, 3:] = rotation
    # Of a symmetric 3x3 matrix: the cross products of its rows over its determinant.
    adjugate = torch.linalg.cross(rotation.roll(-1, -2), rotation.roll(-2, -2))
    determinant = (rotation[:, 0] * adjugate[:, 0]).sum(-1)
    inverse[:, 3:, 3:] = adjugate / determinant[:, None, None]
    return metric, inverse


def _prior(curvature: Tensor, inverse_metric: Tensor, settings: PoseLmSettings) -> Tensor:
    """The curvature of the prior (A, 6, 6): 1 along motions that are free, fading for the others.

    With principal curvatures l in the metric, the prior along their axes is 1 / (1 + (l / f)^4).
    As a function of the matrices this is (G^-1 + (G^-1 C / f)^4 G^-1)^-1, without an eigenvalue.
    """
    square = torch.bmm(inverse_metric, curvature / settings.free_curvature)
    square = torch.bmm(square, square)
    fourth = torch.bmm(torch.bmm(square, inverse_metric), square.mT)
    return spd_inverse(inverse_metric + fourth)


def _damped_step(rows: _Rows, state: _State, settings: PoseLmSettings) -> Tensor:
    """The damped Newton step (A, 6, 1) as a motion about the middle of the points, float64."""
    matrix = state.curvature + state.prior + state.damping[:, None, None] * rows.metric
    step = torch.bmm(spd_inverse(matrix), -(state.slope + state.prior_slope))
    length = _length(rows.metric, step).clamp_min(1e-12)
    return step * (settings.step_limit_m / length).clamp_max(1.0)[:, None, None]


def _length(metric: Tensor, step: Tensor) -> Tensor:
    """The root mean square way (A,) of the points in steps (A, 6, 1), metres."""
    return torch.bmm(step.mT, torch.bmm(metric, step)).clamp_min(0.0).sqrt()[:, 0, 0]


def _moved_pose(state: _State, step: Tensor) -> Tensor:
    """The poses (A, 4, 4) after steps (A, 6, 1)."""
    return torch.bmm(state.T, cayley(step[..., 0]).to(state.T.dtype))


def _accept(rows: _Rows, state: _State, candidate: _State, step: Tensor) -> _State:
    """The candidate where it is better, else the old state with more damping."""
    both = torch.stack((state.sdf, candidate.sdf), dim=1)
    robust = geman_mcclure(both.square(), state.scale[:, None, None]).cost
    costs = 0.5 * (robust * rows.shares[:, :1]).sum(-1)
    bent = state.prior_slope + 0.5 * torch.bmm(state.prior, step)
    prior = torch.bmm(step.mT, bent)[:, 0, 0]
    accepted = costs[:, 1] - costs[:, 0] + prior < 0
    damping = torch.where(accepted, 0.2 * state.damping, 8.0 * state.damping).clamp_min(1e-6)
    if has_fixed_shapes(accepted) or not bool(accepted.all()):
        candidate = select_rows(accepted, candidate, state)
    return candidate._replace(damping=damping)
