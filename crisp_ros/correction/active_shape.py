"""Algorithm 2: the shape as the convex combination of library shapes that fits the points best."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import select_rows, stack
from crisp_ros.correction.correspondences import Correspondences, ObjectPoints, Shapes
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.residuals import (
    MoveSettings,
    correspondence_penalty,
    geman_mcclure,
    surface_objective,
)
from crisp_ros.correction.shape_field import ShapeField, captured_sdf
from crisp_ros.correction.steps import ShapeStep
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.se3 import transform
from crisp_ros.geometry.simplex_qp import minimise

_LEFT_COLUMNS = 4  # that are compared on all points, where one column is wanted


@dataclass(frozen=True)
class ActiveShapeSettings:
    """Settings of `least_squares` and `library_fits`.

    Attributes:
        one_hot: one library shape rather than a combination, as the paper does on YCBV.
        own_code: the network's own code is a column of eq. (9) too.
        diameter_weights: D of eq. (10); without it, for comparisons, large shapes weigh more.
        points: points of an object that enter F, evenly spaced.
        robust_scale_m: c of the robust loss, metres.
        coarse_points: depth points with which `library_fits` refines the pose of every shape.
        coarse_evaluations: field evaluations of each shape in that.
        tried_shapes: number of the best shapes, whose poses are refined further.
        fit_points: depth points in that.
        fit_evaluations: field evaluations of each shape in that.
        fit_move: when a shape's pose leaves the one given.
        most_shapes: of a larger library only so many shapes are columns, or are fitted, those with
            the codes nearest to the network's: what an object costs does not grow with the library.
    """

    one_hot: bool = True
    own_code: bool = False
    diameter_weights: bool = True
    points: int = 256
    robust_scale_m: float = 0.01
    coarse_points: int = 48
    coarse_evaluations: int = 6
    tried_shapes: int = 5
    fit_points: int = 96
    fit_evaluations: int = 8
    fit_move: MoveSettings = field(default_factory=lambda: MoveSettings(contradiction=0.0))
    most_shapes: int = 64


class LibraryFits(NamedTuple):
    """Fits of M library shapes to objects, each at its own best pose.

    Attributes:
        shapes: (B, M) that were fitted, the same for all objects where they are all of the library.
        T_object_camera: (B, M, 4, 4).
        objective: (B, M) square metres, `surface_objective` over the points chosen.
        penalty: (B, M) how much the coordinates contradict the way from the pose given to that of
            the shape, see `residuals.correspondence_penalty`.
    """

    shapes: Shapes
    T_object_camera: Tensor
    objective: Tensor
    penalty: Tensor


def distance_matrix(field: ShapeField, points: Tensor, shapes: Shapes) -> Tensor:
    """F(Z) of eq. (10) for a batch, (B, N, K): signed distances of all points to all shapes.

    Args:
        field: f_d.
        points: (B, N, 3) object frame, metres.
        shapes: (K,), or (B, K) where every object has its own.
    """
    shapes = shapes if shapes.codes.ndim == 3 else shapes.unsqueeze(0)
    return captured_sdf(field, points[:, None], shapes).transpose(-1, -2)


@torch.no_grad()
def least_squares(
    field: ShapeField,
    points: ObjectPoints,
    shapes: Shapes,
    library: PreparedLibrary,
    settings: ActiveShapeSettings | None = None,
) -> ShapeStep:
    """Solve eq. (10): min ||F(Z) D c||^2 over the simplex, or over its corners (one-hot).

    Points that no column explains are weighted down, by the robust loss of their least distance to
    any. The shape is h* = A w with w = D c / (1^T D c), because D c, not c, weighs distances in
    metres. A combination is kept only where its own robust objective is no worse than that of the
    best single column: the decoder need not follow the linear model of eq. (9) in between.

    Args:
        field: f_d.
        points: of B objects; several views of an object may be pooled.
        shapes: (B,) the network's; a column too where the settings ask for it.
        library: K shapes.
        settings: see `ActiveShapeSettings`.
    """
    settings = settings or ActiveShapeSettings()
    points = points.sanitized()
    few = points.subsample(settings.points)
    columns = library.columns(shapes, settings.own_code, settings.most_shapes)
    scale = few.points.new_full((), settings.robust_scale_m)
    F = None
    if settings.one_hot:
        best = _best_column(field, few, columns, scale)
    else:
        F = distance_matrix(field, few.points, columns)
        best = surface_objective(F.transpose(-1, -2), few.valid[:, None], scale).argmin(-1)
    number = torch.arange(columns.codes.shape[1], device=best.device)
    w = (best[:, None] == number).to(scale.dtype)
    found = library.mixture(w, columns, shapes)

    compared = [shapes, found]
    if F is not None:
        D = 1.0 / columns.diameters if settings.diameter_weights else torch.ones_like(w)
        mixed_w = _combination(F, few.valid, scale, D)
        mixed = library.mixture(mixed_w, columns, shapes)
        compared.append(mixed)
    sdf = captured_sdf(field, points.points[:, None], stack(compared))
    objectives = surface_objective(sdf, points.valid[:, None], scale)
    objective = objectives[:, 1]
    if F is not None:
        better = objectives[:, 2] <= objective
        found = select_rows(better, mixed, found)
        w = torch.where(better[:, None], mixed_w, w)
        objective = torch.where(better, objectives[:, 2], objective)
    return ShapeStep(found, w, objective, objectives[:, 0])


def _best_column(field: ShapeField, points: ObjectPoints, columns: Shapes, scale: Tensor) -> Tensor:
    """The column (B,) that fits best; a quarter of the points rules most others out."""
    few = slice(None, None, 4)
    F = distance_matrix(field, points.points[:, few], columns)
    rough = surface_objective(F.transpose(-1, -2), points.valid[:, None, few], scale)
    kept = min(_LEFT_COLUMNS, columns.codes.shape[1])
    left = rough.topk(kept, dim=-1, largest=False).indices
    rows = torch.arange(len(left), device=left.device)[:, None]
    F = distance_matrix(field, points.points, Shapes(*(part[rows, left] for part in columns)))
    best = surface_objective(F.transpose(-1, -2), points.valid[:, None], scale).argmin(-1)
    return left.gather(-1, best[:, None]).squeeze(-1)


def _combination(F: Tensor, valid: Tensor, scale: Tensor, D: Tensor) -> Tensor:
    """The weights w (B, K) = D c / (1^T D c) of the solution of eq. (10)."""
    least = F.abs().amin(-1)
    counted = geman_mcclure(least.square(), scale).weight * valid
    columns = (F * D[:, None] * counted.sqrt()[..., None]).double()
    gram = columns.transpose(-1, -2) @ columns / F.shape[1]
    # A program of a few unknowns: the host solves it sooner than a GPU makes one iteration.
    weighted = D * minimise(gram.cpu()).coefficients.to(F)
    return weighted / weighted.sum(-1, keepdim=True)


@torch.no_grad()
def library_fits(
    field: ShapeField,
    correspondences: Correspondences,
    library: PreparedLibrary,
    T_object_camera: Tensor,
    codes: Tensor,
    settings: ActiveShapeSettings | None = None,
    pose_settings: PoseLmSettings | None = None,
) -> LibraryFits:
    """Fit the pose of every library shape, so that shapes compare at their best.

    All shapes are refined coarsely from the pose given, and the best of them to the end; all
    objects and shapes run in one batch. Of a library of more than `most_shapes` only those with the
    nearest codes are fitted.

    Args:
        field: f_d.
        correspondences: of B objects.
        library: K shapes.
        T_object_camera: (B, 4, 4) poses to start from.
        codes: (B, C) of the objects, of the network or of their estimates.
        settings: see `ActiveShapeSettings`.
        pose_settings: see `PoseLmSettings`.
    """
    constants = (
        field,
        library,
        settings or ActiveShapeSettings(),
        pose_settings or PoseLmSettings(),
    )
    return run_captured(_library_fits, constants, correspondences, T_object_camera, codes)


def _library_fits(
    field: ShapeField,
    library: PreparedLibrary,
    settings: ActiveShapeSettings,
    pose_settings: PoseLmSettings,
    correspondences: Correspondences,
    T_object_camera: Tensor,
    codes: Tensor,
) -> LibraryFits:
    # One parameter each for what is constant and what differs from frame to frame.
    observed = correspondences.sanitized()
    shapes = library.nearest(codes, settings.most_shapes)
    batch, count = shapes.index.shape
    start = T_object_camera.to(observed.points.dtype)
    T = start[:, None].expand(-1, count, -1, -1)
    # Each shape is fitted at its best, whatever the coordinates say of the way there.
    free = replace(pose_settings, move=settings.fit_move)
    coarse = replace(free, evaluations=settings.coarse_evaluations)
    few = observed.subsample(settings.coarse_points)
    T, promise = _fit_shapes(field, few, shapes, T, coarse)
    best = promise.topk(min(settings.tried_shapes, count), dim=-1, largest=False).indices
    rows = torch.arange(batch, device=start.device)[:, None]
    fine = replace(free, evaluations=settings.fit_evaluations, points=settings.fit_points)
    some = observed.subsample(settings.points)
    promising = Shapes(*(part[rows, best] for part in shapes))
    T[rows, best], _ = _fit_shapes(field, some, promising, T[rows, best], fine)
    z = transform(T, some.points[:, None])
    sdf = field.sdf(z, shapes)
    scale = sdf.new_full((), settings.robust_scale_m)
    objective = surface_objective(sdf, some.valid[:, None], scale)
    penalty = correspondence_penalty(transform(start, some.points), z, some, pose_settings.move)
    return LibraryFits(shapes, T, objective, penalty)


def _fit_shapes(
    field: ShapeField,
    correspondences: Correspondences,
    shapes: Shapes,
    T: Tensor,
    settings: PoseLmSettings,
) -> tuple[Tensor, Tensor]:
    """Poses (B, S, 4, 4) and objectives (B, S) of the shapes (B, S), from the poses T."""
    batch, count = shapes.index.shape
    step = refine_pose(
        field,
        correspondences.repeated(count),
        Shapes(*(part.flatten(0, 1) for part in shapes)),
        T.flatten(0, 1),
        settings,
    )
    return (
        step.T_object_camera.unflatten(0, (batch, count)),
        step.objective.unflatten(0, (batch, count)),
    )
