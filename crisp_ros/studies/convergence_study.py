"""Convergence of the corrector's solvers: objective and error by the number of iterations.

The solvers are not instrumented: each is run as in production with a budget of k iterations, and
its result is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from crisp_ros.benchmark.decoded_views import DecodedViews, ViewNoise, decoded_views
from crisp_ros.correction.active_shape import ActiveShapeSettings, least_squares
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.pose_gradient import GradientSettings, descend_pose
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import surface_objective
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.shape_projected_gradient import projected_gradient
from crisp_ros.correction.steps import PoseStep, ShapeStep
from crisp_ros.correction.surface import SurfacePoints, surface_points
from crisp_ros.geometry.chamfer import nearest_distances
from crisp_ros.geometry.registration import Registration, register
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.studies.corrector_trials import ALGORITHM_1_STEP

_SCALE_M = 0.01  # of the robust objective, the same for all solvers
_STARTS = {  # interior share of the start of the projected gradient
    "projected gradient": ALGORITHM_1_STEP.interior_share,
    "projected gradient, from a vertex": 0.0,
}
_OTHER_EVALUATIONS = 4  # of the second-order solver, in addition to its iterations


@dataclass(frozen=True)
class ConvergenceStudySettings:
    """Settings of `convergence_study`.

    Attributes:
        views: of each library shape.
        points: of a view.
        noise: of the views.
        surface_points: on a shape, for the errors.
        pose_iterations: budgets of the gradient descent on Z.
        newton_iterations: budgets of the second-order pose solver.
        shape_iterations: budgets of the projected gradient on the coefficients.
        seed: of the views.
    """

    views: int = 2
    points: int = 1000
    noise: ViewNoise = ViewNoise()
    surface_points: int = 512
    pose_iterations: tuple[int, ...] = (0, 1, 2, 3, 5, 8, 12, 18, 25, 35, 50)
    newton_iterations: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 8)
    shape_iterations: tuple[int, ...] = (0, 1, 2, 3, 5, 8, 12, 18, 25)
    seed: int = 0


class Curve(NamedTuple):
    """Distance and error of a solver by its iterations.

    Attributes:
        name: of the solver.
        iterations: k budgets.
        distance_m: (k, B) robust root mean square distance of each object's points to its surface,
            the square root of the objective.
        error_m: (k, B) of the pose (ADD-S) or of the shape (Chamfer distance, mean of both
            directions).
    """

    name: str
    iterations: tuple[int, ...]
    distance_m: Tensor
    error_m: Tensor

    def to_json(self) -> dict[str, Any]:
        """Mean, median and quartiles over the objects, after each budget."""
        levels = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)

        def summary(values: Tensor) -> dict[str, list[float]]:
            low, median, high = values.double().quantile(levels, dim=-1).tolist()
            mean = values.double().mean(-1).tolist()
            return {"mean": mean, "median": median, "quartile_1": low, "quartile_3": high}

        return {
            "name": self.name,
            "iterations": list(self.iterations),
            "distance_m": summary(self.distance_m),
            "error_m": summary(self.error_m),
        }


@dataclass(frozen=True)
class ConvergenceStudy:
    """Curves of the pose solvers and of the shape solvers.

    Attributes:
        pose: with the true shapes, from the registration of disturbed coordinates.
        shape: with the true poses, from the code of another library shape.
        true_distance_m: (B,) of the points to the true surface at the true pose: the noise and the
            decoder's own error, a lower bound for useful solutions.
        right_shape: share of the objects whose largest coefficient is that of their shape, by
            solver of the shape, at its last budget.
        settings: of the study.
    """

    pose: tuple[Curve, ...]
    shape: tuple[Curve, ...]
    true_distance_m: Tensor
    right_shape: dict[str, float]
    settings: ConvergenceStudySettings

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "objects": len(self.true_distance_m),
            "settings": asdict(self.settings),
            "true_distance_median_m": float(self.true_distance_m.median()),
            "pose": [curve.to_json() for curve in self.pose],
            "shape": [curve.to_json() for curve in self.shape],
            "right_shape_share": self.right_shape,
        }


def convergence_study(
    decoder: ShapeDecoder,
    library: ShapeLibrary,
    settings: ConvergenceStudySettings | None = None,
    on_solve: Callable[[int, int], None] = lambda done, total: None,
) -> ConvergenceStudy:
    """Run each solver with growing budgets on half-visible, noisy views of all library shapes.

    Args:
        decoder: f_d, on the CPU.
        library: the shapes.
        settings: see `ConvergenceStudySettings`.
        on_solve: called with the solves done and their number.

    Raises:
        ViewError: the decoder does not show a shape that the library names.
    """
    settings = settings or ConvergenceStudySettings()
    budgets = settings.pose_iterations + settings.newton_iterations + 2 * settings.shape_iterations
    total, done = len(budgets) + 2, 0

    def solved() -> None:
        nonlocal done
        done += 1
        on_solve(done, total)

    shapes = list(range(len(library))) * settings.views
    views = decoded_views(decoder, library, shapes, settings.noise, settings.points, settings.seed)
    field = DecoderField(decoder)
    prepared = PreparedLibrary(field, library)
    problem = _Problem(
        field,
        prepared,
        views,
        register(views.points, views.pnc, views.valid),
        surface_points(field, prepared.all_shapes, settings.surface_points),
        transform(views.T_object_camera, views.points),
        Shapes.of_codes(library.codes[(views.shapes + max(1, len(library) // 3)) % len(library)]),
    )
    pose = (
        problem.pose_curve("gradient", settings.pose_iterations, problem.gradient, solved),
        problem.pose_curve("second order", settings.newton_iterations, problem.newton, solved),
    )
    projected = [
        problem.shape_curve(name, settings.shape_iterations, problem.projected(share), solved)
        for name, share in _STARTS.items()
    ]
    squares = [
        problem.shape_curve(name, (1,), lambda _, one_hot=one_hot: problem.squares(one_hot), solved)
        for name, one_hot in (("LSQ, one-hot", True), ("LSQ, combination", False))
    ]
    made = [*projected, *squares]
    return ConvergenceStudy(
        pose,
        tuple(curve for curve, _ in made),
        problem.distance(problem.z, prepared.shapes(views.shapes)),
        {curve.name: share for curve, share in made},
        settings,
    )


@dataclass(frozen=True)
class _Problem:
    """The views, the initial values of the solvers and the metrics of their results."""

    field: DecoderField
    library: PreparedLibrary
    views: DecodedViews
    start: Registration
    surfaces: SurfacePoints
    z: Tensor
    wrong: Shapes

    def gradient(self, iterations: int) -> PoseStep:
        settings = GradientSettings(iterations=iterations)
        return descend_pose(self.field, self._seen(), self._true_shapes(), settings)

    def newton(self, iterations: int) -> PoseStep:
        settings = PoseLmSettings(evaluations=iterations + _OTHER_EVALUATIONS)
        T = self.start.T_object_camera
        return refine_pose(self.field, self._seen(), self._true_shapes(), T, settings)

    def projected(self, interior_share: float) -> Callable[[int], ShapeStep]:
        """The h step of Algorithm 1 by its iterations; 0 starts at a vertex, as in the paper."""

        def step(iterations: int) -> ShapeStep:
            settings = replace(
                ALGORITHM_1_STEP, iterations=iterations, interior_share=interior_share
            )
            return projected_gradient(self.field, self._z(), self.wrong, self.library, settings)

        return step

    def squares(self, one_hot: bool) -> ShapeStep:
        settings = ActiveShapeSettings(one_hot=one_hot)
        return least_squares(self.field, self._z(), self.wrong, self.library, settings)

    def pose_curve(
        self,
        name: str,
        budgets: Sequence[int],
        solve: Callable[[int], PoseStep],
        solved: Callable[[], None],
    ) -> Curve:
        distances, errors = [], []
        for budget in budgets:
            T = solve(budget).T_object_camera
            distances.append(self.distance(transform(T, self.views.points), self._true_shapes()))
            errors.append(self._add_s(T))
            solved()
        return Curve(name, tuple(budgets), torch.stack(distances), torch.stack(errors))

    def shape_curve(
        self,
        name: str,
        budgets: Sequence[int],
        solve: Callable[[int], ShapeStep],
        solved: Callable[[], None],
    ) -> tuple[Curve, float]:
        """The curve, and the share of right shapes at the last budget."""
        distances, errors = [], []
        for budget in budgets:
            step = solve(budget)
            distances.append(self.distance(self.z, step.shapes))
            errors.append(self._chamfer(step.shapes))
            solved()
        named = step.coefficients.argmax(-1) == self.views.shapes
        curve = Curve(name, tuple(budgets), torch.stack(distances), torch.stack(errors))
        return curve, float(named.float().mean())

    def distance(self, z: Tensor, shapes: Shapes) -> Tensor:
        sdf = self.field.sdf(z, shapes)
        return surface_objective(sdf, self.views.valid, sdf.new_tensor(_SCALE_M)).sqrt()

    def _true_shapes(self) -> Shapes:
        return self.library.shapes(self.views.shapes)

    def _z(self) -> ObjectPoints:
        return ObjectPoints.of(self.z, self.views.valid)

    def _seen(self) -> Correspondences:
        views = self.views
        weights = self.start.inliers.to(views.points.dtype)
        return Correspondences(views.points, views.pnc, weights, views.valid)

    def _add_s(self, T: Tensor) -> Tensor:
        """ADD-S (B,): mean distance from true surface points to the nearest estimated one."""
        points, valid = (part[self.views.shapes] for part in self.surfaces)
        true, found = (transform(invert(pose), points) for pose in (self.views.T_object_camera, T))
        distance = nearest_distances(true, found, valid)
        return torch.where(valid, distance, torch.nan).nanmean(-1)

    def _chamfer(self, shapes: Shapes) -> Tensor:
        """Chamfer distance (B,): |f_d| at the other's surface points, mean of both directions."""
        true = self._true_shapes()
        margin = 0.5 * (true.upper - true.lower)
        within = shapes._replace(lower=true.lower - margin, upper=true.upper + margin)
        found = surface_points(self.field, within, self.surfaces.points.shape[1])
        surfaces = self.surfaces.rows(true.index)
        distances = (
            self.field.sdf(found.points, true).abs(),
            self.field.sdf(surfaces.points, shapes).abs(),
        )
        valid = found.valid, surfaces.valid
        a, b = (
            torch.where(v, distance, torch.nan).nanmean(-1)
            for distance, v in zip(distances, valid, strict=True)
        )
        # A mixture may have no surface in the box: then one direction counts for both.
        return 0.5 * (torch.where(a.isnan(), b, a) + b)
