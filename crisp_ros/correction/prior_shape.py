"""Pose and shape of objects that nobody has scanned, from their depth points and a prior alone.

The frame of a shape is common to its kind: z is up, or along it. An object rests on a support in
one of a few ways, so those times a few rotations about the support's normal are tried with the mean
shape. A few steps of `refine_shape_and_pose` rank them, and the best are solved to the end. Space
that the camera saw to be empty, and what is under the support, keeps the unseen part in bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.correspondences import Correspondences, ObjectPoints
from crisp_ros.correction.empty_space import EmptySpaceSettings, empty_points
from crisp_ros.correction.latent_field import LatentField
from crisp_ros.correction.shape_pose_lm import (
    ShapePoseLmSettings,
    ShapePoseStep,
    refine_shape_and_pose,
)
from crisp_ros.correction.surface import fill_unit_cube
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import from_rotation_translation, transform

_RESTING = (  # rotations that put z up, down, and to four sides
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
)
_NEAR_POINTS = 128  # nearest to a surface, where it is compared with another
_EDGE_SHARE = 0.02  # of the points, that may be outside the box of those seen


class Support(NamedTuple):
    """Planes on which B objects rest, camera frame: points above have normal x + offset > 0.

    Attributes:
        normal: (B, 3) unit; where no plane is known, the direction taken for up.
        offset: (B,) metres.
        known: (B,) bool.
    """

    normal: Tensor
    offset: Tensor
    known: Tensor


@dataclass(frozen=True)
class PriorShapeSettings:
    """Settings of `fit_prior_shapes`.

    Attributes:
        rotations: about the support's normal that are tried.
        ranking: of the solver that ranks the starts.
        finalists: starts that are solved to the end.
        solver: of the solver for these.
        empty_space: of the points in empty space.
        below_m: depths under the support where nothing of an object is, metres.
        rival_margin: another finalist explains an object nearly as well where its objective is
            larger by this share at most.
        spread_limit_m: a shape is not determined where such a rival's surface is farther away in
            the mean, metres.
        compared_points: around the object, on which the finalists' surfaces are compared.
    """

    rotations: int = 4
    ranking: ShapePoseLmSettings = field(
        default_factory=lambda: ShapePoseLmSettings(
            iterations=6, surface_points=96, empty_points=96
        )
    )
    finalists: int = 4
    solver: ShapePoseLmSettings = field(default_factory=ShapePoseLmSettings)
    empty_space: EmptySpaceSettings = field(default_factory=EmptySpaceSettings)
    below_m: tuple[float, ...] = (0.006, 0.025)
    rival_margin: float = 0.25
    spread_limit_m: float = 0.008
    compared_points: int = 2048


class PriorFit(NamedTuple):
    """Poses and shapes of B objects.

    Attributes:
        T_object_camera: (B, 4, 4).
        latents: (B, D).
        objective: (B,) of `refine_shape_and_pose`.
        iterations: (B,).
        spread_m: (B,) largest mean distance of the surface from that of another solution that
            explains the object nearly as well, metres; 0 where there is none.
    """

    T_object_camera: Tensor
    latents: Tensor
    objective: Tensor
    iterations: Tensor
    spread_m: Tensor


class PriorObservation(NamedTuple):
    """Depth points of one object and the empty space around it, camera frame.

    Attributes:
        seen: depth points (N, 3).
        empty: points (M, 3) where the camera saw that nothing is.
        support: of the object, without a batch dimension.
    """

    seen: ObjectPoints
    empty: ObjectPoints
    support: Support


@torch.no_grad()
def fit_prior_shapes(
    shapes: LatentField,
    dimensions: int,
    observed: Correspondences,
    objects: Tensor,
    images: Images,
    support: Support,
    settings: PriorShapeSettings | None = None,
) -> PriorFit:
    """Fit pose and latent of each object to its depth points and to what the camera saw empty.

    One object costs about 24 short solutions and 4 whole ones: a second of a core.

    Args:
        shapes: f.
        dimensions: D of their latents.
        observed: of B objects.
        objects: (B,) their labels in the label image.
        images: that they were seen in.
        support: of the objects.
        settings: see `PriorShapeSettings`.
    """
    settings = settings or PriorShapeSettings()
    seen = observe_for_prior(observed, objects, images, support, settings)
    fits = [search_prior_shape(shapes, dimensions, one, settings) for one in seen]
    if not fits:
        none = observed.points.new_zeros((0, dimensions))
        return PriorFit(
            none.new_zeros((0, 4, 4)), none, none.sum(1), none.sum(1).long(), none.sum(1)
        )
    return PriorFit(*(torch.stack(parts) for parts in zip(*fits, strict=True)))


@torch.no_grad()
def observe_for_prior(
    observed: Correspondences,
    objects: Tensor,
    images: Images,
    support: Support,
    settings: PriorShapeSettings,
) -> list[PriorObservation]:
    """Collect what was seen of objects and around them; arguments as of `fit_prior_shapes`."""
    observed = observed.sanitized()
    still = torch.eye(4, dtype=observed.points.dtype, device=observed.points.device)
    empty = empty_points(
        observed, still.expand(len(objects), 4, 4), objects, images, settings.empty_space
    )
    empty = _with_support(empty, observed, support, settings.below_m)
    return [
        PriorObservation(
            ObjectPoints.of(observed.points[k], observed.valid[k]),
            ObjectPoints(empty.points[k], empty.weights[k]),
            Support(*(part[k] for part in support)),
        )
        for k in range(len(objects))
    ]


def starting_poses(seen: ObjectPoints, support: Support, rotations: int) -> Tensor:
    """Poses (H, 4, 4), T_object_camera, of an object whose shape is not known.

    The middle of its box is that of the points seen across the view and between top and support;
    away from the camera it is as far behind the front as the object is wide, at the least.

    Args:
        seen: points (N, 3) of one object, camera frame.
        support: of the object, without a batch dimension.
        rotations: about the normal.
    """
    points = seen.points[seen.valid]
    up = support.normal
    view = torch.nn.functional.normalize(points.mean(0), dim=0)
    across = torch.linalg.cross(view, up)
    if across.norm() < 1e-3:  # seen from above
        across = torch.linalg.cross(torch.roll(up, 1), up)
    across = torch.nn.functional.normalize(across, dim=0)
    axes = torch.stack([across, torch.linalg.cross(up, across), up])  # across, away, up
    local = points @ axes.T
    edges = torch.tensor([_EDGE_SHARE, 1.0 - _EDGE_SHARE]).to(local)
    low, high = local.quantile(edges, dim=0)
    bottom = torch.where(support.known, -support.offset, low[2])
    middle = 0.5 * (low + high)
    middle[2] = 0.5 * (torch.minimum(bottom, high[2]) + high[2])
    middle[1] += 0.5 * (high[0] - low[0] - high[1] + low[1]).clamp_min(0.0)
    resting = torch.tensor(_RESTING).to(local)
    angles = torch.arange(rotations).to(local) * (2.0 * torch.pi / rotations)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    about_up = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, zero + 1], dim=-1)
    rotation = (resting[:, None] @ about_up.view(-1, 3, 3)).flatten(0, 1)
    shift = -(rotation @ middle[:, None]).squeeze(-1)
    return from_rotation_translation(rotation @ axes, shift)


@torch.no_grad()
def search_prior_shape(
    shapes: LatentField,
    dimensions: int,
    observation: PriorObservation,
    settings: PriorShapeSettings,
) -> PriorFit:
    """Search pose and latent of one object from many starts; the fit has no batch dimension.

    Args:
        shapes: f.
        dimensions: D of their latents.
        observation: of the object.
        settings: see `PriorShapeSettings`.
    """
    seen, empty, support = observation
    if not bool(seen.valid.any()):
        still = torch.eye(4).to(seen.points)
        none = seen.points.new_zeros(dimensions)
        infinite = torch.full_like(none.sum(), torch.inf)
        return PriorFit(
            still, none, infinite, torch.zeros_like(infinite, dtype=torch.long), infinite
        )
    starts = starting_poses(seen, support, settings.rotations)
    mean = seen.points.new_zeros((len(starts), dimensions))
    ranked = _refined(shapes, seen, empty, starts, mean, settings.ranking)
    best = ranked.objective.argsort()[: settings.finalists]
    poses = ranked.motion[best] @ starts[best]
    step = _refined(shapes, seen, empty, poses, ranked.latents[best], settings.solver)
    poses, first = step.motion @ poses, step.objective.argmin()
    spread = rival_spread(shapes, seen, poses, step, settings)
    return PriorFit(
        poses[first], step.latents[first], step.objective[first], step.iterations[first], spread
    )


def rival_spread(
    shapes: LatentField,
    seen: ObjectPoints,
    poses: Tensor,
    step: ShapePoseStep,
    settings: PriorShapeSettings,
) -> Tensor:
    """The largest distance of the best solution's surface from that of a rival.

    Args:
        shapes: f.
        seen: depth points of the object.
        poses: (K, 4, 4) T_object_camera of the solutions.
        step: their latents and objectives.
        settings: what counts as a rival.

    Returns:
        Metres, a scalar; the mean over points near the best surface. 0 without a rival.
    """
    points = seen.points[seen.valid]
    middle, reach = points.mean(0), (points - points.mean(0)).norm(dim=-1).max()
    cube = fill_unit_cube(settings.compared_points, points) - 0.5
    around = transform(poses, (middle + 4.0 * reach * cube)[None])
    sdf = shapes.sdf(around, step.latents)
    best = step.objective.argmin()
    near = sdf[best].abs().topk(_NEAR_POINTS, largest=False).indices
    apart = (sdf[:, near] - sdf[best, near]).abs().mean(1)
    rival = step.objective <= (1.0 + settings.rival_margin) * step.objective[best]
    return torch.where(rival, apart, 0.0).max()


def _refined(
    shapes: LatentField,
    seen: ObjectPoints,
    empty: ObjectPoints,
    poses: Tensor,
    latents: Tensor,
    settings: ShapePoseLmSettings,
) -> ShapePoseStep:
    def moved(points: ObjectPoints) -> ObjectPoints:
        weights = points.weights.expand(len(poses), -1)
        return ObjectPoints(transform(poses, points.points[None]), weights)

    return refine_shape_and_pose(shapes, moved(seen), moved(empty), latents, settings)


def _with_support(
    empty: ObjectPoints, observed: Correspondences, support: Support, depths: tuple[float, ...]
) -> ObjectPoints:
    """The points in empty space with a grid of points under the support of each object."""
    normal = support.normal
    away = torch.eye(3).to(normal)[normal.abs().argmin(-1)]
    first = torch.nn.functional.normalize(torch.linalg.cross(normal, away), dim=-1)
    second = torch.linalg.cross(normal, first)
    counted = observed.valid.sum(1).clamp_min(1)[:, None]
    middle = torch.where(observed.valid[..., None], observed.points, 0.0).sum(1) / counted
    reach = torch.where(observed.valid, (observed.points - middle[:, None]).norm(dim=-1), 0.0).amax(
        1
    )
    height = (middle * normal).sum(-1) + support.offset
    foot = middle - height[:, None] * normal
    steps = torch.linspace(-1.0, 1.0, 9).to(normal)
    grid = torch.cartesian_prod(steps, steps, torch.tensor(depths).to(normal))
    across = reach[:, None, None] * (grid[:, :1] * first[:, None] + grid[:, 1:2] * second[:, None])
    below = foot[:, None] + across - grid[:, 2:] * normal[:, None]
    weights = support.known[:, None].expand(-1, len(grid)).to(empty.weights.dtype)
    return ObjectPoints(
        torch.cat([empty.points, below], dim=1), torch.cat([empty.weights, weights], dim=1)
    )
