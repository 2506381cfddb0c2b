"""The corrector: pose and shape of a batch of objects so that their depth points lie on them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import LibraryFits, least_squares, library_fits
from crisp_ros.correction.batch import replace_rows, select_rows, take_rows, update_rows
from crisp_ros.correction.corrector_settings import CorrectorSettings
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.pose_gradient import descend_pose
from crisp_ros.correction.pose_lm import refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import ANY_FALL, clearly_better, correspondence_penalty
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.shape_projected_gradient import projected_gradient
from crisp_ros.correction.shape_source import source_of
from crisp_ros.correction.steps import PoseStep
from crisp_ros.geometry.se3 import transform


class Correction(NamedTuple):
    """Corrected poses and shapes of B objects.

    Attributes:
        T_object_camera: (B, 4, 4).
        shapes: (B,), with `index` -1 and without a box where not one of the library.
        pnc: (B, N, 3) the corrected Z* = R x + t of Lemma 5, metres, zero where a point is not
            valid.
        objective: (B,) square metres, `surface_objective` over all valid points.
        iterations: (B,) steps of the pose solver, all rounds together.
        sources: (B,) long, `ShapeSource` of the shapes.
    """

    T_object_camera: Tensor
    shapes: Shapes
    pnc: Tensor
    objective: Tensor
    iterations: Tensor
    sources: Tensor

    @classmethod
    def of_network(
        cls, correspondences: Correspondences, shapes: Shapes, T_object_camera: Tensor
    ) -> Correction:
        """The network's shapes at registered poses, as they are; the objective is NaN."""
        points, _, _, valid = correspondences
        z = torch.where(valid[..., None], transform(T_object_camera, points), 0.0)
        objective = points.new_full((len(points),), torch.nan)
        iterations = torch.zeros_like(objective, dtype=torch.long)
        return cls(T_object_camera, shapes, z, objective, iterations, source_of(shapes, shapes))


class _Problem(NamedTuple):
    """Constant data of all phases; rows of objects can be selected.

    Attributes:
        correspondences: of the objects.
        own: (B,) shapes of the network.
        registered: (B, 4, 4) poses from the coordinates alone.
    """

    correspondences: Correspondences
    own: Shapes
    registered: Tensor


class _Start(NamedTuple):
    """Poses (B, 4, 4) and library shapes (B,) to start from."""

    T_object_camera: Tensor
    index: Tensor


class _Fit(NamedTuple):
    """The pose step and the shapes of the objects so far."""

    step: PoseStep
    shapes: Shapes


@torch.no_grad()
def correct(
    field: ShapeField,
    correspondences: Correspondences,
    shapes: Shapes,
    T_object_camera: Tensor,
    library: PreparedLibrary | None,
    settings: CorrectorSettings | None = None,
) -> Correction:
    """Solve eq. (5) for pose and shape, starting from the network's answer.

    Args:
        field: f_d.
        correspondences: of B objects; weights of one for inliers of the registration. Points and
            coordinates that are not finite do not count.
        shapes: (B,) of the network.
        T_object_camera: (B, 4, 4) registration of the points to the coordinates.
        library: the known shapes; needed unless `settings.shape` is "none".
        settings: see `CorrectorSettings`.

    Raises:
        ValueError: a shape solver is asked for without a library, or shapes do not fit together.
    """
    settings = settings or CorrectorSettings()
    _check(correspondences, shapes, library, settings)
    observed = correspondences.sanitized()
    registered = T_object_camera.to(observed.points.dtype)
    if len(registered) == 0:
        nothing = registered.new_zeros(0)
        return Correction(
            registered,
            shapes,
            torch.zeros_like(observed.points),
            nothing,
            nothing.long(),
            nothing.long(),
        )
    solver = _Corrector(field, library, settings)
    fit = solver.solve(_Problem(observed, shapes, registered))
    T = fit.step.T_object_camera
    z = torch.where(observed.valid[..., None], transform(T, observed.points), 0.0)
    sources = source_of(fit.shapes, shapes)
    return Correction(T, fit.shapes, z, fit.step.objective, fit.step.iterations, sources)


