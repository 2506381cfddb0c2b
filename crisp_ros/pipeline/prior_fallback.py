"""Fallback for objects that no library shape explains: pose and shape under a second model's prior.

The library's shapes come first, and what they explain stays as it is. What is left is fitted to its
depth points under the prior, as a model without a library fits all of its objects. The answer
counts with a certificate, or where an earlier view of the object had one.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.visibility import Images
from crisp_ros.network.checkpoint import Model, prior_fault
from crisp_ros.network.precision import in_fast_layout
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.observe import Observations, observe
from crisp_ros.pipeline.added_shapes import ExpectedObject, expected_at
from crisp_ros.pipeline.estimates import ObjectEstimate
from crisp_ros.pipeline.object_estimates import object_estimates
from crisp_ros.pipeline.prior_correction import PriorShapes
from crisp_ros.pipeline.prior_plan import Plan, SeenObject
from crisp_ros.pipeline.settings import EstimatorSettings
from crisp_ros.pipeline.solution import Solution
from crisp_ros.pipeline.solver import Solver
from crisp_ros.pipeline.stage_clock import StageClock

# Share of an outline. What a library calls unknown is often a known object that is partly hidden.
_MOST_HIDDEN = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SolvedFrame:
    """A frame after the library's shapes were tried.

    Attributes:
        frame: with the labels that the objects have.
        solutions: of batches of these.
        images: that show them.
        T_fixed_camera: (4, 4) the camera in a frame in which objects rest; None for a lone image.
        expected: objects of the frames before.
    """

    frame: Frame
    solutions: Sequence[Solution]
    images: Images
    T_fixed_camera: Tensor | None
    expected: Sequence[ExpectedObject]


class PriorFallback:
    """Estimates the objects that a library does not explain under a prior over shapes.

    Attributes:
        field: f_d of these shapes.
    """

    def __init__(self, model: Model, settings: EstimatorSettings, device: torch.device) -> None:
        """Take a prior into use.

        Args:
            model: that has a prior; a library of it is not used.
            settings: of the estimator.
            device: of the estimator.

        Raises:
            ValueError: the model has no prior, or its shapes have no size in metres.
        """
        if fault := prior_fault(model):
            raise ValueError(f"the second model cannot be used, as {fault}: name another one")
        self._network = in_fast_layout(model.network.to(device).eval())
        self.decoder = self._network.decoder
        self.field = DecoderField(self.decoder)
        self._solver = Solver(
            self._network,
            self.field,
            None,
            _without_library(settings),
            device,
            model.prior.to(device),
        )

    @property
    def settings(self) -> EstimatorSettings:
        """Those of the estimator, as a model without a library takes them."""
        return self._solver.settings

    @settings.setter
    def settings(self, settings: EstimatorSettings) -> None:
        self._solver.settings = _without_library(settings)

    @property
    def is_used(self) -> bool:
        """Whether the settings have unknown objects, and let a prior explain them."""
        settings = self.settings
        wanted = settings.shape_mode == "auto" and settings.prior_searches > 0
        return wanted and settings.known_shapes is not None and self._solver.takes_prior

    @property
    def shapes(self) -> PriorShapes:
        """Those of the prior, with a memory of the objects of earlier frames."""
        return self._solver.prior_shapes

    def applied_to(
        self, objects: Sequence[ObjectEstimate], frame: SolvedFrame, clock: StageClock
    ) -> list[ObjectEstimate]:
        """Replace the estimates of unknown objects by those under the prior where these count.

        Args:
            objects: the estimates of a frame's solutions.
            frame: with these solutions.
            clock: of the stages.
        """
        left = {e.label: e.unknown for e in objects if not e.certified}
        if not left or not self.is_used:
            return list(objects)
        found: dict[int, ObjectEstimate] = {}
        searches = self.settings.prior_searches
        for solution in frame.solutions:
            plans = self._plans(solution, left, frame, searches)
            searches -= sum(plan is Plan.SEARCH for plan in plans.values())
            if rows := [row for row, plan in plans.items() if plan is not Plan.NONE]:
                found |= self._estimates(solution, rows, frame, clock)
        return [found.get(e.label, e) for e in objects]

    def _plans(
        self, solution: Solution, left: Mapping[int, bool], frame: SolvedFrame, searches: int
    ) -> dict[int, Plan]:
        """Plans for rows of a solution.

        Args:
            solution: of a batch.
            left: labels without a certificate, and whether they are unknown.
            frame: of the solution.
            searches: at most, where objects are remembered.
        """
        labels = solution.observations.labels.tolist()
        rows = {
            row: left[label]
            for row, label in enumerate(labels)
            if label in left and not _has_library_shape(solution, row, frame.expected)
        }
        if frame.T_fixed_camera is None:
            return {row: Plan.SEARCH for row, is_unknown in rows.items() if is_unknown}
        points, _, _, valid = solution.correspondences.sanitized()
        plans = self.shapes.memory.plan(
            [SeenObject(labels[i], points[i][valid[i]], unknown) for i, unknown in rows.items()],
            frame.T_fixed_camera,
            searches,
        )
        return dict(zip(rows, plans, strict=True))

    def _estimates(
        self, solution: Solution, rows: Sequence[int], frame: SolvedFrame, clock: StageClock
    ) -> dict[int, ObjectEstimate]:
        """The estimates of some rows of a solution that count, by label."""
        observed = solution.observations
        observed, T = observed.rows(observed.labels.new_tensor(rows)), frame.T_fixed_camera
        try:
            observed = self._with_own_crops(observed, frame.frame)
            solved, _ = self._solver.solution(observed, frame.images, clock, T)
        except Exception:  # whatever it is, the library's answers stay
            _log.exception("no shapes under the prior for objects %s", observed.labels.tolist())
            return {}
        if solved is None:
            return {}
        followed = [False] * len(rows) if T is None else self.shapes.memory.certified
        estimates = object_estimates(solved, self.settings.certificate.quantile)
        return {
            estimate.label: dataclasses.replace(estimate, of_prior_model=True)
            for estimate, is_followed in zip(estimates, followed, strict=True)
            if estimate.certified or is_followed
        }

    def _with_own_crops(self, observed: Observations, frame: Frame) -> Observations:
        """The observations with the crops of the prior's network, which has others."""
        network, labels = self._network, observed.labels.tolist()
        if not network.predicts_coordinates:  # it looks at nothing
            channels = network.input_channels
            return observed._replace(crops=observed.points.new_zeros((len(labels), channels, 1, 1)))
        shown = frame.with_labels(np.where(np.isin(frame.labels, labels), frame.labels, 0))
        own = observe(
            shown,
            self.settings.observation,
            network.crop_size,
            network.sees_geometry,
            network.crop_rule,
        )
        found = own.labels.tolist()
        own = own.rows(torch.tensor([found.index(label) for label in labels]))
        own = own.to(observed.points.device)
        return observed._replace(crops=own.crops, boxes=own.boxes)


def _has_library_shape(solution: Solution, row: int, expected: Sequence[ExpectedObject]) -> bool:
    """Whether a frame before certified a shape of the library for an object."""
    last = expected_at(solution.correspondences.rows(slice(row, row + 1)), expected)
    return last is not None and last.shape_certified and not last.of_prior_model


def _without_library(settings: EstimatorSettings) -> EstimatorSettings:
    """The settings for a model without a library, whose objects are next to those of one."""
    corrector = settings.corrector and dataclasses.replace(settings.corrector, shape="none")
    hidden = min(settings.prior_shapes.hidden_limit, _MOST_HIDDEN)
    prior_shapes = dataclasses.replace(settings.prior_shapes, hidden_limit=hidden)
    return dataclasses.replace(settings, corrector=corrector, prior_shapes=prior_shapes)
