"""Repetition of one frame with what a memory of objects under a prior knew in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.latent_field import LatentField
from crisp_ros.correction.prior_shape import PriorFit, PriorObservation, PriorShapeSettings
from crisp_ros.correction.shape_mixture import ShapeMixture
from crisp_ros.pipeline.prior_fits import (
    SearchSpace,
    placeholder_fit,
    pose_fit,
    single_view_fit,
)
from crisp_ros.pipeline.prior_plan import Plan, SeenObject


class KnownShape(NamedTuple):
    """A shape that was found before a frame, which refined its pose.

    Attributes:
        label: of the object in the frame.
        starts: (S, 4, 4) poses T_object_camera from which that was done.
        latent: (D,).
        kind: number of the kind whose prior the shape is under.
        spread_m: see `PriorFit`.
        hidden: see `PriorFit`.
        certified: a frame before certified the shape.
    """

    label: int
    starts: Tensor
    latent: Tensor
    kind: int
    spread_m: float
    hidden: float
    certified: bool


class PriorContext(NamedTuple):
    """Dependencies of a frame's estimate under a prior, other than the frame.

    Attributes:
        known: shapes that were followed.
        searched: labels of the objects that were searched in the frame; all others had no answer.
    """

    known: tuple[KnownShape, ...] = ()
    searched: tuple[int, ...] = ()

    @classmethod
    def joined(cls, parts: Sequence[PriorContext]) -> PriorContext:
        """The context of all parts."""
        known, searched = ([each for part in parts for each in part[i]] for i in (0, 1))
        return cls(tuple(known), tuple(searched))


class PriorReplay:
    """A memory for one frame, in place of `PriorMemory`: it knows what that knew."""

    def __init__(self, context: PriorContext) -> None:
        """Take what was known of the frame."""
        self._known = {known.label: known for known in context.known}
        self._searched = set(context.searched)
        self._certified: dict[int, bool] = {}

    @property
    def certified(self) -> list[bool]:
        """Whether the shapes of the objects of the last `fit` had a certificate, then or before."""
        return list(self._certified.values())

    def plan(
        self, objects: Sequence[SeenObject], T_fixed_camera: Tensor, searches: int
    ) -> list[Plan]:
        """The plans of that frame; see `PriorMemory.plan`."""
        return [self._plan(seen.label) for seen in objects]

    def fit(
        self,
        shapes: LatentField,
        mixture: ShapeMixture,
        observations: list[PriorObservation],
        T_fixed_camera: Tensor,
        settings: PriorShapeSettings,
    ) -> PriorFit:
        """The fits of that frame; see `PriorMemory.fit`."""
        space = SearchSpace(shapes, mixture, settings)
        fits = [self._fit(space, seen) for seen in observations]
        labels = [seen.label for seen in observations]
        self._certified = {n: n in self._known and self._known[n].certified for n in labels}
        return PriorFit(*(torch.stack(parts) for parts in zip(*fits, strict=True)))

    def take_context(self) -> PriorContext:
        """Take what the frame depends on."""
        return PriorContext(tuple(self._known.values()), tuple(self._searched))

    def record(self, certified: list[bool]) -> None:
        """Take the verdicts on the objects of the last `fit`, in their order."""
        for label, flag in zip(self._certified, certified, strict=True):
            self._certified[label] |= flag

    def _plan(self, label: int) -> Plan:
        if label in self._known:
            return Plan.FOLLOW
        return Plan.SEARCH if label in self._searched else Plan.NONE

    def _fit(self, space: SearchSpace, seen: PriorObservation) -> PriorFit:
        plan = self._plan(seen.label)
        if plan is Plan.SEARCH:
            return single_view_fit(space, seen)
        if plan is Plan.NONE:
            return placeholder_fit(space, seen)
        like, known = seen.seen.points, self._known[seen.label]
        shape = known.latent.to(like), torch.tensor(known.kind, device=like.device)
        fit = pose_fit(space, seen, shape, list(known.starts.to(like)))
        spread, hidden = (
            torch.tensor(value).to(fit.objective) for value in (known.spread_m, known.hidden)
        )
        return fit._replace(spread_m=spread, hidden=hidden)