class _Corrector:
    """The phases of `correct`: choose a shape, refine the pose, reconsider the shape, alternate."""

    def __init__(
        self, field: ShapeField, library: PreparedLibrary | None, settings: CorrectorSettings
    ) -> None:
        self._field, self._library, self._settings = field, library, settings

    def solve(self, problem: _Problem) -> _Fit:
        """All phases for B > 0 objects."""
        if not (self._settings.shape == "lsq" and self._settings.fit_poses):
            step = self._refine(problem, problem.own, problem.registered, from_coordinates=True)
            fit = _Fit(step, problem.own)
        else:
            T, shapes = self._choose_shape(problem)
            fit = _Fit(self._refine(problem, shapes, T), shapes)
            if math.isfinite(self._settings.shape_ratio):
                fit = self._reconsider_shape(problem, T, fit)
            if self._settings.active_shape.own_code:
                fit = self._compare_own_shape(problem, fit)
        fit = self._alternate(problem, self._update_shape(problem, fit))
        return self._refine_last(problem, fit) if self._settings.updates_shape else fit

    def _choose_shape(self, problem: _Problem) -> tuple[Tensor, Shapes]:
        """The pose (B, 4, 4) and the library shape of each object to start from.

        The network's code has seen the colours; the depth has seen only what every box has, a side.
        Therefore a shape that the network clearly named is kept, and where it was in doubt, the
        depth decides.
        """
        distances = self._library.distances(problem.own.codes)
        nearest = distances.min(-1)
        floor = nearest.values[:, None].clamp_min(torch.finfo(distances.dtype).tiny)
        admitted = distances <= self._settings.shape_ratio * floor
        start = update_rows(
            admitted.sum(-1) > 1,
            _Start(problem.registered, nearest.indices),
            self._best_start,
            problem,
            admitted,
            nearest.indices,
        )
        return start.T_object_camera, self._library.shapes(start.index)

    def _best_start(self, problem: _Problem, admitted: Tensor, named: Tensor) -> _Start:
        """The library shapes that explain the depth best among those admitted, (B, K) bool."""
        fits = self._fit_library(problem, problem.registered)
        allowed = admitted.gather(-1, fits.shapes.index)
        column = chosen_column(fits, allowed, named, self._settings)
        return _Start(_column(fits.T_object_camera, column), _column(fits.shapes.index, column))

    def _reconsider_shape(self, problem: _Problem, start: Tensor, fit: _Fit) -> _Fit:
        """The fit, with another library shape where the network's code was wrong.

        It was where its shape leaves the depth unexplained, or explains it only against the
        network's own coordinates, and another shape does not.
        """
        observed = problem.correspondences
        penalty = correspondence_penalty(
            transform(start, observed.points),
            transform(fit.step.T_object_camera, observed.points),
            observed,
            self._settings.second_order.move,
        )
        cost = _with_penalty(fit.step.objective, penalty, self._settings)
        unexplained = cost > self._settings.unexplained_above_m**2
        return update_rows(unexplained, fit, self._with_other_shape, problem, start, fit)

    def _with_other_shape(self, problem: _Problem, start: Tensor, fit: _Fit) -> _Fit:
        """The fit, with the library shape that explains the depth best from poses `start`."""
        fits = self._fit_library(problem, start)
        every = torch.ones_like(fits.objective, dtype=torch.bool)
        column = chosen_column(fits, every, fit.shapes.index, self._settings)
        found = _column(fits.shapes.index, column)
        T = _column(fits.T_object_camera, column)
        other = found != fit.shapes.index
        return update_rows(other, fit, self._with_shape, problem, found, T, fit)

    def _with_shape(self, problem: _Problem, index: Tensor, T: Tensor, fit: _Fit) -> _Fit:
        """The fit, with library shapes (B,) refined from poses T where these are better."""
        shapes = self._library.shapes(index)
        again = self._refine(problem, shapes, T)
        better = again.objective < fit.step.objective
        return select_rows(better, _Fit(again.after(fit.step), shapes), fit)

    def _compare_own_shape(self, problem: _Problem, fit: _Fit) -> _Fit:
        """The fit, with the network's own shape at its best pose where that is better."""
        step = self._refine(problem, problem.own, problem.registered)
        better = step.objective < fit.step.objective
        return select_rows(better, _Fit(step, problem.own), fit)

    def _alternate(self, problem: _Problem, fit: _Fit) -> _Fit:
        """The fit after the rounds that follow the first; each object stops on its own."""
        active = torch.arange(len(fit.step.objective), device=fit.step.objective.device)
        for _ in range(self._settings.rounds - 1):
            some, last = take_rows(problem, active), take_rows(fit, active)
            step = self._refine(some, last.shapes, last.step.T_object_camera).after(last.step)
            new = self._update_shape(some, _Fit(step, last.shapes))
            fit = replace_rows(fit, active, new)
            fall = last.step.objective - new.step.objective
            active = active[fall > self._settings.round_tolerance * new.step.objective]
            if len(active) == 0:
                break
        return fit

    def _refine_last(self, problem: _Problem, fit: _Fit) -> _Fit:
        """The fit with a pose for its final shapes, so that both are certified together."""
        step = self._refine(problem, fit.shapes, fit.step.T_object_camera).after(fit.step)
        better = step.objective < fit.step.objective
        return fit._replace(step=select_rows(better, step, fit.step))

    def _update_shape(self, problem: _Problem, fit: _Fit) -> _Fit:
        """The fit after the shape step of a round, at the poses of the fit."""
        settings, step = self._settings, fit.step
        if not self._settings.updates_shape:
            return fit
        observed = problem.correspondences
        points = ObjectPoints.of(transform(step.T_object_camera, observed.points), observed.valid)
        if settings.shape == "projected_gradient":
            found = projected_gradient(
                self._field, points, fit.shapes, self._library, settings.projected_gradient
            )
            return _Fit(step._replace(objective=found.objective), found.shapes)
        found = least_squares(
            self._field, points, problem.own, self._library, settings.active_shape
        )
        better = found.objective < step.objective
        if not settings.active_shape.own_code:
            # The network's shape is no candidate: the first shape step replaces it.
            is_own = (fit.shapes.codes == problem.own.codes).all(-1) & (fit.shapes.index < 0)
            better = better | is_own
        return _Fit(
            step._replace(objective=torch.where(better, found.objective, step.objective)),
            select_rows(better, found.shapes, fit.shapes),
        )

    def _refine(
        self, problem: _Problem, shapes: Shapes, T: Tensor, from_coordinates: bool = False
    ) -> PoseStep:
        """The pose step from poses T (B, 4, 4); or, of the gradient solver, from the coordinates.

        In later rounds that solver goes on from the last Z, which by Lemma 5 is R x + t.
        """
        observed = problem.correspondences
        if self._settings.solver == "second_order":
            return self._refine_with_restarts(observed, shapes, T)
        if not from_coordinates:
            observed = observed.aligned_to(T)
        return descend_pose(self._field, observed, shapes, self._settings.gradient)

    def _refine_with_restarts(
        self, correspondences: Correspondences, shapes: Shapes, T: Tensor
    ) -> PoseStep:
        """The second-order step, with restarts of the few objects that have farther to go."""
        settings = self._settings
        step = refine_pose(self._field, correspondences, shapes, T, settings.second_order)
        start = step.start_objective
        # That they must move is decided already.
        onwards = replace(settings.second_order, move=ANY_FALL)
        for _ in range(settings.restarts):
            far = (step.objective > settings.restart_above_m**2) & (step.objective < start)
            start = step.objective
            step = update_rows(
                far,
                step,
                lambda some, of, last: refine_pose(
                    self._field, some, of, last.T_object_camera, onwards
                ).after(last),
                correspondences,
                shapes,
                step,
                looks=False,
            )
        return step

    def _fit_library(self, problem: _Problem, T: Tensor) -> LibraryFits:
        settings = self._settings
        return library_fits(
            self._field,
            problem.correspondences,
            self._library,
            T,
            problem.own.codes,
            settings.active_shape,
            settings.second_order,
        )


