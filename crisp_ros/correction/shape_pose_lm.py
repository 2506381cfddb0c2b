"""Pose and shape together by Levenberg-Marquardt, with a Gaussian prior over shapes.

Minimizes over a rigid motion G of the object frame and the latent z of the shape

    mean_i rho(f(G x_i | z)) / s^2  +  kappa mean_j min(f(G e_j | z) - c_j, 0)^2 / s^2  +  |u|^2 / n

where x_i are points that were seen on the surface, e_j points where the camera saw that nothing is
(free space and silhouette in one), c_j how far the surface is away from them at least, s the error
of a point, n the number of points that count as independent, and z = mean + factor u under the
Gaussian prior of the object. All are in the object frame of the start, so that they may come from
any number of views; for one view G T_object_camera is the corrected pose. What was not seen is what
the prior expects. Without the c_j, a decoder puts thin sheets in empty space, where its signed
distance is hardly negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import evenly_spaced, replace_rows, select_rows, take_rows
from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.empty_space import EmptyPoints
from crisp_ros.correction.latent_field import LatentField
from crisp_ros.correction.latent_prior import LatentPrior
from crisp_ros.correction.residuals import geman_mcclure, masked_median, weighted_mean
from crisp_ros.geometry.se3 import exp, rotation_about, transform


@dataclass(frozen=True)
class ShapePoseLmSettings:
    """Settings of `refine_shape_and_pose`.

    Attributes:
        iterations: at most.
        surface_points: of an object, while iterating; the last check uses all.
        empty_points: of points in empty space those that count: half of them nearest to the
            starting shape or in it, the others evenly spaced.
        error_m: s, metres.
        robust_scale_m: least scale of the robust loss on signed distances, metres.
        empty_weight: kappa.
        independent_points: n.
        latent_step: longest step of the latent, standard deviations.
        pose_step_m: longest step of the pose, root mean square motion of the points, metres.
        stop: relative fall of the objective below which an object stops.
    """

    iterations: int = 20
    surface_points: int = 256
    empty_points: int = 192
    error_m: float = 0.002
    robust_scale_m: float = 0.01
    empty_weight: float = 2.0
    independent_points: float = 100.0
    latent_step: float = 2.0
    pose_step_m: float = 0.03
    stop: float = 1e-4


class ShapePoseStep(NamedTuple):
    """Result of `refine_shape_and_pose` for B objects.

    Attributes:
        latents: (B, D).
        motion: (B, 4, 4) the object frame of the start to the one of the result.
        objective: (B,) of the result; never above that of the start.
        iterations: (B,) taken.
    """

    latents: Tensor
    motion: Tensor
    objective: Tensor
    iterations: Tensor


class _Data(NamedTuple):
    """Constant data of A objects."""

    surface: ObjectPoints
    empty: EmptyPoints
    prior: LatentPrior


class _State(NamedTuple):
    """Pose, latent in standard deviations of its prior, and the linearization there."""

    motion: Tensor  # (A, 4, 4)
    deviations: Tensor  # (A, D)
    sdf: Tensor  # (A, N + M) of the points on the surface and in empty space
    hessian: Tensor  # (A, 6 + D, 6 + D)
    slope: Tensor  # (A, 6 + D)
    scale: Tensor  # (A,) of the robust loss
    centre: Tensor  # (A, 3) about which the pose rotates
    reach: Tensor  # (A,) root mean square distance of the points from it
    damping: Tensor  # (A,)


@torch.no_grad()
def refine_shape_and_pose(
    field: LatentField,
    surface: ObjectPoints,
    empty: EmptyPoints,
    latents: Tensor,
    settings: ShapePoseLmSettings | None = None,
    prior: LatentPrior | None = None,
) -> ShapePoseStep:
    """Fit shape and pose to points on the surface and in empty space; never worse than the start.

    Args:
        field: f.
        surface: x_i of B objects.
        empty: e_j of the same objects, none where M = 0 or all weights are zero.
        latents: (B, D) to start from.
        settings: see `ShapePoseLmSettings`.
        prior: of the objects' latents; standard normal by default.
    """
    settings = settings or ShapePoseLmSettings()
    prior = LatentPrior.standard(latents) if prior is None else prior
    surface, empty = surface.sanitized(), empty.sanitized()
    empty = _chosen(field, empty, latents, settings.empty_points)
    few = _Data(surface.subsample(settings.surface_points), empty, prior)
    state, iterations = _iterate(field, few, prior.deviations(latents), settings)
    identity = torch.eye(4, dtype=latents.dtype, device=latents.device).expand_as(state.motion)
    found = prior.latents(state.deviations)
    every = _Data(surface, empty, prior)
    before = _objective(field, every, identity, latents, settings)
    after = _objective(field, every, state.motion, found, settings)
    better = after < before
    return ShapePoseStep(
        torch.where(better[:, None], found, latents),
        torch.where(better[:, None, None], state.motion, identity),
        torch.where(better, after, before),
        iterations,
    )


def _chosen(field: LatentField, empty: EmptyPoints, latents: Tensor, count: int) -> EmptyPoints:
    """The points in empty space that count; see `ShapePoseLmSettings`."""
    if empty.points.shape[1] <= count:
        return empty
    apart = field.sdf(empty.points, latents) - empty.clearance
    apart = torch.where(empty.valid, apart, torch.inf)
    nearest = apart.topk(count // 2, dim=1, largest=False).indices
    spread = evenly_spaced(empty.valid, count - count // 2)
    rows = torch.arange(len(latents), device=latents.device)[:, None]
    return EmptyPoints(*(part[rows, torch.cat([nearest, spread], dim=1)] for part in empty))


def _iterate(
    field: LatentField, data: _Data, deviations: Tensor, settings: ShapePoseLmSettings
) -> tuple[_State, Tensor]:
    """The states after the iterations, and their numbers (B,)."""
    count = len(deviations)
    motion = torch.eye(4).to(deviations).repeat(count, 1, 1)
    final = state = _linearize(field, data, motion, deviations, settings)
    iterations = torch.zeros(count, dtype=torch.long, device=deviations.device)
    active = torch.arange(count, device=deviations.device)
    for _ in range(settings.iterations):
        candidate = _linearize(field, data, *_stepped(state, settings), settings, state)
        # Costs of one scale are compared: a smaller one makes every cost smaller.
        old, new = (
            _cost(s.sdf, data, s.deviations, candidate.scale, settings) for s in (state, candidate)
        )
        accepted = new < old
        damping = torch.where(accepted, 0.3 * state.damping, 6.0 * state.damping)
        gain = (old - new) / old.clamp_min(1e-12)
        state = select_rows(accepted, candidate, state)._replace(damping=damping.clamp_min(1e-6))
        iterations[active] += 1
        final = replace_rows(final, active, state)
        going = ~(accepted & (gain < settings.stop)) & (damping < 1e5)
        left = going.nonzero().squeeze(-1)
        if len(left) == 0:
            break
        if len(left) < len(active):
            active, state, data = active[left], take_rows(state, left), take_rows(data, left)
    return final, iterations


def _linearize(
    field: LatentField,
    data: _Data,
    motion: Tensor,
    deviations: Tensor,
    settings: ShapePoseLmSettings,
    previous: _State | None = None,
) -> _State:
    """The objective with its slope and its Gauss-Newton curvature, at a pose and a latent."""
    surface, empty, prior = data
    split = surface.points.shape[1]
    points = transform(motion, torch.cat([surface.points, empty.points], dim=1))
    found = field.derivatives(points, prior.latents(deviations))
    on_surface, valid = found.sdf[:, :split], surface.valid
    scale = (2 * masked_median(on_surface.abs(), valid)).clamp_min(settings.robust_scale_m)
    if previous is not None:
        scale = torch.minimum(scale, previous.scale)
    share = surface.weights / surface.weights.sum(1, keepdim=True).clamp_min(1e-12)
    centre = (share[..., None] * points[:, :split]).sum(1)
    arm = points - centre[:, None]
    reach = (share * arm[:, :split].square().sum(-1)).sum(1).sqrt().clamp_min(1e-3)

    robust = geman_mcclure(on_surface.square(), scale[:, None])
    blocked = empty.depth_inside(found.sdf[:, split:])
    emptiness = empty.weights / empty.weights.sum(1, keepdim=True).clamp_min(1e-12)
    weights = torch.cat(
        [share * robust.weight, settings.empty_weight * emptiness * (blocked < 0)], dim=1
    )
    residual = torch.cat([on_surface, blocked], dim=1)
    rotation = torch.linalg.cross(arm, found.gradient) / reach[:, None, None]
    slopes = [found.gradient, rotation, found.slope @ prior.factor]
    jacobian = torch.cat(slopes, dim=-1) / settings.error_m
    weighted = weights[..., None] * jacobian
    hessian = weighted.transpose(1, 2) @ jacobian
    slope = (weighted * residual[..., None]).sum(1) / settings.error_m
    expected = torch.zeros_like(slope)
    expected[:, 6:] = 1.0 / settings.independent_points
    hessian = hessian + torch.diag_embed(expected)
    slope[:, 6:] += deviations / settings.independent_points
    damping = torch.full_like(scale, 1e-2) if previous is None else previous.damping
    return _State(motion, deviations, found.sdf, hessian, slope, scale, centre, reach, damping)


def _stepped(state: _State, settings: ShapePoseLmSettings) -> tuple[Tensor, Tensor]:
    """The pose (A, 4, 4) and deviations (A, D) after a damped Newton step of limited length."""
    diagonal = state.hessian.diagonal(dim1=1, dim2=2)
    floor = 1e-3 * diagonal.amax(1, keepdim=True)
    damped = state.hessian + torch.diag_embed(
        state.damping[:, None] * torch.maximum(diagonal, floor)
    )
    step = -torch.linalg.solve(damped, state.slope[..., None]).squeeze(-1)
    length = step[:, :6].norm(dim=1) / settings.pose_step_m
    way = step[:, 6:].norm(dim=1) / settings.latent_step
    step = step / torch.maximum(length, way).clamp_min(1.0)[:, None]
    # Rotations are in units of the points' distance from the centre, so that both have one unit.
    twist = torch.cat([step[:, :3], step[:, 3:6] / state.reach[:, None]], dim=1)
    moved = exp(twist)
    pose = rotation_about(moved[:, :3, :3], state.centre, state.centre + moved[:, :3, 3])
    return pose @ state.motion, state.deviations + step[:, 6:]


def _objective(
    field: LatentField,
    data: _Data,
    motion: Tensor,
    latents: Tensor,
    settings: ShapePoseLmSettings,
) -> Tensor:
    """The objective (B,) with the least scale of the robust loss."""
    points = torch.cat([data.surface.points, data.empty.points], dim=1)
    sdf = field.sdf(transform(motion, points), latents)
    scale = torch.full_like(sdf[:, 0], settings.robust_scale_m)
    return _cost(sdf, data, data.prior.deviations(latents), scale, settings)


def _cost(
    sdf: Tensor, data: _Data, deviations: Tensor, scale: Tensor, settings: ShapePoseLmSettings
) -> Tensor:
    on_surface, in_empty = sdf.split([part.points.shape[1] for part in data[:2]], dim=1)
    robust = geman_mcclure(on_surface.square(), scale[:, None]).cost
    seen = weighted_mean(robust, data.surface.weights)
    blocked = weighted_mean(data.empty.depth_inside(in_empty).square(), data.empty.weights)
    explained = (seen + settings.empty_weight * blocked) / settings.error_m**2
    return explained + deviations.square().sum(1) / settings.independent_points
