"""One object in the memory of those under a prior."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from crisp_ros.correction.prior_shape import PriorFit, PriorObservation
from crisp_ros.geometry.se3 import invert
from crisp_ros.pipeline.prior_fits import JointFit
from crisp_ros.pipeline.prior_searches import Search
from crisp_ros.pipeline.prior_views import PriorView

Fit = PriorFit | JointFit


class FitInBackground(NamedTuple):
    """A fit in the background.

    Attributes:
        search: in progress.
        seen: what it is made from.
        T_fixed_camera: (4, 4) of that frame.
    """

    search: Search[Fit]
    seen: PriorObservation
    T_fixed_camera: Tensor


@dataclass(eq=False)
class RememberedObject:
    """An object whose shape was found or is searched under a prior.

    Attributes:
        middle: (3,) of its last depth points, fixed frame.
        T_object_fixed: (4, 4) its last pose; None until a shape is found.
        latent: (D,) its shape; None until it is found.
        kind: number of the kind whose prior it is under.
        views: from different directions.
        searched_views: at the last search.
        certified: its shape had a certificate.
        spread: see `PriorFit.spread_m`, of the last search.
        hidden: see `PriorFit.hidden`, of all frames that showed it.
        last_frame: number of the frame that showed it last.
        points: number of depth points in the last search of a single view.
        wait: frames from the last such search to the next.
        next_search: number of the frame from which on it is searched again without a certificate.
        task: in the background; None without one.
        found_at: (3,) `middle` in the frame in which a new shape was found; None once a frame has
            followed it.
    """

    middle: Tensor
    T_object_fixed: Tensor | None = None
    latent: Tensor | None = None
    kind: Tensor | None = None
    views: list[PriorView] = field(default_factory=list)
    searched_views: int = 1
    certified: bool = False
    spread: Tensor | float = 0.0
    hidden: float = 1.0
    last_frame: int = 0
    points: int = 0
    wait: int = 0
    next_search: int = 0
    task: FitInBackground | None = None
    found_at: Tensor | None = None

    def take_fit(self, fit: PriorFit, seen: PriorObservation, T: Tensor, count: int) -> None:
        """Take what was found in a view, camera at T (4, 4); `count` of its points are kept."""
        self.T_object_fixed = fit.T_object_camera @ invert(T)
        self.latent, self.kind = fit.latents, fit.kinds
        self.spread, self.hidden = fit.spread_m, seen.hidden
        self.views = [PriorView.of(seen, fit.T_object_camera, count)]
        self.searched_views, self.points = 1, int(seen.seen.valid.sum())

    def take_joint_fit(self, fit: JointFit) -> None:
        """Take the shape that fits all views, and the object frame that it has."""
        self.T_object_fixed = fit.motion @ self.T_object_fixed
        self.latent, self.kind = fit.latent, fit.kind
        self.views = [view.moved(fit.motion) for view in self.views]
        if fit.spread_m is not None:
            self.spread = fit.spread_m

    def withdraw(self) -> None:
        """Do without the result of the task."""
        task, self.task = self.task, None
        if task is not None:
            task.search.withdraw()
