"""The Z step of Algorithm 1: gradient descent on Z through the closed-form pose layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.residuals import (
    MoveSettings,
    geman_mcclure,
    masked_median,
    surface_objective,
    usable,
    worth_moving,
)
from crisp_ros.geometry.registration import align
from crisp_ros.geometry.se3 import from_rotation_translation, transform
from crisp_ros.network.decoder import ShapeDecoder


class PoseStep(NamedTuple):
    """Poses of a batch of objects after a pose solver.

    T_object_camera: (B, 4, 4). objective: (B,) square metres, `surface_objective` over all valid
    points at that pose. start_objective: (B,) the same at the pose the solver was given.
    iterations: (B,) int, steps taken until the object stopped.
    """

    T_object_camera: Tensor
    objective: Tensor
    start_objective: Tensor
    iterations: Tensor


@dataclass(frozen=True)
class GradientSettings:
    """Settings of `descend`; the step and the number of iterations are the paper's.

    Attributes:
        learning_rate: of Adam on the change of Z, metres.
        iterations: at most this many steps.
        robust_scale_m: c of the robust loss, metres.
        patience: an object stops after so many steps without a new best objective.
        tolerance: relative fall of the objective that counts as a new best.
        move: when the start is left.
    """

    learning_rate: float = 1e-3
    iterations: int = 50
    robust_scale_m: float = 0.01
    patience: int = 8
    tolerance: float = 1e-3
    move: MoveSettings = field(default_factory=MoveSettings)


@torch.no_grad()
def descend(
    decoder: ShapeDecoder,
    points: Tensor,
    pnc: Tensor,
    weights: Tensor,
    valid: Tensor,
    codes: Tensor,
    settings: GradientSettings | None = None,
) -> PoseStep:
    """Minimises eq. (7) over Z: mean_i rho(f_d(R x_i + t | h)), (R, t) the alignment of X to Z.

    The objective is the robust MEAN over valid points of `surface_objective`. While an object is
    far from its shape the loss's scale follows twice the median residual, so that at least half of
    its points pull. Each object keeps its own best iterate and stops on its own.

    Args:
        decoder: f_d.
        points: (B, N, 3) depth points, camera frame, metres.
        pnc: (B, N, 3) their predicted object coordinates, metres.
        weights: (B, N) of the correspondences in the pose layer, zero for outliers.
        valid: (B, N) bool, depth points that count in the objective.
        codes: (B, C) shape codes.
        settings: see `GradientSettings`.
    """
    settings = settings or GradientSettings()
    valid = usable(points, valid)
    points = torch.where(valid[..., None], points, 0.0)
    weights = torch.where(usable(pnc, valid), weights, 0.0)
    z = torch.where((weights > 0)[..., None], pnc, 0.0)
    batch = len(points)
    scale = points.new_full((batch,), settings.robust_scale_m)
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    best = points.new_full((batch,), torch.inf)
    start = torch.zeros_like(best)
    best_T = torch.eye(4, dtype=points.dtype, device=points.device).repeat(batch, 1, 1)
    start_T = best_T.clone()
    iterations = torch.zeros(batch, dtype=torch.long, device=points.device)
    waited = torch.zeros_like(iterations)
    active = torch.arange(batch, device=points.device)
    for step in range(settings.iterations + 1):
        gradient, T, objective = _gradient_of_z(
            decoder, points[active], z[active], weights[active], valid[active], codes[active], scale
        )
        if step == 0:
            start, start_T = objective.clone(), T.clone()
        improved = objective < best[active] * (1 - settings.tolerance)
        waited[active] = torch.where(improved, 0, waited[active] + 1)
        better = objective < best[active]
        best[active] = torch.where(better, objective, best[active])
        best_T[active] = torch.where(better[:, None, None], T, best_T[active])
        if step == settings.iterations:
            break
        going = waited[active] < settings.patience
        active, gradient, scale = active[going], gradient[going], scale[going]
        if len(active) == 0:
            break
        iterations[active] += 1
        first[active] = 0.9 * first[active] + 0.1 * gradient
        second[active] = 0.999 * second[active] + 0.001 * gradient.square()
        momentum = first[active] / (1 - 0.9 ** (step + 1))
        spread = (second[active] / (1 - 0.999 ** (step + 1))).sqrt()
        z[active] -= settings.learning_rate * momentum / (spread + 1e-12)
    moved = worth_moving(
        start,
        best,
        transform(start_T, points),
        transform(best_T, points),
        pnc,
        weights,
        settings.move,
    )
    return PoseStep(
        torch.where(moved[:, None, None], best_T, start_T),
        torch.where(moved, best, start),
        start,
        iterations,
    )


def _gradient_of_z(
    decoder: ShapeDecoder,
    points: Tensor,
    z: Tensor,
    weights: Tensor,
    valid: Tensor,
    codes: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The objective's gradient (B, N, 3) in Z, the poses (B, 4, 4), the objective (B,).

    The decoder's gradient at the points is computed by hand; only the small pose layer is
    differentiated automatically, with that gradient fed in at its output.
    """
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        alignment = align(points, z, weights)
        moved = points @ alignment.rotation.transpose(-1, -2) + alignment.translation[:, None]
        distance = decoder.sdf_and_gradient(moved.detach(), codes)
        square = distance.sdf.square()
        reach = torch.maximum(scale, 2 * masked_median(distance.sdf.abs(), valid))
        share = valid / valid.sum(-1, keepdim=True).clamp_min(1)
        share = share * geman_mcclure(square, reach[:, None]).weight
        pull = (2 * share * distance.sdf)[..., None] * distance.gradient
        (gradient,) = torch.autograd.grad(moved, z, pull)
    T = from_rotation_translation(alignment.rotation, alignment.translation).detach()
    return gradient, T, surface_objective(distance.sdf, valid, scale)
