"""Algorithm 2: the shape as the convex combination of library shapes that fits the points best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.h_step import ShapeStep
from crisp_ros.correction.residuals import (
    evenly_chosen,
    geman_mcclure,
    surface_objective,
    usable,
)
from crisp_ros.correction.second_order import SecondOrderSettings, refine
from crisp_ros.correction.simplex_program import minimise
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary


@dataclass(frozen=True)
class ActiveShapeSettings:
    """Settings of `least_squares` and `library_fits`.

    Attributes:
        one_hot: one library shape rather than a combination, as the paper does on YCBV.
        own_code: the network's own code is a column of eq. (9) too.
        points: points of an object that enter F, chosen evenly.
        robust_scale_m: c of the robust loss, metres.
        tried_shapes: library shapes whose pose `library_fits` refines, the best at the given pose.
        fit_points: depth points used for that, and
        fit_evaluations: ... decoder evaluations of each shape.
    """

    one_hot: bool = True
    own_code: bool = False
    points: int = 256
    robust_scale_m: float = 0.01
    tried_shapes: int = 8
    fit_points: int = 96
    fit_evaluations: int = 8


class LibraryFits(NamedTuple):
    """How well each library shape explains an object, at that shape's own best pose.

    T_object_camera: (B, K, 4, 4). objective: (B, K) square metres, `surface_objective` over the
    points chosen. tried: (B, K) bool, shapes whose pose was refined; the others stay at the pose
    given and their objective is the one there.
    """

    T_object_camera: Tensor
    objective: Tensor
    tried: Tensor


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
    columns, diameters = library.codes, library.diameters.expand(len(codes), -1)
    if settings.own_code:
        columns = torch.cat((columns.expand(len(codes), -1, -1), codes[:, None]), dim=1)
        nearest = torch.cdist(codes, library.codes).argmin(-1, keepdim=True)
        diameters = torch.cat((diameters, diameters.gather(-1, nearest)), dim=-1)
    F = distance_matrix(decoder, z, columns)
    scale = F.new_tensor(settings.robust_scale_m)
    single = surface_objective(F.transpose(-1, -2), z_valid[:, None], scale)
    best = single.argmin(-1)
    coefficients = torch.nn.functional.one_hot(best, F.shape[-1]).to(F.dtype)
    found = columns[best] if columns.ndim == 2 else columns[rows[:, 0], best]

    compared = [codes, found]
    if not settings.one_hot:
        c = _combination(F, z_valid, scale, 1.0 / diameters)
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
    """Fits the pose of each promising library shape, so that shapes compare at their best.

    All shapes are tried at the pose given; the best of them are refined from there, all objects
    and shapes in one batch.

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
    pose_settings = replace(
        pose_settings or SecondOrderSettings(),
        points=settings.fit_points,
        evaluations=settings.fit_evaluations,
    )
    valid = usable(points, valid)
    points = torch.where(valid[..., None], points, 0.0)
    batch, count = len(points), len(library)
    T_object_camera = T_object_camera.to(points.dtype)
    rows = torch.arange(batch, device=points.device)[:, None]
    chosen = evenly_chosen(valid, min(settings.points, points.shape[1]))
    points, pnc, weights, valid = (x[rows, chosen] for x in (points, pnc, weights, valid))
    F = distance_matrix(decoder, transform(T_object_camera, points), library.codes)
    F = F.transpose(-1, -2)
    scale = F.new_tensor(settings.robust_scale_m)
    # Far from the right pose a wide loss still tells shapes apart.
    promise = surface_objective(F, valid[:, None], 3 * scale)
    objective = surface_objective(F, valid[:, None], scale)
    kept = min(settings.tried_shapes, count)
    best = promise.topk(kept, dim=-1, largest=False).indices

    def repeated(x: Tensor) -> Tensor:
        return x[:, None].expand(-1, kept, *x.shape[1:]).flatten(0, 1)

    step = refine(
        decoder,
        repeated(points),
        repeated(pnc),
        repeated(weights),
        repeated(valid),
        library.codes[best].flatten(0, 1),
        repeated(T_object_camera),
        pose_settings,
    )
    T = T_object_camera[:, None].repeat(1, count, 1, 1)
    T[rows, best] = step.T_object_camera.unflatten(0, (batch, kept))
    objective[rows, best] = step.objective.unflatten(0, (batch, kept))
    tried = torch.zeros_like(objective, dtype=torch.bool)
    tried[rows, best] = True
    return LibraryFits(T, objective, tried)