def chosen_column(
    fits: LibraryFits, admitted: Tensor, named: Tensor, settings: CorrectorSettings
) -> Tensor:
    """The column (B,) of the fits with each object's shape.

    A shape that explains the depth only after a motion that contradicts the coordinates counts as
    that much worse: from one side many shapes fit, if they may be moved. A named shape that was not
    fitted is replaced by the best of the others.

    Args:
        fits: of M library shapes.
        admitted: (B, M) bool, the shapes to choose from.
        named: (B,) library index of the shape that the network named.
        settings: see `CorrectorSettings`.
    """
    floor_m = settings.second_order.move.surface_error_m
    cost = _with_penalty(fits.objective, fits.penalty, settings)
    cost = cost.masked_fill(~admitted, torch.inf)
    best = cost.argmin(-1)
    is_named = fits.shapes.index == named[:, None]
    column = is_named.to(torch.int8).argmax(-1)
    before = cost.gather(-1, column[:, None]).squeeze(-1)
    after = cost.gather(-1, best[:, None]).squeeze(-1)
    better = clearly_better(before, after, settings.shape_significance, floor_m)
    return torch.where(better | ~is_named.any(-1), best, column)


def _column(values: Tensor, column: Tensor) -> Tensor:
    """The values (B, ...) of one column (B,) of each row, from (B, M, ...)."""
    return values[torch.arange(len(column), device=column.device), column]


def _with_penalty(objective: Tensor, penalty: Tensor, settings: CorrectorSettings) -> Tensor:
    floor_m = settings.second_order.move.surface_error_m
    return objective + penalty * (objective + floor_m**2)


def _check(
    correspondences: Correspondences,
    shapes: Shapes,
    library: PreparedLibrary | None,
    settings: CorrectorSettings,
) -> None:
    points, pnc, _, valid = correspondences
    if library is None and settings.shape != "none":
        raise ValueError(
            f"shape solver {settings.shape!r} needs a shape library: use a model that has one, "
            "or set shape to 'none'"
        )
    if points.ndim != 3 or points.shape[-1] != 3 or pnc.shape != points.shape:
        raise ValueError(
            f"points {tuple(points.shape)} and pnc {tuple(pnc.shape)}: expected both (B, N, 3)"
        )
    if valid.shape != points.shape[:2] or len(shapes.codes) != len(points):
        raise ValueError(
            f"valid {tuple(valid.shape)} and codes {tuple(shapes.codes.shape)}: expected (B, N) "
            f"and (B, C) with B, N = {tuple(points.shape[:2])}"
        )
