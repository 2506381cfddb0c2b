"""The h step of Algorithm 1: projected gradient descent on the coefficients of library codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crisp_ros.correction.adam import AdamSettings, Evaluation, minimize
from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import geman_mcclure, surface_objective
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.steps import ShapeStep
from crisp_ros.geometry.simplex import project
from crisp_ros.geometry.simplex_qp import minimise

_FIT_FLOOR_M2 = 1e-6  # squared surface error, below which columns fit alike


@dataclass(frozen=True)
class ProjectedGradientSettings:
    """Settings of `projected_gradient`; the step and the number of iterations are the paper's.

    Attributes:
        learning_rate: of Adam on the coefficients.
        iterations: steps taken at most.
        points: points used while iterating, evenly spaced; the objectives returned use all.
        robust_scale_m: c of the robust loss, metres.
        own_code: the network's own code is a column of the hull too.
        patience: an object stops after so many steps without a new best objective.
        interior_share: of the way from the nearest point of the hull to that mean.
        most_shapes: see `ActiveShapeSettings`.
    """

    learning_rate: float = 1e-2
    iterations: int = 25
    points: int = 256
    robust_scale_m: float = 0.01
    own_code: bool = True
    patience: int = 8
    interior_share: float = 0.5
    most_shapes: int = 64


@torch.no_grad()
def projected_gradient(
    field: ShapeField,
    points: ObjectPoints,
    shapes: Shapes,
    library: PreparedLibrary,
    settings: ProjectedGradientSettings | None = None,
) -> ShapeStep:
    """Minimize over the hull of the library: mean_i rho(f_d(z_i | A c)), c on the simplex.

    The objective is the robust, weighted mean over valid points of `surface_objective`. The first
    iterate is between the point of the hull nearest to the code given, mostly a vertex from which
    few steps go far, and the mean of the columns weighted by how well they fit. After each step of
    Adam along the simplex the coefficients are projected onto it, exactly. Each object keeps its
    own best iterate and stops on its own; where the network's code is a column, the result is never
    worse than it.

    Args:
        field: f_d.
        points: of B objects; several views of an object may be pooled.
        shapes: (B,) to start from.
        library: the known shapes.
        settings: see `ProjectedGradientSettings`.
    """
    settings = settings or ProjectedGradientSettings()
    points = points.sanitized()
    columns = library.columns(shapes, settings.own_code, settings.most_shapes)
    hull = columns.codes
    few = points.subsample(settings.points)
    scale = hull.new_tensor(settings.robust_scale_m)

    def evaluate(rows: Tensor, c: Tensor) -> Evaluation:
        some = ObjectPoints(few.points[rows], few.weights[rows])
        return _slope(field, some, hull[rows], c, scale)

    adam = AdamSettings(settings.learning_rate, settings.iterations, settings.patience)
    start = _nearest_coefficients(hull, shapes.codes)
    if settings.interior_share > 0:
        sdf = field.sdf(few.points[:, None], columns)
        columns_fit = surface_objective(sdf, few.weights[:, None], scale.expand(sdf.shape[:2]))
        start = torch.lerp(start, _fitting_mean(columns_fit), settings.interior_share)
    c = minimize(evaluate, start, adam, project).result

    codes = (c[:, None] @ hull).squeeze(1)
    both = torch.stack((shapes.codes, codes), dim=1)
    sdf = field.decoder.sdf(points.points[:, None], both)
    start, end = surface_objective(sdf, points.weights[:, None], scale.expand(len(c), 2)).unbind(1)
    if settings.own_code:
        better = end < start
        alone = torch.zeros_like(c)
        alone[:, -1] = 1.0
        c = torch.where(better[:, None], c, alone)
        end = torch.minimum(start, end)
    return ShapeStep(library.mixture(c, columns, shapes), c, end, start)


def _fitting_mean(objective: Tensor) -> Tensor:
    """Simplex coefficients (B, M) of columns by their objectives (B, M), the lower the more."""
    share = (objective.amin(-1, keepdim=True) + _FIT_FLOOR_M2) / (objective + _FIT_FLOOR_M2)
    weights = share.square()
    return weights / weights.sum(-1, keepdim=True)


def _nearest_coefficients(hull: Tensor, codes: Tensor) -> Tensor:
    """Simplex coefficients (B, K) of the point of the hull (B, K, C) nearest to each code."""
    # In float32 the vertex of a library code would come out with a weight below one.
    hull, point = hull.double(), codes.double()
    gram = hull @ hull.transpose(-1, -2)
    linear = -(hull @ point[..., None]).squeeze(-1)
    return minimise(gram, linear).coefficients.to(codes.dtype)


def _slope(
    field: ShapeField, points: ObjectPoints, hull: Tensor, c: Tensor, scale: Tensor
) -> Evaluation:
    """The objective (A,) and its gradient (A, K) in the coefficients c (A, K), along the simplex.

    Without that restriction Adam would spend its steps on what the projection undoes.
    """
    weights = points.weights
    share = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)

    def slope(sdf: Tensor) -> Tensor:
        return 2 * share * geman_mcclure(sdf.square(), scale).weight * sdf

    codes = (c[:, None] @ hull).squeeze(1)
    sdf, in_codes = field.decoder.sdf_and_code_gradient(points.points, codes, slope)
    gradient = (hull @ in_codes[..., None]).squeeze(-1)
    gradient = gradient - gradient.mean(-1, keepdim=True)
    return Evaluation(surface_objective(sdf, weights, scale.expand(len(c))), gradient, c)
