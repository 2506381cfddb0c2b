"""Fits of one object under a prior: of a single view, of all views, and of a known shape's pose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import batch_of
from crisp_ros.correction.latent_field import LatentDistances, LatentField
from crisp_ros.correction.latent_prior import LatentPrior
from crisp_ros.correction.prior_shape import (
    PriorFit,
    PriorObservation,
    PriorShapeSettings,
    search_prior_shape,
)
from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.correction.shape_pose_lm import ShapePoseLmSettings, refine_shape_and_pose
from crisp_ros.correction.shape_starts import starting_poses
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.pipeline.prior_views import (
    PriorView,
    depth_points,
    moved_points,
    pooled_views,
)


class SearchSpace(NamedTuple):
    """The shapes that are searched.

    Attributes:
        shapes: f.
        mixture: kinds of shapes.
        settings: of the search.
    """

    shapes: LatentField
    mixture: ShapeMixture
    settings: PriorShapeSettings

    def with_check(self, check: Callable[[], None]) -> SearchSpace:
        """The same, with a call before each evaluation of f, which may raise an error."""
        return self._replace(shapes=_CheckedField(self.shapes, check))


class JointFit(NamedTuple):
    """Fit to all views of an object.

    Attributes:
        motion: (4, 4) the object frame of the views to that of the fit.
        latent: (D,).
        kind: number of the kind whose prior the shape is under.
        objective: of `refine_shape_and_pose`.
        iterations: taken.
        spread_m: see `PriorFit`; None where the shape was refined and not searched.
    """

    motion: Tensor
    latent: Tensor
    kind: Tensor
    objective: Tensor
    iterations: Tensor
    spread_m: Tensor | None


def single_view_fit(space: SearchSpace, observation: PriorObservation) -> PriorFit:
    """Search pose and shape from a single view."""
    return search_prior_shape(space.shapes, space.mixture, observation, space.settings)


@torch.no_grad()
def joint_fit(
    space: SearchSpace,
    views: Sequence[PriorView],
    shape: tuple[Tensor, Tensor],
    T_object_camera: Tensor,
    observation: PriorObservation,
    searches: bool,
) -> JointFit:
    """Refine pose and shape on all views of an object, or search them again.

    Args:
        space: of the search.
        views: of the object.
        shape: latent (D,) and kind to start from.
        T_object_camera: (4, 4) the last view's.
        observation: the last view, whose support counts.
        searches: whether they are also searched, and the better fit is taken.
    """
    latent, kind = shape
    pooled = pooled_views(views)
    here = torch.eye(4).to(T_object_camera)
    prior = space.mixture.prior(kind[None])
    best = _refined(space.shapes, pooled, here, space.settings.solver, (latent, prior))
    best = JointFit(best[0], best.latents, kind, best.objective, best.iterations, None)
    if not searches:
        return best
    T_camera_object = invert(T_object_camera)
    placed = PriorObservation(
        *(moved_points(part, T_camera_object) for part in pooled[:2]), observation.support
    )
    found = single_view_fit(space, placed)
    if not bool(found.objective < best.objective):
        return best._replace(spread_m=found.spread_m)
    motion = found.T_object_camera @ T_camera_object
    return JointFit(motion, *found[1:5], found.spread_m)


def pose_fit(
    space: SearchSpace,
    observation: PriorObservation,
    shape: tuple[Tensor, Tensor],
    starts: Sequence[Tensor],
) -> PriorFit:
    """Refine the pose of a known shape, latent (D,) and kind, from starts (4, 4); the best one.

    Spread and hidden share are zero.
    """
    latent, kind = shape
    field, settings = space.shapes.of_shape(latent), space.settings.solver
    fits = [_refined(field, observation, start, settings) for start in starts]
    best = min(fits, key=lambda fit: float(fit.objective)) if len(fits) > 1 else fits[0]
    return best._replace(latents=latent, kinds=kind)


def placeholder_fit(space: SearchSpace, observation: PriorObservation) -> PriorFit:
    """A fit for an object whose shape is not found yet: some shape, upright at its points.

    Its objective is infinite, see `is_found`.
    """
    latent, pose = space.mixture.latents[0], torch.eye(4).to(observation.seen.points)
    if bool(observation.seen.valid.any()):
        pose = starting_poses(observation.seen, observation.support, 1)[0]
    infinite = torch.full_like(pose[0, 0], torch.inf)
    none = torch.zeros_like(infinite, dtype=torch.long)
    return PriorFit(pose, latent.to(pose), none, infinite, none, infinite, infinite)


def is_found(fit: PriorFit) -> Tensor:
    """Whether fits (B,) are those of shapes that were found, (B,) bool."""
    return ~fit.objective.isinf()


def largest_distance(observation: PriorObservation, one: Tensor, other: Tensor) -> float:
    """The largest distance of a depth point at two poses (4, 4), metres."""
    points = depth_points(observation)
    return float((transform(one, points) - transform(other, points)).norm(dim=-1).max())


def _refined(
    shapes: LatentField,
    observation: PriorObservation,
    T_object_camera: Tensor,
    settings: ShapePoseLmSettings,
    shape: tuple[Tensor, LatentPrior] | None = None,
) -> PriorFit:
    """The fit from a start, of kind 0; without latent and prior that of a field of one shape."""
    seen, empty = (batch_of(moved_points(part, T_object_camera)) for part in observation[:2])
    latent, prior = (seen.points.new_zeros(0), None) if shape is None else shape
    step = refine_shape_and_pose(shapes, seen, empty, latent[None], settings, prior)
    pose = step.motion[0] @ T_object_camera
    none, kind = torch.zeros_like(step.objective[0]), torch.zeros_like(step.iterations[0])
    return PriorFit(pose, step.latents[0], kind, step.objective[0], step.iterations[0], none, none)


class _CheckedField:
    """A field with a call before each of its evaluations."""

    def __init__(self, field: LatentField, check: Callable[[], None]) -> None:
        self._field, self._check = field, check

    def sdf(self, points: Tensor, latents: Tensor) -> Tensor:
        """See `LatentField`."""
        self._check()
        return self._field.sdf(points, latents)

    def derivatives(self, points: Tensor, latents: Tensor) -> LatentDistances:
        """See `LatentField`."""
        self._check()
        return self._field.derivatives(points, latents)

    def of_shape(self, latent: Tensor) -> LatentField:
        """See `LatentField`."""
        return _CheckedField(self._field.of_shape(latent), self._check)
