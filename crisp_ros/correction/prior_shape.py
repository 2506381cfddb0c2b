"""Pose and shape of objects that nobody has scanned, from their depth points and a prior alone.

Shapes that the prior was trained with are put on the support where the points are (`starts_of`).
A few steps of `refine_shape_and_pose`, each under the prior of its shape's kind, rank them, and the
best are solved to the end, and again under a wider prior where they explain little. Space that the
camera saw to be empty, and what is under the support, keeps the unseen part in bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import batch_of, concatenate, take_rows
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints
from crisp_ros.correction.empty_space import EmptyPoints, EmptySpaceSettings, empty_points
from crisp_ros.correction.hidden_outline import hidden_outline_shares
from crisp_ros.correction.latent_field import LatentField
from crisp_ros.correction.network_starts import (
    NetworkGuess,
    NetworkStartSettings,
    network_starts,
)
from crisp_ros.correction.prior_solutions import Solutions
from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.correction.shape_pose_lm import (
    ShapePoseLmSettings,
    refine_shape_and_pose,
)
from crisp_ros.correction.shape_starts import (
    StartSettings,
    Support,
    least_aligned_axis,
    starts_of,
)
from crisp_ros.correction.surface import fill_unit_cube
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.chamfer import nearest_distances
from crisp_ros.geometry.se3 import transform

_NEAR_POINTS = 128  # nearest to a surface, where it is compared with another


@dataclass(frozen=True)
class PriorShapeSettings:
    """Settings of `fit_prior_shapes`.

    Attributes:
        starts: of the shapes in place that the search begins with.
        network_starts: of those that a network adds, where there is one.
        ranking: of the solver that ranks the starts.
        finalists: starts that are solved to the end.
        solver: of the solver for these.
        poor_fit: where the best one's objective without the prior is higher, `widened` of them are
            solved again under the wider prior of their kind.
        widened: see `poor_fit`.
        width_price: how much better these have to be, as a share of what the wider prior's volume
            costs in the negative logarithm of the posterior.
        empty_space: of the points in empty space.
        clearance_share: the surface is at least so far from a point in empty space, as a share of
            the distance of the nearest depth point or of the support.
        clearance_m: more than that is asked for at no point, metres.
        below_m: depths under the support where nothing of an object is, metres.
        rival_margin: another finalist explains an object nearly as well where its objective is
            larger by this share at most.
        spread_limit_m: a shape is not determined where such a rival's surface is farther away in
            the mean, metres.
        hidden_limit: a shape is not determined where a larger share of its object's outline is
            hidden in all views: it may go on behind what is in front of it.
        open_limit: a shape is not certified where its object's surface goes on beyond a larger
            share of the mask's outline: a part of the mask is missing.
        surface_limit_m: a shape is certified only if it has a surface so near to nearly all depth
            points, metres; more than the points' own distances, as points on it are sampled.
        compared_points: around the object, on which the finalists' surfaces are compared.
    """

    starts: StartSettings = field(default_factory=StartSettings)
    network_starts: NetworkStartSettings = field(default_factory=NetworkStartSettings)
    ranking: ShapePoseLmSettings = field(
        default_factory=lambda: ShapePoseLmSettings(
            iterations=6, surface_points=96, empty_points=96
        )
    )
    finalists: int = 4
    solver: ShapePoseLmSettings = field(default_factory=ShapePoseLmSettings)
    poor_fit: float = 0.7
    widened: int = 2
    width_price: float = 0.5
    empty_space: EmptySpaceSettings = field(default_factory=EmptySpaceSettings)
    clearance_share: float = 1.0
    clearance_m: float = 0.008
    below_m: tuple[float, ...] = (0.006, 0.025)
    rival_margin: float = 0.5
    spread_limit_m: float = 0.01
    hidden_limit: float = 0.22
    open_limit: float = 0.1
    surface_limit_m: float = 0.02
    compared_points: int = 2048


class PriorFit(NamedTuple):
    """Poses and shapes of B objects.

    Attributes:
        T_object_camera: (B, 4, 4).
        latents: (B, D).
        kinds: (B,) numbers of the kinds, or wider kinds, whose priors the shapes are under.
        objective: (B,) of `refine_shape_and_pose`.
        iterations: (B,).
        spread_m: (B,) largest mean distance of the surface from that of another solution that
            explains the object nearly as well, metres; 0 where there is none.
        hidden: (B,) see `PriorObservation`; of several views the lowest.
    """

    T_object_camera: Tensor
    latents: Tensor
    kinds: Tensor
    objective: Tensor
    iterations: Tensor
    spread_m: Tensor
    hidden: Tensor


class PriorObservation(NamedTuple):
    """Depth points of one object and the empty space around it, camera frame.

    Attributes:
        seen: depth points (N, 3).
        empty: points (M, 3) where the camera saw that nothing is.
        support: of the object, without a batch dimension.
        guess: the network's; None where it has none.
        hidden: share of the object's outline along which something nearer is next to it.
        label: of the object in the label image.
    """

    seen: ObjectPoints
    empty: EmptyPoints
    support: Support
    guess: NetworkGuess | None = None
    hidden: float = 0.0
    label: int = 0


@torch.no_grad()
def fit_prior_shapes(
    shapes: LatentField,
    mixture: ShapeMixture,
    observed: Correspondences,
    objects: Tensor,
    images: Images,
    support: Support,
    settings: PriorShapeSettings | None = None,
    guesses: Sequence[NetworkGuess | None] | None = None,
) -> PriorFit:
    """Fit pose and latent of each object to its depth points and to what the camera saw empty.

    One object costs 24 short solutions and 4 to 6 whole ones: about a second of a core.

    Args:
        shapes: f.
        mixture: kinds of shapes.
        observed: of B objects.
        objects: (B,) their labels in the label image.
        images: that they were seen in.
        support: of the objects.
        settings: see `PriorShapeSettings`.
        guesses: the network's, of B objects; None without a network.
    """
    settings = settings or PriorShapeSettings()
    seen = observe_for_prior(observed, objects, images, support, settings, guesses)
    fits = [search_prior_shape(shapes, mixture, one, settings) for one in seen]
    return PriorFit(*(torch.stack(parts) for parts in zip(*fits, strict=True)))


@torch.no_grad()
def observe_for_prior(
    observed: Correspondences,
    objects: Tensor,
    images: Images,
    support: Support,
    settings: PriorShapeSettings,
    guesses: Sequence[NetworkGuess | None] | None = None,
) -> list[PriorObservation]:
    """Collect what was seen of objects and around them; arguments as of `fit_prior_shapes`."""
    observed = observed.sanitized()
    still = torch.eye(4, dtype=observed.points.dtype, device=observed.points.device)
    empty = empty_points(
        observed, still.expand(len(objects), 4, 4), objects, images, settings.empty_space
    )
    away = nearest_distances(empty.points, observed.points, observed.valid)
    empty = _with_support(EmptyPoints.of(empty, away), observed, support, settings.below_m)
    clearance = (settings.clearance_share * empty.clearance).clamp_max(settings.clearance_m)
    empty = empty._replace(clearance=clearance)
    hidden = hidden_outline_shares(objects, images, support).tolist()
    return [
        PriorObservation(
            ObjectPoints.of(observed.points[k], observed.valid[k]),
            take_rows(empty, k),
            take_rows(support, k),
            None if guesses is None else guesses[k],
            hidden[k],
            label,
        )
        for k, label in enumerate(objects.tolist())
    ]


@torch.no_grad()
def search_prior_shape(
    shapes: LatentField,
    mixture: ShapeMixture,
    observation: PriorObservation,
    settings: PriorShapeSettings,
) -> PriorFit:
    """Search pose and latent of one object from many starts; the fit has no batch dimension.

    Args:
        shapes: f.
        mixture: kinds of shapes.
        observation: of the object.
        settings: see `PriorShapeSettings`.
    """
    seen, empty, support, guess, hidden, _ = observation
    if not bool(seen.valid.any()):
        return _no_fit(seen.points, mixture.latents[0])
    poses, examples = starts_of(shapes, seen, empty, support, mixture, settings.starts)
    start = Solutions.starting(poses, mixture.latents[examples], mixture.kinds[examples])
    if guess is not None:
        start = concatenate([start, network_starts(guess, mixture, settings.network_starts)])
    what = shapes, (seen, empty), mixture
    ranked = _solved(*what, start, settings.ranking)
    found = _solved(*what, ranked.best(settings.finalists), settings.solver)
    found = _with_wider_priors(*what, found, settings)
    best = take_rows(found, found.objective.argmin())
    spread = rival_spread(shapes, seen, found, settings)
    return PriorFit(*best, spread, torch.full_like(spread, hidden))


def _no_fit(points: Tensor, latent: Tensor) -> PriorFit:
    """The answer for an object without points."""
    infinite = torch.full_like(points[..., 0].sum(), torch.inf)
    none = torch.zeros_like(infinite, dtype=torch.long)
    return PriorFit(torch.eye(4).to(points), latent, none, infinite, none, infinite, infinite)


def rival_spread(
    shapes: LatentField, seen: ObjectPoints, solutions: Solutions, settings: PriorShapeSettings
) -> Tensor:
    """The largest distance of the best solution's surface from that of a rival.

    Args:
        shapes: f.
        seen: depth points of the object.
        solutions: H of the object.
        settings: what counts as a rival.

    Returns:
        Metres, a scalar; the mean over points near the best surface. 0 without a rival.
    """
    points = seen.points[seen.valid]
    middle, reach = points.mean(0), (points - points.mean(0)).norm(dim=-1).max()
    cube = fill_unit_cube(settings.compared_points, points) - 0.5
    around = transform(solutions.T_object_camera, (middle + 4.0 * reach * cube)[None])
    sdf = shapes.sdf(around, solutions.latents)
    best = solutions.objective.argmin()
    near = sdf[best].abs().topk(_NEAR_POINTS, largest=False).indices
    apart = (sdf[:, near] - sdf[best, near]).abs().mean(1)
    rival = solutions.objective <= (1.0 + settings.rival_margin) * solutions.objective[best]
    return torch.where(rival, apart, 0.0).max()


def _solved(
    shapes: LatentField,
    what: tuple[ObjectPoints, EmptyPoints],
    mixture: ShapeMixture,
    start: Solutions,
    settings: ShapePoseLmSettings,
) -> Solutions:
    """Solutions after more steps, each under the prior of its kind."""
    poses, kinds = start.T_object_camera, start.kinds
    seen, empty = (take_rows(batch_of(part), [0] * len(poses)) for part in what)
    seen, empty = (part._replace(points=transform(poses, part.points)) for part in (seen, empty))
    prior = mixture.prior(kinds)
    step = refine_shape_and_pose(shapes, seen, empty, start.latents, settings, prior)
    return Solutions(step.motion @ poses, step.latents, kinds, step.objective, step.iterations)


def _with_wider_priors(
    shapes: LatentField,
    what: tuple[ObjectPoints, EmptyPoints],
    mixture: ShapeMixture,
    found: Solutions,
    settings: PriorShapeSettings,
) -> Solutions:
    """Solutions and those under wider priors, where the best one explains little."""
    best = found.best(settings.widened)
    first, scale = take_rows(best, slice(1)), settings.solver.independent_points
    deviations = mixture.prior(first.kinds).deviations(first.latents)
    unexplained = first.objective - deviations.square().sum(1) / scale
    if not bool(unexplained > settings.poor_fit):
        return found
    wider = best._replace(kinds=mixture.wider_kinds(best.kinds))
    wider = _solved(shapes, what, mixture, wider, settings.solver)
    price = settings.width_price * 2.0 * mixture.log_widening / scale
    return concatenate([found, wider._replace(objective=wider.objective + price)])


def _with_support(
    empty: EmptyPoints, observed: Correspondences, support: Support, depths: tuple[float, ...]
) -> EmptyPoints:
    """The points in empty space with a grid of points under the support of each object."""
    normal = support.normal
    first = torch.linalg.cross(normal, least_aligned_axis(normal))
    first = torch.nn.functional.normalize(first, dim=-1)
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
    return EmptyPoints(
        torch.cat([empty.points, below], dim=1),
        torch.cat([empty.weights, weights], dim=1),
        torch.cat([empty.clearance, grid[:, 2].expand_as(weights)], dim=1),
    )
