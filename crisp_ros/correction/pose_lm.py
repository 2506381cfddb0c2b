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
from crisp_ros.geometry.se3 import exp, rotation_about, transform

_UNEXPLAINED_M2 = 1.0  # squared residual that costs as much as one can


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


class _State(NamedTuple):
    """The best pose so far and its linearisation, in the axes in which it is diagonal."""

    T: Tensor  # (A, 4, 4)
    sdf: Tensor  # (A, M)
    scale: Tensor  # (A,) of the robust loss
    centre: Tensor  # (A, 3) about which the pose rotates
    axes: Tensor  # (A, 6, 6) columns: motions of one metre root mean square
    curvature: Tensor  # (A, 6) of the signed distances along them
    slope: Tensor  # (A, 6)
    prior: Tensor  # (A, 6) weights
    prior_slope: Tensor  # (A, 6)
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
    settings = settings or PoseLmSettings()
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
    T = T.clone()
    iterations = torch.zeros(len(T), dtype=torch.long, device=T.device)
    active = torch.arange(len(T), device=T.device)
    state = _linearize(field, correspondences, shapes, T, settings)
    for _ in range(settings.evaluations - 4):
        step = _damped_step(state, settings)
        candidate = _linearize(
            field, correspondences, shapes, _moved_pose(state, step), settings, state
        )
        state, accepted = _accept(correspondences.valid, state, candidate, step)
        iterations[active] += 1
        T[active] = state.T
        small = step.square().sum(-1).sqrt() < settings.stop_step_m
        going = ~(small & accepted) & (state.damping < 1e4)
        left = going.nonzero().squeeze(-1)
        if len(left) == 0:
            break
        if len(left) < len(active):
            active = active[left]
            correspondences, shapes = correspondences.rows(left), shapes.rows(left)
            state = take_rows(state, left)
    return T, iterations


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
    offsets = T.new_tensor((0.0, *settings.ray_offsets_m))
    shifted = T[:, None].repeat(1, len(offsets), 1, 1)
    shifted[:, :, :3, 3] += offsets[:, None] * mean_ray[:, None]
    moved = transform(shifted, points[:, None])
    sdf, gradient = field.sdf_and_gradient(moved, shapes.unsqueeze(1))
    away = (gradient * rays[:, None]).sum(-1) > settings.away_cosine
    square = torch.where(away, _UNEXPLAINED_M2, sdf.square())
    scale = sdf.new_tensor(1.5 * settings.robust_scale_m)
    cost = weighted_mean(geman_mcclure(square, scale).cost, valid[:, None])
    best = cost.argmin(-1)
    rows = torch.arange(len(T), device=T.device)
    best = torch.where(cost[rows, best] < settings.ray_gain * cost[:, 0], best, 0)
    return shifted[rows, best]


def _linearize(
    field: ShapeField,
    correspondences: Correspondences,
    shapes: Shapes,
    T: Tensor,
    settings: PoseLmSettings,
    previous: _State | None = None,
) -> _State:
    """The signed distances at T, their slope and curvature, and the prior, in common axes."""
    points, pnc, weights, valid = correspondences
    moved = transform(T, points)
    sdf, gradient = field.sdf_and_gradient(moved, shapes)
    scale = (2 * masked_median(sdf.abs(), valid)).clamp_min(settings.robust_scale_m)
    if previous is not None:
        scale = torch.minimum(scale, previous.scale)
    count = valid.sum(-1).clamp_min(1)[:, None]
    centre = torch.where(valid[..., None], moved, 0.0).sum(1) / count
    arm = torch.where(valid[..., None], moved - centre[:, None], 0.0)

    weight = geman_mcclure(sdf.square(), scale[:, None]).weight * valid / count
    jacobian = torch.cat((gradient, torch.linalg.cross(arm, gradient)), dim=-1)
    weighted = weight[..., None] * jacobian
    hessian = weighted.transpose(-1, -2) @ jacobian
    slope = (weighted * sdf[..., None]).sum(1)

    error = moved - pnc
    square = error.square().sum(-1)
    known = weights > 0
    reach = (2 * masked_median(square.sqrt(), known)).clamp_min(settings.prior_scale_m)
    trust = weights * geman_mcclure(square, reach[:, None]).weight
    trust = (trust / trust.sum(-1, keepdim=True).clamp_min(1e-12))[..., None]
    prior_slope = torch.cat((trust * error, trust * torch.linalg.cross(arm, error)), -1).sum(1)

    # In these units a motion's length is the root mean square way of the points.
    inertia = arm.transpose(-1, -2) @ arm / count[..., None]
    identity = torch.eye(3, dtype=T.dtype, device=T.device)
    trace = inertia.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    way, principal = torch.linalg.eigh(trace * identity - inertia)
    units = torch.zeros_like(hessian)
    units[:, :3, :3] = identity
    units[:, 3:, 3:] = principal / way.clamp_min(1e-6).sqrt()[:, None, :]
    curvature, axes = torch.linalg.eigh(units.transpose(-1, -2) @ hessian @ units)
    axes = units @ axes
    curvature = curvature.clamp_min(0.0)
    # While the shape is still far off, curvature says little, and the network's place even less.
    trusted = (settings.robust_scale_m / scale).square()[:, None]
    free = 1.0 / (1.0 + (curvature / settings.free_curvature) ** 4)
    return _State(
        T,
        sdf,
        scale,
        centre,
        axes,
        curvature,
        (axes.transpose(-1, -2) @ slope[..., None]).squeeze(-1),
        settings.prior_weight * free * trusted,
        (axes.transpose(-1, -2) @ prior_slope[..., None]).squeeze(-1),
        torch.full_like(scale, 1e-2) if previous is None else previous.damping,
    )


def _damped_step(state: _State, settings: PoseLmSettings) -> Tensor:
    """The damped Newton step (A, 6) in the state's axes."""
    downhill = -(state.slope + state.prior * state.prior_slope)
    step = downhill / (state.curvature + state.prior + state.damping[:, None])
    length = step.square().sum(-1, keepdim=True).sqrt()
    return step * (settings.step_limit_m / length.clamp_min(1e-12)).clamp_max(1.0)


def _moved_pose(state: _State, step: Tensor) -> Tensor:
    """The poses (A, 4, 4) after steps (A, 6) in the state's axes."""
    motion = exp((state.axes @ step[..., None]).squeeze(-1))
    rotation, shift = motion[:, :3, :3], motion[:, :3, 3]
    return rotation_about(rotation, state.centre, state.centre + shift) @ state.T


def _accept(valid: Tensor, state: _State, candidate: _State, step: Tensor) -> tuple[_State, Tensor]:
    """The candidate where it is better, else the old state with more damping; and where it is."""
    costs = [
        0.5 * weighted_mean(geman_mcclure(sdf.square(), state.scale[:, None]).cost, valid)
        for sdf in (state.sdf, candidate.sdf)
    ]
    prior = (state.prior * (state.prior_slope * step + 0.5 * step.square())).sum(-1)
    accepted = costs[1] - costs[0] + prior < 0
    damping = torch.where(accepted, 0.2 * state.damping, 8.0 * state.damping).clamp_min(1e-6)
    return select_rows(accepted, candidate, state)._replace(damping=damping), accepted
