"""The pose part of the corrector as Levenberg-Marquardt on SE(3), with the PNC as a prior.

By Lemma 5 the optimum of eq. (7) over all Z is the optimum of eq. (5) over the pose alone: six
unknowns an object. Directions that the seen surface leaves free (along a plane, about the axis of a
can) have no curvature in the signed distances; there, and only there, the network's correspondences
decide. A search along the viewing ray comes first: a network that shrinks its coordinates moves the
object along it, and a thin shape would else be fitted with its far side, which no camera sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.pose_gradient import PoseStep
from crisp_ros.correction.residuals import (
    MoveSettings,
    evenly_chosen,
    geman_mcclure,
    masked_median,
    surface_objective,
    usable,
    weighted_mean,
    where_rows,
    worth_moving,
)
from crisp_ros.geometry.se3 import exp, from_rotation_translation, transform
from crisp_ros.network.decoder import ShapeDecoder

_UNEXPLAINED_M2 = 1.0  # squared residual that costs as much as one can


@dataclass(frozen=True)
class SecondOrderSettings:
    """Settings of `refine`.

    Attributes:
        evaluations: decoder evaluations of an object at most, those of the last check included.
        points: depth points used while iterating, chosen evenly; the last check uses all.
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


class _Problem(NamedTuple):
    """What stays fixed while iterating; every field's first dimension is the object."""

    points: Tensor  # (A, M, 3)
    pnc: Tensor  # (A, M, 3)
    valid: Tensor  # (A, M) bool
    weights: Tensor  # (A, M) of the correspondences
    codes: Tensor  # (A, C)


class _State(NamedTuple):
    """The best pose so far and its linearisation, in the axes in which it is diagonal."""

    T: Tensor  # (A, 4, 4)
    sdf: Tensor  # (A, M)
    scale: Tensor  # (A,) of the robust loss
    centre: Tensor  # (A, 3) about which the pose turns
    axes: Tensor  # (A, 6, 6) columns: motions of one metre root mean square
    curvature: Tensor  # (A, 6) of the signed distances along them
    slope: Tensor  # (A, 6)
    prior: Tensor  # (A, 6) weights
    prior_slope: Tensor  # (A, 6)
    damping: Tensor  # (A,)


@torch.no_grad()
def refine(
    decoder: ShapeDecoder,
    points: Tensor,
    pnc: Tensor,
    weights: Tensor,
    valid: Tensor,
    codes: Tensor,
    T_object_camera: Tensor,
    settings: SecondOrderSettings | None = None,
) -> PoseStep:
    """Minimises eq. (5) over (R, t): mean_i rho(f_d(R x_i + t | h)) plus the prior of the PNC.

    Args:
        decoder: f_d.
        points: (B, N, 3) depth points, camera frame, metres.
        pnc: (B, N, 3) their predicted object coordinates, metres.
        weights: (B, N) of the correspondences, zero for outliers.
        valid: (B, N) bool, depth points that count.
        codes: (B, C) shape codes.
        T_object_camera: (B, 4, 4) the poses to start from.
        settings: see `SecondOrderSettings`.
    """
    settings = settings or SecondOrderSettings()
    valid = usable(points, valid)
    points = torch.where(valid[..., None], points, 0.0)
    weights = torch.where(usable(pnc, valid), weights, 0.0)
    pnc = torch.where((weights > 0)[..., None], pnc, 0.0)
    problem = _thinned(_Problem(points, pnc, valid, weights, codes), settings.points)

    batch = len(points)
    T = _along_ray(decoder, problem, T_object_camera.to(points.dtype), settings)
    iterations = torch.zeros(batch, dtype=torch.long, device=points.device)
    active = torch.arange(batch, device=points.device)
    state = _linearised(decoder, problem, T, None, settings)
    for _ in range(settings.evaluations - 4):
        move = _step(state, settings)
        candidate = _moved(state, move)
        state, accepted = _judged(decoder, problem, state, candidate, move, settings)
        iterations[active] += 1
        T[active] = state.T
        small = move.square().sum(-1).sqrt() < settings.stop_step_m
        going = ~(small & accepted) & (state.damping < 1e4)
        if not going.all():
            active = active[going]
            problem = _Problem(*(field[going] for field in problem))
            state = _State(*(field[going] for field in state))
        if len(active) == 0:
            break

    scale = points.new_full((batch,), settings.robust_scale_m)
    both = torch.stack((T_object_camera.to(points.dtype), T), dim=1)
    z = transform(both, points[:, None])
    sdf = decoder.sdf(z, codes[:, None])
    start, end = surface_objective(sdf, valid[:, None], scale[:, None]).unbind(1)
    better = worth_moving(start, end, z[:, 0], z[:, 1], pnc, weights, settings.move)
    return PoseStep(
        torch.where(better[:, None, None], T, both[:, 0]),
        torch.where(better, end, start),
        start,
        iterations,
    )


