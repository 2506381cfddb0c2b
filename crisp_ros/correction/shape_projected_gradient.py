"""The h step of Algorithm 1: projected gradient descent on the coefficients of library codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.residuals import (
    evenly_chosen,
    geman_mcclure,
    surface_objective,
    usable,
)
from crisp_ros.geometry.simplex import project
from crisp_ros.geometry.simplex_qp import minimise
from crisp_ros.network.decoder import ShapeDecoder


class ShapeStep(NamedTuple):
    """Shape codes of a batch of objects after a shape solver.

    codes: (B, C). coefficients: (B, K) on the library's codes; where the network's own code is a
    column too, (B, K + 1) with it last. objective: (B,) square metres, `surface_objective` over all
    valid points with the new codes. start_objective: (B,) the same with the codes given.
    """

    codes: Tensor
    coefficients: Tensor
    objective: Tensor
    start_objective: Tensor


@dataclass(frozen=True)
class ProjectedGradientSettings:
    """Settings of `projected_gradient`; the step and the number of iterations are the paper's.

    Attributes:
        learning_rate: of Adam on the coefficients.
        iterations: steps taken at most.
        points: points used while iterating, chosen evenly; the objectives returned use all.
        robust_scale_m: c of the robust loss, metres.
        own_code: the network's own code is a column of the hull too.
        patience: an object stops after so many steps without a new best objective.
    """

    learning_rate: float = 1e-2
    iterations: int = 25
    points: int = 256
    robust_scale_m: float = 0.01
    own_code: bool = True
    patience: int = 8


@torch.no_grad()
def projected_gradient(
    decoder: ShapeDecoder,
    points: Tensor,
    valid: Tensor,
    codes: Tensor,
    library_codes: Tensor,
    settings: ProjectedGradientSettings | None = None,
    weights: Tensor | None = None,
) -> ShapeStep:
    """Minimises over the hull of the library: mean_i rho(f_d(z_i | A c)), c on the simplex.

    The objective is the robust, weighted MEAN over valid points of `surface_objective`. The first
    iterate is the hull's point nearest to the code given; after each step of Adam along the simplex
    the coefficients are projected onto it, exactly. Each object keeps its own best iterate and
    stops on its own; where the network's code is a column, the result is never worse than it.

    Args:
        decoder: f_d.
        points: (B, N, 3) object frame, metres; several views of an object may be pooled here.
        valid: (B, N) bool.
        codes: (B, C) codes to start from.
        library_codes: (K, C).
        settings: see `ProjectedGradientSettings`.
        weights: (B, N) non-negative, for pooled views; left out, every valid point counts the same.
    """
    settings = settings or ProjectedGradientSettings()
    valid = usable(points, valid)
    points = torch.where(valid[..., None], points, 0.0)
    counted = valid.to(points.dtype) if weights is None else torch.where(valid, weights, 0.0)
    hull = library_codes.expand(len(codes), -1, -1)
    if settings.own_code:
        hull = torch.cat((hull, codes[:, None]), dim=1)
    c = _nearest_coefficients(hull, codes)

    chosen = evenly_chosen(valid, min(settings.points, points.shape[1]))
    rows = torch.arange(len(codes), device=codes.device)[:, None]
    z, z_counted = points[rows, chosen], counted[rows, chosen]

    best, best_c = c.new_full((len(c),), torch.inf), c.clone()
    first, second = torch.zeros_like(c), torch.zeros_like(c)
    waited = torch.zeros(len(c), dtype=torch.long, device=c.device)
    active = torch.arange(len(c), device=c.device)
    scale = torch.tensor(settings.robust_scale_m, dtype=points.dtype, device=points.device)
    for step in range(settings.iterations + 1):
        objective, gradient = _slope(decoder, z, z_counted, hull, c, active, scale)
        better = objective < best[active]
        best[active] = torch.where(better, objective, best[active])
        best_c[active] = torch.where(better[:, None], c[active], best_c[active])
        waited[active] = torch.where(better, 0, waited[active] + 1)
        going = waited[active] < settings.patience
        active, gradient = active[going], _along_simplex(gradient[going])
        if step == settings.iterations or len(active) == 0:
            break
        first[active] = 0.9 * first[active] + 0.1 * gradient
        second[active] = 0.999 * second[active] + 0.001 * gradient.square()
        momentum = first[active] / (1 - 0.9 ** (step + 1))
        spread = (second[active] / (1 - 0.999 ** (step + 1))).sqrt()
        c[active] = project(c[active] - settings.learning_rate * momentum / (spread + 1e-12))

    new = (best_c[:, None] @ hull).squeeze(1)
    sdf = decoder.sdf(points[:, None], torch.stack((codes, new), dim=1))
    start, end = surface_objective(sdf, counted[:, None], scale.expand(len(c), 2)).unbind(1)
    if settings.own_code:
        better = (end < start)[:, None]
        alone = torch.zeros_like(c)
        alone[:, -1] = 1.0
        new, best_c = torch.where(better, new, codes), torch.where(better, best_c, alone)
        end = torch.minimum(start, end)
    return ShapeStep(new, best_c, end, start)


def _nearest_coefficients(hull: Tensor, codes: Tensor) -> Tensor:
    """Simplex coefficients (B, K) of the hull's point nearest to each code."""
    gram = hull @ hull.transpose(-1, -2)
    linear = -(hull @ codes[..., None]).squeeze(-1)
    return minimise(gram, linear).coefficients


def _along_simplex(gradient: Tensor) -> Tensor:
    """Its part along sum(c) = const: Adam would else spend its steps on what projection undoes."""
    return gradient - gradient.mean(-1, keepdim=True)


def _slope(
    decoder: ShapeDecoder,
    points: Tensor,
    counted: Tensor,
    hull: Tensor,
    c: Tensor,
    active: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor]:
    """The objective (A,) of the active objects and its gradient (A, K) in their coefficients."""
    share = counted[active] / counted[active].sum(-1, keepdim=True).clamp_min(1e-12)

    def slope(sdf: Tensor) -> Tensor:
        return 2 * share * geman_mcclure(sdf.square(), scale).weight * sdf

    codes = (c[active, None] @ hull[active]).squeeze(1)
    sdf, in_codes = decoder.sdf_and_code_gradient(points[active], codes, slope)
    objective = surface_objective(sdf, counted[active], scale.expand(len(active)))
    return objective, (hull[active] @ in_codes[..., None]).squeeze(-1)
