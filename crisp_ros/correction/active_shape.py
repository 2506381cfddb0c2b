"""Algorithm 2: the shape as the convex combination of library shapes that fits the points best."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.pose_lm import SecondOrderSettings, refine
from crisp_ros.correction.residuals import (
    MoveSettings,
    contradiction,
    evenly_chosen,
    geman_mcclure,
    surface_objective,
    usable,
)
from crisp_ros.correction.shape_projected_gradient import ShapeStep
from crisp_ros.geometry.se3 import transform
from crisp_ros.geometry.simplex_qp import minimise
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary

_LEFT_COLUMNS = 4  # that are compared on all points, where one column is wanted


@dataclass(frozen=True)
class ActiveShapeSettings:
    """Settings of `least_squares` and `library_fits`.

    Attributes:
        one_hot: one library shape rather than a combination, as the paper does on YCBV.
        own_code: the network's own code is a column of eq. (9) too.
        diameter_weights: D of eq. (10); without it, for comparisons, large shapes weigh more.
        points: points of an object that enter F, chosen evenly.
        robust_scale_m: c of the robust loss, metres.
        coarse_points: depth points with which `library_fits` refines the pose of every shape, and
        coarse_evaluations: ... decoder evaluations of each.
        tried_shapes: the best of them, refined further with
        fit_points: ... so many depth points and
        fit_evaluations: ... decoder evaluations each.
        fit_move: when a shape's pose leaves the one given.
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


class LibraryFits(NamedTuple):
    """How well each library shape explains an object, at that shape's own best pose.

    T_object_camera: (B, K, 4, 4). objective: (B, K) square metres, `surface_objective` over the
    points chosen. tried: (B, K) bool, the shapes whose pose was refined further than coarsely.
    contradiction: (B, K) how much the correspondences speak against the way from the pose given to
    that of the shape, see `residuals.contradiction`.
    """

    T_object_camera: Tensor
    objective: Tensor
    tried: Tensor
    contradiction: Tensor


def distance_matrix(decoder: ShapeDecoder, points: Tensor, codes: Tensor) -> Tensor:
    """F(Z) of eq. (10) for a batch, (B, N, K): signed distances of all points to all shapes.

    Args:
        decoder: f_d.
        points: (B, N, 3) object frame, metres.
        codes: (K, C), or (B, K, C) where every object has its own.
    """
    codes = codes if codes.ndim == 3 else codes[None]
    return decoder.sdf(points[:, None], codes).transpose(-1, -2)


@torch.no_grad()
def least_squares(
    decoder: ShapeDecoder,
    points: Tensor,
    valid: Tensor,
    codes: Tensor,
    library: ShapeLibrary,
    settings: ActiveShapeSettings | None = None,
) -> ShapeStep:
    """Solves eq. (10): min ||F(Z) D c||^2 over the simplex, or over its corners (one-hot).

    Points that no column explains are weighted down, by the robust loss of their least distance to
    any. The shape is h* = A w with w = D c / (1^T D c), because D c, not c, weighs distances in
    metres. A combination is kept only where its own robust objective is no worse than that of the
    best single column: the decoder need not follow the linear model of eq. (9) in between.

    Args:
        decoder: f_d.
        points: (B, N, 3) object frame, metres; several views of an object may be pooled here.
        valid: (B, N) bool.
        codes: (B, C) the network's codes.
        library: K shapes.
        settings: see `ActiveShapeSettings`.
    """
    settings = settings or ActiveShapeSettings()
    valid = usable(points, valid)
    points = torch.where(valid[..., None], points, 0.0)
    chosen = evenly_chosen(valid, min(settings.points, points.shape[1]))
    rows = torch.arange(len(codes), device=codes.device)[:, None]
    z, z_valid = points[rows, chosen], valid[rows, chosen]
    columns = library.codes.expand(len(codes), -1, -1)
    diameters = library.diameters.expand(len(codes), -1)
    if settings.own_code:
        columns = torch.cat((columns, codes[:, None]), dim=1)
        nearest = torch.cdist(codes, library.codes).argmin(-1, keepdim=True)
        diameters = torch.cat((diameters, diameters.gather(-1, nearest)), dim=-1)
    scale = z.new_tensor(settings.robust_scale_m)
    if settings.one_hot:
        best = _best_column(decoder, z, z_valid, columns, scale)
    else:
        F = distance_matrix(decoder, z, columns)
        best = surface_objective(F.transpose(-1, -2), z_valid[:, None], scale).argmin(-1)
    coefficients = torch.nn.functional.one_hot(best, columns.shape[1]).to(z.dtype)
    found = columns[rows[:, 0], best]

    compared = [codes, found]
    if not settings.one_hot:
        D = 1.0 / diameters if settings.diameter_weights else torch.ones_like(diameters)
        c = _combination(F, z_valid, scale, D)
        mixed = (c[:, None] @ columns).squeeze(1)
        compared.append(mixed)
    sdf = decoder.sdf(points[:, None], torch.stack(compared, dim=1))
    objectives = surface_objective(sdf, valid[:, None], scale)
    objective = objectives[:, 1]
    if not settings.one_hot:
        better = objectives[:, 2] <= objective
        found = torch.where(better[:, None], mixed, found)
        coefficients = torch.where(better[:, None], c, coefficients)
        objective = torch.where(better, objectives[:, 2], objective)
    return ShapeStep(found, coefficients, objective, objectives[:, 0])


