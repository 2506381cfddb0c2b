"""Trials of the corrector's parts, each on its own, with single views of objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from crisp_ros.correction.active_shape import least_squares
from crisp_ros.correction.corrector import correct
from crisp_ros.correction.corrector_settings import CORRECTORS
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.pose_gradient import GradientSettings, descend_pose
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import ANY_FALL
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.shape_projected_gradient import (
    ProjectedGradientSettings,
    projected_gradient,
)
from crisp_ros.evaluation.metrics import add_s
from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.geometry.registration import register
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.geometry.simplex_qp import minimise
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.studies.object_views import ObjectViews

PNC_NOISE_M = (0.0, 0.002, 0.01)
PNC_OUTLIERS = (0.0, 0.2, 0.4)
SAME_OBJECTIVE_M = 1e-4
FAINT_PRIOR = 1e-3  # only determines the directions that the signed distances leave free
ALGORITHM_1_STEP = CORRECTORS["alg1"].projected_gradient
_ADD_S_POINTS = 1500


class ShapeTrial(NamedTuple):
    """Shares of the views whose shape is found, from a wrong code of the library.

    Attributes:
        count: number of views.
        lsq: Algorithm 2, one-hot, at the true pose.
        projected_gradient: the h step of Algorithm 1 at the true pose, with the settings of the
            corrector `alg1`; the library code nearest to its mixture counts.
        projected_gradient_largest: the same; the library shape with the largest coefficient counts.
        from_code: `projected_gradient` from the network's code, a vertex of the simplex, as the
            paper has it.
        from_code_largest: `projected_gradient_largest` from there.
        corrector: pose and shape with the node's settings, from true coordinates of noisy points.
        lsq_confused: pairs (true, found) of lsq.
    """

    count: int
    lsq: float
    projected_gradient: float
    projected_gradient_largest: float
    from_code: float
    from_code_largest: float
    corrector: float
    lsq_confused: tuple[tuple[str, str], ...]


def shape_trial(decoder: ShapeDecoder, library: ShapeLibrary, views: ObjectViews) -> ShapeTrial:
    """Search the shapes of half-visible objects; each view starts with another wrong code."""
    count, kinds = len(views.objects), len(library)
    step = 1 + torch.arange(count) % (kinds - 1)
    wrong = library.codes[(views.objects + step) % kinds]
    z = transform(views.T_object_camera.float(), views.points)
    field, points, own = (
        DecoderField(decoder),
        ObjectPoints.of(z, views.valid),
        Shapes.of_codes(wrong),
    )
    prepared = PreparedLibrary(field, library)
    found = least_squares(field, points, own, prepared).coefficients.argmax(-1)

    def shares_of_step(settings: ProjectedGradientSettings) -> tuple[float, float]:
        step = projected_gradient(field, points, own, prepared, settings)
        nearest = prepared.distances(step.shapes.codes).argmin(-1)
        largest = step.coefficients.argmax(-1)
        return _share(nearest == views.objects), _share(largest == views.objects)

    seen, start = _registered(views, views.z)
    both = correct(field, seen, own, start, prepared)
    missed = (found != views.objects).nonzero().squeeze(-1).tolist()
    return ShapeTrial(
        count,
        _share(found == views.objects),
        *shares_of_step(ALGORITHM_1_STEP),
        *shares_of_step(replace(ALGORITHM_1_STEP, interior_share=0.0)),
        _share(both.shapes.index == views.objects),
        tuple((library.names[views.objects[i]], library.names[found[i]]) for i in missed),
    )


class ZTrial(NamedTuple):
    """Median ADD-S of poses from noisy coordinates.

    Attributes:
        pnc_noise_m: standard deviation of the coordinates.
        pnc_outliers: share of outliers among the coordinates.
        before_m: of the registration.
        second_order_m: after the second-order solver.
        gradient_m: after the gradient solver.
    """

    pnc_noise_m: float
    pnc_outliers: float
    before_m: float
    second_order_m: float
    gradient_m: float


def z_trials(
    decoder: ShapeDecoder,
    library: ShapeLibrary,
    views: ObjectViews,
    shapes: Mapping[str, TrueShape],
    seed: int = 0,
    on_trial: Callable[[int, int], None] = lambda done, total: None,
) -> list[ZTrial]:
    """Run the pose solvers from good poses, with true shapes, noisy points and coordinates."""
    generator = torch.Generator().manual_seed(seed)
    field = DecoderField(decoder)
    true = PreparedLibrary(field, library).shapes(views.objects)
    lower, upper = true.lower[:, None], true.upper[:, None]
    trials = []
    for noise in PNC_NOISE_M:
        for outliers in PNC_OUTLIERS:
            pnc = views.z + noise * torch.randn(views.z.shape, generator=generator)
            off = torch.rand(views.z.shape[:2], generator=generator) < outliers
            anywhere = lower + (upper - lower) * torch.rand(views.z.shape, generator=generator)
            pnc = torch.where(off[..., None], anywhere, pnc)
            seen, start = _registered(views, pnc)
            after = (
                start,
                refine_pose(field, seen, true, start).T_object_camera,
                descend_pose(field, seen, true).T_object_camera,
            )
            medians = (float(np.median(_add_s(T, views, library.names, shapes))) for T in after)
            trials.append(ZTrial(noise, outliers, *medians))
            on_trial(len(trials), len(PNC_NOISE_M) * len(PNC_OUTLIERS))
    return trials


class SolverTrial(NamedTuple):
    """Optima of both pose solvers, from coordinates with the errors of a network.

    Attributes:
        count: number of views.
        gradient_steps: of the gradient solver.
        second_order_m: median root objective of the second-order solver.
        gradient_m: median root objective of the gradient solver.
        no_worse: share of the views whose root objective is at most `SAME_OBJECTIVE_M` above that
            of the gradient steps, with a prior just strong enough to determine free directions.
        no_worse_with_prior: the same with the node's prior, which trades some fit for agreement
            with the coordinates.
    """

    count: int
    gradient_steps: int
    second_order_m: float
    gradient_m: float
    no_worse: float
    no_worse_with_prior: float


def solver_trial(
    decoder: ShapeDecoder,
    library: ShapeLibrary,
    views: ObjectViews,
    gradient_steps: int = 200,
    seed: int = 0,
) -> SolverTrial:
    """Compare optima; coordinates have 4 mm noise, 10 % outliers and are 2 cm off along the ray."""
    generator = torch.Generator().manual_seed(seed)
    ray = views.T_object_camera[:, :3, 2].float()[:, None]
    pnc = views.z + 0.02 * ray + 0.004 * torch.randn(views.z.shape, generator=generator)
    off = torch.rand(views.z.shape[:2], generator=generator) < 0.1
    pnc = torch.where(off[..., None], 0.1 * torch.randn(pnc.shape, generator=generator), pnc)
    seen, start = _registered(views, pnc)
    field = DecoderField(decoder)
    true = PreparedLibrary(field, library).shapes(views.objects)

    # Both accept any fall of the objective, because their optima are compared.
    def refined(prior: PoseLmSettings) -> Tensor:
        return refine_pose(field, seen, true, start, prior).objective.sqrt()

    node = PoseLmSettings(move=ANY_FALL)
    fast, held = refined(replace(node, prior_weight=FAINT_PRIOR)), refined(node)
    settings = GradientSettings(iterations=gradient_steps, patience=gradient_steps, move=ANY_FALL)
    slow = descend_pose(field, seen, true, settings).objective.sqrt()
    return SolverTrial(
        len(slow),
        gradient_steps,
        float(fast.median()),
        float(slow.median()),
        _share(fast <= slow + SAME_OBJECTIVE_M),
        _share(held <= slow + SAME_OBJECTIVE_M),
    )


class ProgramTrial(NamedTuple):
    """Random quadratic programs on the simplex, by our batched solver and by clarabel.

    Attributes:
        programs: their number.
        columns: of a program.
        excess: largest difference of our objective to clarabel's, over the largest entry of the
            matrix; negative if ours is always lower.
        ours_ms: per program.
        clarabel_ms: per program, including set-up.
    """

    programs: int
    columns: int
    excess: float
    ours_ms: float
    clarabel_ms: float


def program_trial(programs: int = 64, columns: int = 22, seed: int = 0) -> ProgramTrial | None:
    """Compare solutions and times; None where clarabel is not installed."""
    try:
        import clarabel
    except ModuleNotFoundError:
        return None
    generator = torch.Generator().manual_seed(seed)
    F = torch.randn(programs, 256, columns, generator=generator, dtype=torch.float64)
    F = F * 10.0 ** (2 * torch.rand(programs, 1, columns, generator=generator).double() - 2)
    gram = F.mT @ F / F.shape[1]
    minimise(gram)  # the first call takes several times as long
    begin = time.perf_counter()
    found = minimise(gram)
    middle = time.perf_counter()
    quiet = clarabel.DefaultSettings()
    quiet.verbose = False
    cones = [clarabel.ZeroConeT(1), clarabel.NonnegativeConeT(columns)]
    limits = np.concatenate([[1.0], np.zeros(columns)])
    constraints = sparse.csc_matrix(np.vstack([np.ones((1, columns)), -np.eye(columns)]))
    solutions = []
    for matrix in gram.numpy():
        upper = sparse.csc_matrix(np.triu(2 * matrix))
        solver = clarabel.DefaultSolver(upper, np.zeros(columns), constraints, limits, cones, quiet)
        solutions.append(solver.solve().x)
    end = time.perf_counter()
    c = torch.tensor(np.array(solutions)).clamp_min(0)
    c = c / c.sum(-1, keepdim=True)
    oracle = torch.einsum("bi,bij,bj->b", c, gram, c)
    return ProgramTrial(
        programs,
        columns,
        float(((found.objective - oracle) / gram.abs().amax((1, 2))).max()),
        1e3 * (middle - begin) / programs,
        1e3 * (end - middle) / programs,
    )


def _add_s(
    T_object_camera: Tensor,
    views: ObjectViews,
    names: Sequence[str],
    shapes: Mapping[str, TrueShape],
) -> list[float]:
    estimates = invert(T_object_camera.double()).numpy()
    truths = invert(views.T_object_camera).numpy()
    return [
        add_s(shapes[names[k]].points[:_ADD_S_POINTS], estimate, truth)
        for k, estimate, truth in zip(views.objects.tolist(), estimates, truths, strict=True)
    ]


def _registered(views: ObjectViews, pnc: Tensor) -> tuple[Correspondences, Tensor]:
    """The correspondences of views with these coordinates, and their poses by registration."""
    registration = register(views.points, pnc, views.valid)
    weights = registration.inliers.float()
    seen = Correspondences(views.points, pnc, weights, views.valid)
    return seen, registration.T_object_camera


def _share(held: Tensor) -> float:
    return float(held.double().mean())
