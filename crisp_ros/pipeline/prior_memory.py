"""Memory of objects whose shapes were fitted under a prior: a known object is not searched again.

A search takes a second of a core. An object that was found before keeps its shape, and only its
pose is refined; a view from a new direction refines pose and shape on all views together; and an
object without a certificate is searched again once its views have doubled, and in a view with at
least as many points after two frames, four more, eight more and so on.

With `background` searches, these and the fits to all views run in another thread, as functions of
what one frame showed. A later frame takes the result, on its own thread: nothing else touches the
memory. Until then the object has no answer, or the one that it had. A new shape is followed in the
first frame that shows the object again, which refines its pose and certifies it or not; where the
points have moved meanwhile, it is looked for at both places. A search that has not begun is
withdrawn when its object was not seen for some frames, and every search when the memory is cleared.
A search that fails counts as one without a certificate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from crisp_ros.correction.latent_field import LatentField
from crisp_ros.correction.prior_shape import PriorFit, PriorObservation, PriorShapeSettings
from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.geometry.se3 import invert
from crisp_ros.pipeline.prior_fits import (
    JointFit,
    SearchSpace,
    joint_fit,
    largest_distance,
    placeholder_fit,
    pose_fit,
    single_view_fit,
)
from crisp_ros.pipeline.prior_plan import Plan, SeenObject
from crisp_ros.pipeline.prior_replay import KnownShape, PriorContext
from crisp_ros.pipeline.prior_searches import BackgroundSearches
from crisp_ros.pipeline.prior_views import PriorView, depth_points, middle_of, view_direction
from crisp_ros.pipeline.remembered_object import Fit, FitInBackground, RememberedObject

_FIRST_WAIT = 2  # frames from the first search of an object without a certificate to the next
_UNSEEN_FRAMES = 5  # after which the search for an object is withdrawn, if it has not begun


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


class PriorMemory:
    """Objects of a stream of frames, in the frame in which they rest.

    Attributes:
        background: where searches run; None searches in the frame itself.
        searches: number of searches so far.
    """

    def __init__(self, settings: PriorMemorySettings | None = None) -> None:
        """Start empty."""
        self.background: BackgroundSearches | None = None
        self.searches = 0
        self._settings = settings or PriorMemorySettings()
        self._objects: list[RememberedObject] = []
        self._last: list[RememberedObject] = []
        self._excluded: list[RememberedObject] | None = None  # from the next fit, by its plan
        self._frame = 0
        self._known: list[KnownShape] = []  # shapes that were followed
        self._searched: list[int] = []  # labels of objects that were searched in the frame itself

    def __len__(self) -> int:
        return len(self._objects)

    def clear(self) -> None:
        """Forget all objects."""
        self.withdraw_searches()
        self._objects.clear()
        self._last.clear()

    def withdraw_searches(self) -> None:
        """Do without the results from the background; shapes that were found stay."""
        for known in self._objects:
            known.withdraw()
        self._objects = [known for known in self._objects if known.latent is not None]

    def take_context(self) -> PriorContext:
        """Take what the frames since the last call depended on."""
        context = PriorContext(tuple(self._known), tuple(self._searched))
        self._known, self._searched = [], []
        return context

    @property
    def certified(self) -> list[bool]:
        """Whether the shapes of the objects of the last `fit` had a certificate, then or before."""
        return [known.certified for known in self._last]

    def plan(
        self, objects: Sequence[SeenObject], T_fixed_camera: Tensor, searches: int
    ) -> list[Plan]:
        """Choose the objects of a frame that `fit` is given next, in the same order.

        Args:
            objects: of the frame.
            T_fixed_camera: (4, 4).
            searches: at most; objects beyond wait for a later frame.
        """
        self._begin_frame()
        self._last, self._excluded, plans = [], None, []
        excluded: list[RememberedObject] = []
        if self.background is not None and not self.background.has_room:
            searches = 0
        for _, points, is_unknown in objects:
            plan, known = Plan.NONE, None
            if len(points) > 0:
                T = T_fixed_camera.to(points)
                known = self._find(middle_of(points, T))
                plan = self._plan(known, points, T, is_unknown)
            if plan is Plan.SEARCH and searches == 0:
                plan = Plan.FOLLOW if known is not None and known.certified else Plan.NONE
            searches -= plan is Plan.SEARCH
            plans.append(plan)
            if known is not None:
                self._last.append(known)
                if plan is Plan.NONE:
                    excluded.append(known)
        self._last, self._excluded = [], excluded
        self._withdraw_unseen()
        return plans

    def _plan(
        self, known: RememberedObject | None, points: Tensor, T: Tensor, is_unknown: bool
    ) -> Plan:
        """Plan for an object with depth points (N, 3), camera frame."""
        if known is None:
            return Plan.SEARCH if is_unknown else Plan.NONE
        if known.task is not None:
            known.middle, known.last_frame = middle_of(points, T), self._frame
        if known.certified or known.found_at is not None:
            return Plan.FOLLOW
        if known.task is not None:
            return Plan.NONE
        wanted = self._is_due(known, len(points))
        if known.latent is not None and not wanted:
            wanted = self._is_new(known, view_direction(points, known.T_object_fixed @ T))
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

        Returns:
            The fits; a `placeholder_fit` of an object that has no shape yet.
        """
        if self._excluded is None:  # not planned
            self._begin_frame()
        self._last = []
        space, fits = SearchSpace(shapes, mixture, settings), []
        for seen in observations:
            T = T_fixed_camera.to(seen.seen.points)
            known = self._find(middle_of(depth_points(seen), T))
            if known is None:
                known = self._new(seen, T)
            fits.append(self._fit(space, known, seen, T))
            known.last_frame = self._frame
            self._last.append(known)
        if self._excluded is None:
            self._withdraw_unseen()
        self._excluded = None
        self._forget_surplus()
        return PriorFit(*(torch.stack(parts) for parts in zip(*fits, strict=True)))

    def record(self, certified: list[bool]) -> None:
        """Take the verdicts on the objects of the last `fit`, in their order."""
        for known, flag in zip(self._last, certified, strict=True):
            known.certified |= flag

    def _find(self, middle: Tensor) -> RememberedObject | None:
        """The object that is seen with its middle (3,) there, if it is known."""
        others = *self._last, *(self._excluded or ())
        free = [o for o in self._objects if not any(o is taken for taken in others)]
        distances = [float((o.middle - middle).norm()) for o in free]
        if not distances or not min(distances) <= self._settings.match_m:
            return None
        return free[distances.index(min(distances))]

    def _new(self, seen: PriorObservation, T: Tensor) -> RememberedObject:
        """A new object, which has no shape yet; it is not remembered where it has no points."""
        known = RememberedObject(middle_of(depth_points(seen), T))
        if bool(seen.seen.valid.any()):
            self._objects.append(known)
        return known

    def _is_due(self, known: RememberedObject, count: int) -> bool:
        """Whether an object is searched, from a view with so many points alone."""
        enough = count >= max(known.points, 1)
        return not known.certified and self._frame >= known.next_search and enough

    def _fit(
        self, space: SearchSpace, known: RememberedObject, seen: PriorObservation, T: Tensor
    ) -> PriorFit:
        """The fit of an object in a frame."""
        known.middle = middle_of(depth_points(seen), T)
        is_due = self._is_due(known, int(seen.seen.valid.sum()))
        if is_due and known.found_at is None and self._has_room(known):
            search = partial(single_view_fit, observation=seen)
            self.searches += 1
            if self.background is None:
                fit = search(space)
                self._searched.append(seen.label)
                self._take(known, fit, seen, T)
                return fit
            self._submit(known, search, space, seen, T)
        if known.latent is None:
            return placeholder_fit(space, seen)
        return self._again(space, known, seen, T)

    def _again(
        self, space: SearchSpace, known: RememberedObject, seen: PriorObservation, T: Tensor
    ) -> PriorFit:
        """The fit of an object whose shape is known."""
        starts = self._starts(known, T)
        start, latent, kind = starts[0], known.latent, known.kind
        fit = pose_fit(space, seen, (latent, kind), starts)
        # A pose that is refined to one view may have slid by the error of the shape.
        rests = largest_distance(seen, start, fit.T_object_camera) <= self._settings.rest_m
        placed = fit._replace(T_object_camera=start) if rests else fit
        if not rests:
            known.T_object_fixed = fit.T_object_camera @ invert(T)
        view = PriorView.of(seen, placed.T_object_camera, self._settings.view_points)
        if self._has_room(known) and self._is_new(known, view.direction):
            known.views.append(view)
            fit = self._with_all_views(space, known, (fit, placed), seen, T)
        known.hidden = min(known.hidden, seen.hidden)
        spread, hidden = (
            torch.as_tensor(value).to(fit.objective) for value in (known.spread, known.hidden)
        )
        context = seen.label, torch.stack(starts), latent, int(kind), float(spread), float(hidden)
        self._known.append(KnownShape(*context, known.certified))
        return fit._replace(spread_m=spread, hidden=hidden)

    def _starts(self, known: RememberedObject, T: Tensor) -> list[Tensor]:
        """The poses at which a known shape is expected; a new one's also where the points went."""
        starts = [known.T_object_fixed @ T]
        found_at, known.found_at = known.found_at, None
        if found_at is not None and float((known.middle - found_at).norm()) > self._settings.rest_m:
            back = torch.eye(4).to(T)
            back[:3, 3] = found_at - known.middle
            starts.append(known.T_object_fixed @ back @ T)
        return starts

    def _with_all_views(
        self,
        space: SearchSpace,
        known: RememberedObject,
        fits: tuple[PriorFit, PriorFit],
        seen: PriorObservation,
        T: Tensor,
    ) -> PriorFit:
        """The fit to all views together; a search where they doubled without a certificate.

        Args:
            space: of the search.
            known: the object, with the last view.
            fits: of the last view: at the refined pose, and where the object rests.
            seen: the last view.
            T: (4, 4) its camera in the fixed frame.
        """
        fit, placed = fits
        searches = not known.certified and len(known.views) >= 2 * known.searched_views
        if searches:
            self.searches += 1
            known.searched_views = len(known.views)
            known.next_search = self._frame + known.wait
        task = partial(
            joint_fit,
            views=tuple(known.views),
            shape=(known.latent, known.kind),
            T_object_camera=placed.T_object_camera,
            observation=seen,
            searches=searches,
        )
        if self.background is not None:
            self._submit(known, task, space, seen, T)
            return fit
        joint = task(space)
        self._take(known, joint, seen, T)
        pose = joint.motion @ placed.T_object_camera
        known.T_object_fixed = pose @ invert(T)
        return fit._replace(
            T_object_camera=pose,
            latents=joint.latent,
            kinds=joint.kind,
            objective=joint.objective,
            iterations=joint.iterations,
        )

    def _submit(
        self,
        known: RememberedObject,
        fit: Callable[[SearchSpace], Fit],
        space: SearchSpace,
        seen: PriorObservation,
        T: Tensor,
    ) -> None:
        """Fit an object in the background."""
        place = ", ".join(f"{x:.2f}" for x in known.middle.tolist())
        search = self.background.submit(
            lambda check: fit(space.with_check(check)), f"object {seen.label} at ({place}) m"
        )
        known.task = FitInBackground(search, seen, T)

    def _has_room(self, known: RememberedObject) -> bool:
        """Whether an object can be searched now; where too many wait, in a later frame."""
        room = self.background is None or self.background.has_room
        return room and known.task is None

    def _begin_frame(self) -> None:
        """Count a frame, and take the results from the background."""
        self._frame += 1
        for known in self._objects:
            task = known.task
            if task is None or not task.search.is_done:
                continue
            known.task, found = None, task.search.result()
            self._take(known, found, task.seen, task.T_fixed_camera)
            if isinstance(found, PriorFit) and not known.certified:
                known.found_at = middle_of(depth_points(task.seen), task.T_fixed_camera)

    def _take(
        self, known: RememberedObject, found: Fit | None, seen: PriorObservation, T: Tensor
    ) -> None:
        """Take what was found from a view, camera at T (4, 4); None: the search has failed."""
        if isinstance(found, JointFit):
            known.take_joint_fit(found)
            return
        known.wait = max(2 * known.wait, _FIRST_WAIT)
        known.next_search = self._frame + known.wait
        # A shape that a frame has certified meanwhile stays.
        if found is not None and not known.certified:
            known.take_fit(found, seen, T, self._settings.view_points)

    def _withdraw_unseen(self) -> None:
        """Withdraw the searches that have not begun and whose objects are gone."""
        for known in list(self._objects):
            task, unseen = known.task, self._frame - known.last_frame
            if task is not None and task.search.is_waiting and unseen > _UNSEEN_FRAMES:
                known.withdraw()
                if known.latent is None:
                    self._objects.remove(known)

    def _forget_surplus(self) -> None:
        """Forget the longest unseen objects beyond the most that are remembered."""
        self._objects.sort(key=lambda known: -known.last_frame)
        for known in self._objects[self._settings.most_objects :]:
            known.withdraw()
        del self._objects[self._settings.most_objects :]

    def _is_new(self, known: RememberedObject, direction: Tensor) -> bool:
        """Whether a direction (3,) differs from those of all views, and there is room for one."""
        if len(known.views) >= self._settings.most_views:
            return False
        limit = math.cos(self._settings.separation_rad)
        return all(float(v.direction @ direction) < limit for v in known.views)
