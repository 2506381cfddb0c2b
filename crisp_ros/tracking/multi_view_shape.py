"""The shape of an object from all its views (Remark 3), and the distance between two shapes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import ActiveShapeSettings, least_squares
from crisp_ros.correction.batch import replace_rows, select_rows
from crisp_ros.correction.box_search import with_boxes
from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.degeneracy import degeneracy
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import clearly_better
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.shape_projected_gradient import (
    ProjectedGradientSettings,
    projected_gradient,
)
from crisp_ros.validation import check_ranges, ranged

_GRID = 12  # samples along each edge of the box in which two shapes are compared
_BAND = 0.1  # of the box's diagonal; farther from both surfaces, differences do not count


@dataclass(frozen=True)
class MultiViewShapeSettings:
    """Settings of `multi_view_shape`.

    Attributes:
        solver: Algorithm 2, or the shape step of Algorithm 1.
        active_shape: of Algorithm 2; more points than for one view.
        projected_gradient: of Algorithm 1.
        significance: least relative decrease of the objective that changes the shape, see
            `clearly_better`.
        surface_error_m: error of the decoder in that comparison, metres.
        change_m: shapes whose signed distances differ by less are the same one, metres, see
            `shape_distances`.
        degeneracy_points: points that enter the eigenvalue.
    """

    solver: Literal["lsq", "projected_gradient"] = "lsq"
    active_shape: ActiveShapeSettings = field(
        default_factory=lambda: ActiveShapeSettings(points=1024)
    )
    projected_gradient: ProjectedGradientSettings = field(
        default_factory=lambda: ProjectedGradientSettings(points=1024)
    )
    significance: float = ranged(0.05, 0.0, 10.0)
    surface_error_m: float = ranged(1.5e-3, 0.0, 0.1)
    change_m: float = ranged(0.003, 0.0, 0.1)
    degeneracy_points: int = ranged(256, 16, 10000)

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.solver not in ("lsq", "projected_gradient"):
            raise ValueError(f"solver is {self.solver!r}: expected 'lsq' or 'projected_gradient'")


class MultiViewShapes(NamedTuple):
    """Shapes of B objects from all their views.

    Attributes:
        shapes: (B,) with boxes; those given where nothing changed.
        changed: (B,) bool, another shape explains the views clearly better, and differs.
        objective: (B,) square metres, with the solver's shapes.
        start_objective: (B,) with the shapes given.
        tangent_eigenvalue: (B,) how well the views fix the shape, see `Degeneracy`.
    """

    shapes: Shapes
    changed: Tensor
    objective: Tensor
    start_objective: Tensor
    tangent_eigenvalue: Tensor


@torch.no_grad()
def multi_view_shape(
    field: ShapeField,
    library: PreparedLibrary,
    views: ObjectPoints,
    shapes: Shapes,
    settings: MultiViewShapeSettings | None = None,
) -> MultiViewShapes:
    """Solve for the shape with the points of all views (Remark 3), for B objects at once.

    Args:
        field: f_d.
        library: the known shapes.
        views: the points of all views of each object.
        shapes: (B,) so far, with boxes.
        settings: see `MultiViewShapeSettings`.
    """
    settings = settings or MultiViewShapeSettings()
    if settings.solver == "lsq":
        step = least_squares(field, views, shapes, library, settings.active_shape)
    else:
        step = projected_gradient(field, views, shapes, library, settings.projected_gradient)
    found = step.shapes
    outside = (found.index < 0).nonzero().squeeze(-1)
    if len(outside) > 0:
        some = ObjectPoints(views.points[outside], views.weights[outside])
        found = replace_rows(found, outside, with_boxes(field, found.rows(outside), some))
    better = clearly_better(
        step.start_objective, step.objective, settings.significance, settings.surface_error_m
    )
    changed = better & (shape_distances(field, shapes, found) > settings.change_m)
    fixed = degeneracy(field, views.subsample(settings.degeneracy_points), library)
    return MultiViewShapes(
        select_rows(changed, found, shapes),
        changed,
        step.objective,
        step.start_objective,
        fixed.tangent_eigenvalue.to(views.points.dtype),
    )


@torch.no_grad()
def shape_distances(field: ShapeField, shapes: Shapes, others: Shapes) -> Tensor:
    """Measure the distance (B,) between shapes by their signed distances, metres.

    It is the 95 % quantile of |f_d(x | h) - f_d(x | h')| over points x near either surface. A part
    that one shape has and the other lacks therefore counts, while two codes of the same shape have
    distance zero, however different they are as vectors.

    Args:
        field: f_d.
        shapes: (B,) with boxes.
        others: (B,) with boxes.
    """
    distances = shapes.codes.new_zeros(len(shapes.codes))
    differ = (shapes.codes != others.codes).any(-1).nonzero().squeeze(-1)
    if len(differ) == 0:
        return distances
    a, b = shapes.rows(differ), others.rows(differ)
    low, high = torch.minimum(a.lower, b.lower), torch.maximum(a.upper, b.upper)
    diagonal = torch.linalg.norm(high - low, dim=-1)[:, None]
    steps = torch.linspace(-0.05, 1.05, _GRID, dtype=low.dtype, device=low.device)
    unit = torch.cartesian_prod(steps, steps, steps)
    points = low[:, None] + unit * (high - low)[:, None]
    sdf, other = field.sdf(points, a), field.sdf(points, b)
    near = torch.minimum(sdf.abs(), other.abs()) <= _BAND * diagonal
    change = torch.where(near, (sdf - other).abs(), torch.nan)
    distances[differ] = change.nanquantile(0.95, dim=-1).nan_to_num(torch.inf)
    return distances
