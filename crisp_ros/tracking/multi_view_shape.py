"""The shape of an object from all its views (Remark 3), and the distance between two shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.active_shape import ActiveShapeSettings, least_squares
from crisp_ros.correction.degeneracy import degeneracy
from crisp_ros.correction.residuals import clearly_better, evenly_chosen
from crisp_ros.correction.shape_projected_gradient import (
    ProjectedGradientSettings,
    projected_gradient,
)
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.tracking.view_buffer import PooledViews, stack_views
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
        codes: (B, C), those given where nothing changed.
        lower: (B, 3) corner of a box around each shape, metres.
        upper: (B, 3) opposite corner.
        changed: (B,) bool, a different shape explains the views clearly better.
        objective: (B,) square metres, of the solver's code.
        start_objective: (B,) square metres, of the code given.
        tangent_eigenvalue: (B,) how well the views determine the shape, see `Degeneracy`.
    """

    codes: Tensor
    lower: Tensor
    upper: Tensor
    changed: Tensor
    objective: Tensor
    start_objective: Tensor
    tangent_eigenvalue: Tensor


@torch.no_grad()
def multi_view_shape(
    decoder: ShapeDecoder,
    library: ShapeLibrary,
    views: Sequence[PooledViews],
    codes: Tensor,
    lower: Tensor,
    upper: Tensor,
    settings: MultiViewShapeSettings | None = None,
) -> MultiViewShapes:
    """Solve for the shape with the points of all views (Remark 3), for B objects at once.

    Args:
        decoder: f_d.
        library: the known shapes.
        views: of each object.
        codes: (B, C) the shapes so far.
        lower: (B, 3) corner of their boxes, object frame, metres.
        upper: (B, 3) opposite corner.
        settings: see `MultiViewShapeSettings`.
    """
    settings = settings or MultiViewShapeSettings()
    points, valid, weights = stack_views(views)
    if settings.solver == "lsq":
        step = least_squares(decoder, points, valid, codes, library, settings.active_shape)
    else:
        step = projected_gradient(
            decoder, points, valid, codes, library.codes, settings.projected_gradient, weights
        )
    # The box of a mixture lies within the boxes of its parts.
    parts = (step.coefficients[:, : len(library)] > 1e-3)[..., None]
    low = torch.where(parts, library.lower, torch.inf).amin(1).minimum(_if_none(parts, lower))
    high = torch.where(parts, library.upper, -torch.inf).amax(1).maximum(-_if_none(parts, -upper))
    better = clearly_better(
        step.start_objective, step.objective, settings.significance, settings.surface_error_m
    )
    apart = shape_distances(
        decoder, codes, step.codes, torch.minimum(low, lower), torch.maximum(high, upper)
    )
    changed = better & (apart > settings.change_m)
    chosen = evenly_chosen(valid, min(settings.degeneracy_points, points.shape[1]))
    rows = torch.arange(len(codes), device=codes.device)[:, None]
    found = degeneracy(decoder, points[rows, chosen], valid[rows, chosen], library)
    return MultiViewShapes(
        torch.where(changed[:, None], step.codes, codes),
        torch.where(changed[:, None], low, lower),
        torch.where(changed[:, None], high, upper),
        changed,
        step.objective,
        step.start_objective,
        found.tangent_eigenvalue.to(points.dtype),
    )


def _if_none(parts: Tensor, corner: Tensor) -> Tensor:
    """The corner (B, 3) where no library shape is a part, infinity otherwise."""
    return torch.where(parts.any(1), torch.inf, corner)


@torch.no_grad()
def shape_distances(
    decoder: ShapeDecoder, codes: Tensor, others: Tensor, lower: Tensor, upper: Tensor
) -> Tensor:
    """Measure the distance (B,) between shapes by their signed distances, metres.

    It is the 95 % quantile of |f_d(x | h) - f_d(x | h')| over points x near either surface. A part
    that one shape has and the other lacks therefore counts, while two codes of the same shape have
    distance zero, however different they are as vectors.

    Args:
        decoder: f_d.
        codes: (B, C).
        others: (B, C).
        lower: (B, 3) corner of a box around both shapes, metres.
        upper: (B, 3) opposite corner.
    """
    distances = codes.new_zeros(len(codes))
    differ = (codes != others).any(-1)
    if not bool(differ.any()):
        return distances
    low, high = lower[differ].to(codes.dtype), upper[differ].to(codes.dtype)
    diagonal = torch.linalg.norm(high - low, dim=-1)[:, None]
    steps = torch.linspace(-0.05, 1.05, _GRID, dtype=codes.dtype, device=codes.device)
    unit = torch.cartesian_prod(steps, steps, steps)
    points = low[:, None] + unit * (high - low)[:, None]
    both = torch.stack((codes[differ], others[differ]), dim=1)
    sdf = decoder.sdf(points[:, None], both)
    near = sdf.abs().amin(1) <= _BAND * diagonal
    change = torch.where(near, (sdf[:, 0] - sdf[:, 1]).abs(), torch.nan)
    distances[differ] = change.nanquantile(0.95, dim=-1).nan_to_num(torch.inf)
    return distances