def _best_column(
    decoder: ShapeDecoder, points: Tensor, valid: Tensor, columns: Tensor, scale: Tensor
) -> Tensor:
    """The column (B,) that fits best; a quarter of the points rules most others out."""
    few = slice(None, None, 4)
    F = distance_matrix(decoder, points[:, few], columns)
    rough = surface_objective(F.transpose(-1, -2), valid[:, None, few], scale)
    left = rough.topk(min(_LEFT_COLUMNS, columns.shape[1]), dim=-1, largest=False).indices
    rows = torch.arange(len(columns), device=columns.device)[:, None]
    F = distance_matrix(decoder, points, columns[rows, left])
    best = surface_objective(F.transpose(-1, -2), valid[:, None], scale).argmin(-1)
    return left.gather(-1, best[:, None]).squeeze(-1)


def _combination(F: Tensor, valid: Tensor, scale: Tensor, D: Tensor) -> Tensor:
    """The weights w (B, K) = D c / (1^T D c) of the solution of eq. (10)."""
    least = F.abs().amin(-1)
    counted = geman_mcclure(least.square(), scale).weight * valid
    columns = (F * D[:, None] * counted.sqrt()[..., None]).double()
    gram = columns.transpose(-1, -2) @ columns / F.shape[1]
    weighted = D * minimise(gram).coefficients.to(F.dtype)
    return weighted / weighted.sum(-1, keepdim=True)


@torch.no_grad()
def library_fits(
    decoder: ShapeDecoder,
    points: Tensor,
    pnc: Tensor,
    weights: Tensor,
    valid: Tensor,
    library: ShapeLibrary,
    T_object_camera: Tensor,
    settings: ActiveShapeSettings | None = None,
    pose_settings: SecondOrderSettings | None = None,
) -> LibraryFits:
    """Fits the pose of every library shape, so that shapes compare at their best.

    All shapes are refined coarsely from the pose given, and the best of them to the end; all
    objects and shapes run in one batch.

    Args:
        decoder: f_d.
        points: (B, N, 3) depth points, camera frame, metres.
        pnc: (B, N, 3) their predicted object coordinates, metres.
        weights: (B, N) of the correspondences, zero for outliers.
        valid: (B, N) bool, depth points that count.
        library: K shapes.
        T_object_camera: (B, 4, 4) poses to start from.
        settings: see `ActiveShapeSettings`.
        pose_settings: see `SecondOrderSettings`.
    """
    settings = settings or ActiveShapeSettings()
    pose_settings = pose_settings or SecondOrderSettings()
    valid = usable(points, valid)
    points = torch.where(valid[..., None], points, 0.0)
    observed = _Observed(points, pnc, weights, valid)
    batch, count = len(points), len(library)
    everything = torch.arange(count, device=points.device).expand(batch, count)
    T = T_object_camera.to(points.dtype)[:, None].expand(-1, count, -1, -1)
    # Each shape is fitted at its best, whatever the coordinates say of the way there.
    against = pose_settings.move
    pose_settings = replace(pose_settings, move=settings.fit_move)
    coarse = replace(pose_settings, evaluations=settings.coarse_evaluations)
    few = observed.thinned(settings.coarse_points)
    T, promise = _fitted(decoder, few, library, everything, T, coarse)
    best = promise.topk(min(settings.tried_shapes, count), dim=-1, largest=False).indices
    rows = torch.arange(batch, device=points.device)[:, None]
    fine = replace(pose_settings, evaluations=settings.fit_evaluations, points=settings.fit_points)
    thinned = observed.thinned(settings.points)
    T[rows, best], _ = _fitted(decoder, thinned, library, best, T[rows, best], fine)
    z = transform(T, thinned.points[:, None])
    sdf = decoder.sdf(z, library.codes)
    start = transform(T_object_camera.to(points.dtype), thinned.points)
    scale = sdf.new_tensor(settings.robust_scale_m)
    objective = surface_objective(sdf, thinned.valid[:, None], scale)
    tried = torch.zeros_like(objective, dtype=torch.bool)
    tried[rows, best] = True
    contradicted = contradiction(start, z, thinned.pnc, thinned.weights, against)
    return LibraryFits(T, objective, tried, contradicted)


class _Observed(NamedTuple):
    points: Tensor
    pnc: Tensor
    weights: Tensor
    valid: Tensor

    def thinned(self, count: int) -> _Observed:
        chosen = evenly_chosen(self.valid, min(count, self.valid.shape[1]))
        rows = torch.arange(len(chosen), device=chosen.device)[:, None]
        return _Observed(*(part[rows, chosen] for part in self))


def _fitted(
    decoder: ShapeDecoder,
    observed: _Observed,
    library: ShapeLibrary,
    shapes: Tensor,
    T: Tensor,
    settings: SecondOrderSettings,
) -> tuple[Tensor, Tensor]:
    """Poses (B, S, 4, 4) and objectives (B, S) of the shapes (B, S), from the poses T."""
    batch, count = shapes.shape
    repeated = [part[:, None].expand(-1, count, *part.shape[1:]).flatten(0, 1) for part in observed]
    codes = library.codes[shapes].flatten(0, 1)
    step = refine(decoder, *repeated, codes, T.flatten(0, 1), settings)
    return (
        step.T_object_camera.unflatten(0, (batch, count)),
        step.objective.unflatten(0, (batch, count)),
    )