def _along_ray(
    decoder: ShapeDecoder, problem: _Problem, T: Tensor, settings: SecondOrderSettings
) -> Tensor:
    """The poses (A, 4, 4), shifted along the mean viewing ray where that explains much more."""
    problem = _thinned(problem, settings.ray_points)
    rays = torch.nn.functional.normalize(problem.points, dim=-1)
    rays = rays @ T[:, :3, :3].transpose(-1, -2)
    mean_ray = torch.nn.functional.normalize(
        torch.where(problem.valid[..., None], rays, 0.0).sum(1), dim=-1
    )
    offsets = T.new_tensor((0.0, *settings.ray_offsets_m))
    shifted = T[:, None].repeat(1, len(offsets), 1, 1)
    shifted[:, :, :3, 3] += offsets[:, None] * mean_ray[:, None]
    moved = transform(shifted, problem.points[:, None])
    sdf, gradient = decoder.sdf_and_gradient(moved, problem.codes[:, None])
    away = (gradient * rays[:, None]).sum(-1) > settings.away_cosine
    square = torch.where(away, _UNEXPLAINED_M2, sdf.square())
    scale = sdf.new_tensor(1.5 * settings.robust_scale_m)
    cost = weighted_mean(geman_mcclure(square, scale).cost, problem.valid[:, None])
    best = cost.argmin(-1)
    rows = torch.arange(len(T), device=T.device)
    best = torch.where(cost[rows, best] < settings.ray_gain * cost[:, 0], best, 0)
    return shifted[rows, best]


def _thinned(problem: _Problem, count: int) -> _Problem:
    if problem.points.shape[1] <= count:
        return problem
    chosen = evenly_chosen(problem.valid, count)
    rows = torch.arange(len(chosen), device=chosen.device)[:, None]
    return _Problem(
        problem.points[rows, chosen],
        problem.pnc[rows, chosen],
        problem.valid[rows, chosen],
        problem.weights[rows, chosen],
        problem.codes,
    )


def _linearised(
    decoder: ShapeDecoder,
    problem: _Problem,
    T: Tensor,
    previous: _State | None,
    settings: SecondOrderSettings,
) -> _State:
    """The signed distances at T, their slope and curvature, and the prior, in common axes."""
    moved = transform(T, problem.points)
    sdf, gradient = decoder.sdf_and_gradient(moved, problem.codes)
    scale = (2 * masked_median(sdf.abs(), problem.valid)).clamp_min(settings.robust_scale_m)
    if previous is not None:
        scale = torch.minimum(scale, previous.scale)
    count = problem.valid.sum(-1).clamp_min(1)[:, None]
    centre = torch.where(problem.valid[..., None], moved, 0.0).sum(1) / count
    arm = torch.where(problem.valid[..., None], moved - centre[:, None], 0.0)

    weight = geman_mcclure(sdf.square(), scale[:, None]).weight * problem.valid / count
    jacobian = torch.cat((gradient, torch.linalg.cross(arm, gradient)), dim=-1)
    weighted = weight[..., None] * jacobian
    hessian = weighted.transpose(-1, -2) @ jacobian
    slope = (weighted * sdf[..., None]).sum(1)

    error = moved - problem.pnc
    square = error.square().sum(-1)
    known = problem.weights > 0
    reach = (2 * masked_median(square.sqrt(), known)).clamp_min(settings.prior_scale_m)
    trust = problem.weights * geman_mcclure(square, reach[:, None]).weight
    trust = (trust / trust.sum(-1, keepdim=True).clamp_min(1e-12))[..., None]
    prior_slope = torch.cat((trust * error, trust * torch.linalg.cross(arm, error)), -1).sum(1)

    # In these units a motion's length is the root mean square way of the points.
    inertia = arm.transpose(-1, -2) @ arm / count[..., None]
    identity = torch.eye(3, dtype=T.dtype, device=T.device)
    trace = inertia.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
    way, turn = torch.linalg.eigh(trace * identity - inertia)
    units = torch.zeros_like(hessian)
    units[:, :3, :3] = identity
    units[:, 3:, 3:] = turn / way.clamp_min(1e-6).sqrt()[:, None, :]
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


def _step(state: _State, settings: SecondOrderSettings) -> Tensor:
    """The damped Newton step (A, 6) in the state's axes."""
    downhill = -(state.slope + state.prior * state.prior_slope)
    step = downhill / (state.curvature + state.prior + state.damping[:, None])
    length = step.square().sum(-1, keepdim=True).sqrt()
    return step * (settings.step_limit_m / length.clamp_min(1e-12)).clamp_max(1.0)


def _moved(state: _State, step: Tensor) -> Tensor:
    motion = exp((state.axes @ step[..., None]).squeeze(-1))
    rotation, shift = motion[:, :3, :3], motion[:, :3, 3]
    about = state.centre - (rotation @ state.centre[..., None]).squeeze(-1) + shift
    return from_rotation_translation(rotation, about) @ state.T


def _judged(
    decoder: ShapeDecoder,
    problem: _Problem,
    state: _State,
    candidate: Tensor,
    step: Tensor,
    settings: SecondOrderSettings,
) -> tuple[_State, Tensor]:
    """The candidate's linearisation where it is better, else the old one with more damping."""
    new = _linearised(decoder, problem, candidate, state, settings)
    costs = [
        0.5 * weighted_mean(geman_mcclure(sdf.square(), state.scale[:, None]).cost, problem.valid)
        for sdf in (state.sdf, new.sdf)
    ]
    prior = (state.prior * (state.prior_slope * step + 0.5 * step.square())).sum(-1)
    accepted = costs[1] - costs[0] + prior < 0
    damping = torch.where(accepted, 0.2 * state.damping, 8.0 * state.damping).clamp_min(1e-6)
    mixed = (where_rows(accepted, *pair) for pair in zip(new, state, strict=True))
    return _State(*mixed)._replace(damping=damping), accepted
