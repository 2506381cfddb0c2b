"""Memory of objects whose shapes were fitted under a prior: a known object is not searched again.

A search takes a second of a core. An object that was found before keeps its shape, and only its
pose is refined; a view from a new direction refines pose and shape on all views together; and an
object without a certificate is searched again once its views have doubled, and in a view with at
least as many points after two frames, four more, eight more and so on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import torch
from torch import Tensor

from crisp_ros.correction.batch import batch_of
from crisp_ros.correction.latent_field import LatentField
from crisp_ros.correction.latent_prior import LatentPrior
from crisp_ros.correction.prior_shape import (
    PriorFit,
    PriorObservation,
    PriorShapeSettings,
    search_prior_shape,
)
from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.correction.shape_pose_lm import ShapePoseLmSettings, refine_shape_and_pose
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.pipeline.prior_views import (
    PriorView,
    depth_points,
    middle_of,
    moved_points,
    pooled_views,
    view_direction,
)

_FIRST_WAIT = 2  # frames from the first search of an object without a certificate to the next


@dataclass(frozen=True)
class PriorMemorySettings:
    """Settings of `PriorMemory`.

    Attributes:
        match_m: an object is the one whose points had their middle nearest, within this distance
            in the fixed frame, metres.
        separation_rad: directions that differ by more are different views.
        rest_m: an object whose points are moved by less by the refinement of its pose has not
            moved, and its views are put together where the camera was, metres.
        most_views: of an object; later ones are not added.
        view_points: depth points of a view that are kept, and as many in empty space.
        most_objects: the longest unseen are forgotten.
    """

    match_m: float = 0.06
    separation_rad: float = math.radians(20.0)
    rest_m: float = 0.02
    most_views: int = 8
    view_points: int = 300
    most_objects: int = 100


class Plan(Enum):
    """Treatment of an object in a frame.

    NONE: nothing.
    FOLLOW: its shape, which was certified, is kept, and its pose refined.
    SEARCH: pose and shape are searched, or refined on the views from all directions.
    """

    NONE = auto()
    FOLLOW = auto()
    SEARCH = auto()


@dataclass(eq=False)
class _Remembered:
    """An object.

    Attributes:
        T_object_fixed: (4, 4) its last pose.
        latent: (D,) its shape.
        kind: number of the kind whose prior it is under.
        middle: (3,) of its last depth points, fixed frame.
        views: from different directions.
        searched_views: at the last search.
        certified: its shape had a certificate.
        spread: see `PriorFit.spread_m`, of the last search.
        hidden: see `PriorFit.hidden`, of all frames that showed it.
        last_frame: number of the frame that showed it last.
        points: number of depth points in the last search of a single view.
        wait: frames from the last such search to the next.
        next_search: number of the frame from which on it is searched again without a certificate.
    """

    T_object_fixed: Tensor
    latent: Tensor
    kind: Tensor
    middle: Tensor
    views: list[PriorView] = field(default_factory=list)
    searched_views: int = 1
    certified: bool = False
    spread: Tensor | float = 0.0
    hidden: float = 1.0
    last_frame: int = 0
    points: int = 0
    wait: int = _FIRST_WAIT
    next_search: int = 0


class PriorMemory:
    """Objects of a stream of frames, in the frame in which they rest."""

    def __init__(self, settings: PriorMemorySettings | None = None) -> None:
        """Start empty."""
        self._settings = settings or PriorMemorySettings()
        self._objects: list[_Remembered] = []
        self._last: list[_Remembered] = []
        self._excluded: list[_Remembered] | None = None  # from the next fit, by its plan
        self._frame = 0
        self.searches = 0

    def __len__(self) -> int:
        return len(self._objects)

    def clear(self) -> None:
        """Forget all objects."""
        self._objects.clear()
        self._last.clear()

    @property
    def certified(self) -> list[bool]:
        """Whether the shapes of the objects of the last `fit` had a certificate, then or before."""
        return [known.certified for known in self._last]

    def plan(
        self,
        points: Sequence[Tensor],
        unknown: Sequence[bool],
        T_fixed_camera: Tensor,
        searches: int,
    ) -> list[Plan]:
        """Choose the objects of a frame that `fit` is given next, in the same order.

        Args:
            points: (N, 3) depth points of each object, camera frame, metres.
            unknown: whether nothing else explains it; others are followed at most.
            T_fixed_camera: (4, 4).
            searches: at most; objects beyond wait for a later frame.
        """
        self._frame += 1
        self._last, self._excluded, plans = [], None, []
        excluded: list[_Remembered] = []
        for own, is_unknown in zip(points, unknown, strict=True):
            plan, known = Plan.NONE, None
            if len(own) > 0:
                T = T_fixed_camera.to(own)
                known = self._find(middle_of(own, T))
                plan = self._plan(known, own, T, is_unknown)
            if plan is Plan.SEARCH and searches == 0:
                plan = Plan.FOLLOW if known is not None and known.certified else Plan.NONE
            searches -= plan is Plan.SEARCH
            plans.append(plan)
            if known is not None:
                self._last.append(known)
                if plan is Plan.NONE:
                    excluded.append(known)
        self._last, self._excluded = [], excluded
        return plans

    def _plan(self, known: _Remembered | None, points: Tensor, T: Tensor, is_unknown: bool) -> Plan:
        """Plan for an object with depth points (N, 3), camera frame."""
        if known is None:
            return Plan.SEARCH if is_unknown else Plan.NONE
        if known.certified:
            return Plan.FOLLOW
        T_object_camera = known.T_object_fixed @ T
        direction = view_direction(points, T_object_camera)
        wanted = self._is_due(known, len(points)) or self._is_new(known, direction)
        return Plan.SEARCH if wanted and is_unknown else Plan.NONE

    def fit(
        self,
        shapes: LatentField,
        mixture: ShapeMixture,
        observations: list[PriorObservation],
        T_fixed_camera: Tensor,
        settings: PriorShapeSettings,
    ) -> PriorFit:
        """Fit pose and latent of the objects of a frame.

        Args:
            shapes: f.
            mixture: kinds of shapes.
            observations: of B >= 1 objects.
            T_fixed_camera: (4, 4).
            settings: of the search.
        """
        if self._excluded is None:  # not planned
            self._frame += 1
        self._last = []
        fits = []
        for seen in observations:
            T = T_fixed_camera.to(seen.seen.points)
            known = self._find(middle_of(depth_points(seen), T))
            if known is None:
                fit, known = self._new(shapes, mixture, seen, T, settings)
            elif self._is_due(known, int(seen.seen.valid.sum())):
                fit, known = self._replaced(known, self._new(shapes, mixture, seen, T, settings))
            else:
                fit = self._again(shapes, mixture, known, seen, T, settings)
            known.last_frame = self._frame
            self._last.append(known)
            fits.append(fit)
        self._excluded = None
        self._objects.sort(key=lambda o: -o.last_frame)
        del self._objects[self._settings.most_objects :]
        return PriorFit(*(torch.stack(parts) for parts in zip(*fits, strict=True)))

    def record(self, certified: list[bool]) -> None:
        """Take the verdicts on the objects of the last `fit`, in their order."""
        for known, flag in zip(self._last, certified, strict=True):
            known.certified |= flag

    def _find(self, middle: Tensor) -> _Remembered | None:
        """The object that is seen with its middle (3,) there, if it is known."""
        others = *self._last, *(self._excluded or ())
        free = [o for o in self._objects if not any(o is taken for taken in others)]
        distances = [float((o.middle - middle).norm()) for o in free]
        if not distances or not min(distances) <= self._settings.match_m:
            return None
        return free[distances.index(min(distances))]

    def _new(
        self,
        shapes: LatentField,
        mixture: ShapeMixture,
        observation: PriorObservation,
        T: Tensor,
        settings: PriorShapeSettings,
    ) -> tuple[PriorFit, _Remembered]:
        self.searches += 1
        fit = search_prior_shape(shapes, mixture, observation, settings)
        pose = fit.T_object_camera @ invert(T)
        known = _Remembered(
            pose,
            fit.latents,
            fit.kinds,
            middle_of(depth_points(observation), T),
            spread=fit.spread_m,
            hidden=observation.hidden,
        )
        if bool(observation.seen.valid.any()):
            count = self._settings.view_points
            known.views.append(PriorView.of(observation, fit.T_object_camera, count))
            known.points = int(observation.seen.valid.sum())
            known.next_search = self._frame + known.wait
            self._objects.append(known)
        return fit, known

    def _is_due(self, known: _Remembered, count: int) -> bool:
        """Whether a known object is searched again, from a view with so many points alone."""
        enough = count >= max(known.points, 1)
        return not known.certified and self._frame >= known.next_search and enough

    def _replaced(
        self, old: _Remembered, found: tuple[PriorFit, _Remembered]
    ) -> tuple[PriorFit, _Remembered]:
        """Forget an object for the one that a new search found in its place."""
        fit, known = found
        self._objects = [o for o in self._objects if o is not old]
        known.wait = 2 * old.wait
        known.next_search = self._frame + known.wait
        return fit, known

    def _again(
        self,
        shapes: LatentField,
        mixture: ShapeMixture,
        known: _Remembered,
        observation: PriorObservation,
        T: Tensor,
        settings: PriorShapeSettings,
    ) -> PriorFit:
        """The fit of a known object."""
        known.middle = middle_of(depth_points(observation), T)
        start = known.T_object_fixed @ T
        fit = _refined(shapes.of_shape(known.latent), observation, start, settings.solver)
        fit = fit._replace(latents=known.latent, kinds=known.kind)
        # A pose that is refined to one view may have slid by the error of the shape.
        moved = _distance(observation, start, fit.T_object_camera)
        rests = moved <= self._settings.rest_m
        placed = fit._replace(T_object_camera=start) if rests else fit
        view = PriorView.of(observation, placed.T_object_camera, self._settings.view_points)
        if self._is_new(known, view.direction):
            known.views.append(view)
            fit = self._joint(shapes, mixture, known, placed, observation, settings)
            rests, known.latent, known.kind = False, fit.latents, fit.kinds
        if not rests:
            known.T_object_fixed = fit.T_object_camera @ invert(T)
        known.hidden = min(known.hidden, observation.hidden)
        spread, hidden = (
            torch.as_tensor(value).to(fit.objective) for value in (known.spread, known.hidden)
        )
        return fit._replace(spread_m=spread, hidden=hidden)

    def _joint(
        self,
        shapes: LatentField,
        mixture: ShapeMixture,
        known: _Remembered,
        fit: PriorFit,
        observation: PriorObservation,
        settings: PriorShapeSettings,
    ) -> PriorFit:
        """The fit to all views together; a search where they doubled without a certificate."""
        pooled = pooled_views(known.views)
        here = torch.eye(4).to(fit.T_object_camera)
        prior = mixture.prior(fit.kinds[None])
        best = _refined(shapes, pooled, here, settings.solver, (fit.latents, prior))
        best = best._replace(kinds=fit.kinds)
        if not known.certified and len(known.views) >= 2 * known.searched_views:
            self.searches += 1
            known.searched_views = len(known.views)
            known.next_search = self._frame + known.wait
            T_camera_object = invert(fit.T_object_camera)
            placed = PriorObservation(
                *(moved_points(part, T_camera_object) for part in pooled[:2]), observation.support
            )
            found = search_prior_shape(shapes, mixture, placed, settings)
            found = found._replace(T_object_camera=found.T_object_camera @ T_camera_object)
            known.spread = found.spread_m
            best = found if bool(found.objective < best.objective) else best
        motion = best.T_object_camera
        known.views = [view.moved(motion) for view in known.views]
        return best._replace(T_object_camera=motion @ fit.T_object_camera)

    def _is_new(self, known: _Remembered, direction: Tensor) -> bool:
        """Whether a direction (3,) differs from those of all views, and there is room for one."""
        if len(known.views) >= self._settings.most_views:
            return False
        limit = math.cos(self._settings.separation_rad)
        return all(float(v.direction @ direction) < limit for v in known.views)


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


def _distance(observation: PriorObservation, one: Tensor, other: Tensor) -> float:
    """Largest distance of a depth point at two poses, metres."""
    points = depth_points(observation)
    return float((transform(one, points) - transform(other, points)).norm(dim=-1).max())
