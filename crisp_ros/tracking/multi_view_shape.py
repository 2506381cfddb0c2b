"""The shape of an object from all its views together, and whether it is another shape."""

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
from crisp_ros.tracking.view_buffer import PooledViews, stacked
from crisp_ros.validation import check_ranges, ranged

_GRID = 12  # samples a side of the box in which two shapes are compared
_BAND = 0.1  # of the box's diagonal: farther from both surfaces, distances do not matter


@dataclass(frozen=True)
class PooledShapeSettings:
    """Settings of `pooled_shape`.

    Attributes:
        solver: Algorithm 2, or the h step of Algorithm 1.
        active_shape, projected_gradient: settings of the solvers; more points than for one view.
        significance: the shape is kept unless the objective falls by this share, and
        surface_error_m: ... of itself plus this squared (see `clearly_better`).
        change_m: shapes whose signed distances differ by less count as the same one, see
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


class PooledShapes(NamedTuple):
    """Shapes of B objects from all their views.

    codes: (B, C), those given where nothing changed. lower, upper: (B, 3) corners of a box around
    each, metres. changed: (B,) bool, another shape explains the views clearly better and is
    another one. objective, start_objective: (B,) square metres, of the solver's code and of the
    code given. tangent_eigenvalue: (B,) how well the views fix the shape, see `Degeneracy`.
    """

    codes: Tensor
    lower: Tensor
    upper: Tensor
    changed: Tensor
    objective: Tensor
    start_objective: Tensor
    tangent_eigenvalue: Tensor


@torch.no_grad()
def pooled_shape(
    decoder: ShapeDecoder,
    library: ShapeLibrary,
    views: Sequence[PooledViews],
    codes: Tensor,
    lower: Tensor,
    upper: Tensor,
    settings: PooledShapeSettings | None = None,
) -> PooledShapes:
    """Solves for the shape with the points of all views (Remark 3), for B objects at once.

    Args:
        decoder: f_d.
        library: the known shapes.
        views: of each object.
        codes: (B, C) the shapes so far.
        lower, upper: (B, 3) corners of their boxes, object frame, metres.
        settings: see `PooledShapeSettings`.
    """
    settings = settings or PooledShapeSettings()
    points, valid, weights = stacked(views)
    if settings.solver == "lsq":
        step = least_squares(decoder, points, valid, codes, library, settings.active_shape)
    else:
        step = projected_gradient(
            decoder, points, valid, codes, library.codes, settings.projected_gradient, weights
        )
    # The box of a mixture lies within the boxes of its parts.
    parts = (step.coefficients[:, : len(library)] > 1e-3)[..., None]
    low = torch.where(parts, library.lower, torch.inf).amin(1).minimum(_unless(parts, lower))
    high = torch.where(parts, library.upper, -torch.inf).amax(1).maximum(-_unless(parts, -upper))
    better = clearly_better(
        step.start_objective, step.objective, settings.significance, settings.surface_error_m
    )
    apart = shape_distances(
        decoder, codes, step.codes, torch.minimum(low, lower), torch.maximum(high, upper)
    )
    changed = better & (apart > settings.change_m)
    chosen = evenly_chosen(valid, min(settings.degeneracy_points, points.shape[1]))
    rows = torch.arange(len(codes), device=codes.device)[:, None]
    fixed = degeneracy(decoder, points[rows, chosen], valid[rows, chosen], library)
    return PooledShapes(
        torch.where(changed[:, None], step.codes, codes),
        torch.where(changed[:, None], low, lower),
        torch.where(changed[:, None], high, upper),
        changed,
        step.objective,
        step.start_objective,
        fixed.tangent_eigenvalue.to(points.dtype),
    )


def _unless(parts: Tensor, corner: Tensor) -> Tensor:
    """The corner (B, 3) where no library shape is a part, else infinite."""
    return torch.where(parts.any(1), torch.inf, corner)


@torch.no_grad()
def shape_distances(
    decoder: ShapeDecoder, codes: Tensor, others: Tensor, lower: Tensor, upper: Tensor
) -> Tensor:
    """How far apart shapes are in terms of their signed distances, (B,) metres.

    The 95 % quantile of |f_d(x | h) - f_d(x | h')| over points x near either surface. So a part
    that one shape has and the other lacks counts, and two codes of one shape, however different as
    vectors, do not. Zero for equal codes.

    Args:
        decoder: f_d.
        codes, others: (B, C).
        lower, upper: (B, 3) corners of a box around both shapes, metres.
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
