"""The Z step of Algorithm 1: gradient descent on Z through the closed-form pose layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.adam import AdamSettings, Evaluation, minimize
from crisp_ros.correction.correspondences import Correspondences, Shapes
from crisp_ros.correction.residuals import (
    MoveSettings,
    geman_mcclure,
    masked_median,
    surface_objective,
    worth_moving,
)
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.steps import PoseStep
from crisp_ros.geometry.registration import align
from crisp_ros.geometry.se3 import from_rotation_translation, transform


@dataclass(frozen=True)
class GradientSettings:
    """Settings of `descend_pose`; the step and the number of iterations are the paper's.

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
def descend_pose(
    field: ShapeField,
    correspondences: Correspondences,
    shapes: Shapes,
    settings: GradientSettings | None = None,
) -> PoseStep:
    """Minimize eq. (7) over Z: mean_i rho(f_d(R x_i + t | h)), (R, t) the alignment of X to Z.

    The objective is the robust mean over valid points of `surface_objective`. While an object is
    far from its shape the scale of the loss follows twice the median residual, so that at least
    half of its points pull. Each object keeps its own best iterate and stops on its own.

    Args:
        field: f_d.
        correspondences: of B objects; the coordinates are where Z starts, with their weights in the
            pose layer.
        shapes: (B,) of the objects.
        settings: see `GradientSettings`.
    """
    settings = settings or GradientSettings()
    observed = correspondences.sanitized()
    scale = observed.points.new_full((len(observed.points),), settings.robust_scale_m)

    def evaluate(rows: Tensor, z: Tensor) -> Evaluation:
        some = observed.rows(rows)._replace(pnc=z)
        found = _gradient_of_z(field, some, shapes.rows(rows), scale[rows])
        return Evaluation(found.objective, found.gradient, found.T_object_camera)

    adam = AdamSettings(
        settings.learning_rate, settings.iterations, settings.patience, settings.tolerance
    )
    found = minimize(evaluate, observed.pnc, adam)
    moved = worth_moving(
        found.start_objective,
        found.objective,
        transform(found.start_result, observed.points),
        transform(found.result, observed.points),
        observed,
        settings.move,
    )
    return PoseStep(
        torch.where(moved[:, None, None], found.result, found.start_result),
        torch.where(moved, found.objective, found.start_objective),
        found.start_objective,
        found.iterations,
    )


class _PoseGradient(NamedTuple):
    """The objective (B,), its gradient (B, N, 3) in Z, and the poses (B, 4, 4) of the alignment."""

    objective: Tensor
    gradient: Tensor
    T_object_camera: Tensor


def _gradient_of_z(
    field: ShapeField, correspondences: Correspondences, shapes: Shapes, scale: Tensor
) -> _PoseGradient:
    """The gradient of the objective in Z, the coordinates of the correspondences.

    The gradient of the distances at the points is computed by the field; only the small pose layer
    is differentiated automatically, with that gradient as its output's.
    """
    points, z, weights, valid = correspondences
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        alignment = align(points, z, weights)
        moved = points @ alignment.rotation.transpose(-1, -2) + alignment.translation[:, None]
        distance = field.sdf_and_gradient(moved.detach(), shapes)
        square = distance.sdf.square()
        reach = torch.maximum(scale, 2 * masked_median(distance.sdf.abs(), valid))
        share = valid / valid.sum(-1, keepdim=True).clamp_min(1)
        share = share * geman_mcclure(square, reach[:, None]).weight
        pull = (2 * share * distance.sdf)[..., None] * distance.gradient
        (gradient,) = torch.autograd.grad(moved, z, pull)
    T = from_rotation_translation(alignment.rotation, alignment.translation).detach()
    return _PoseGradient(surface_objective(distance.sdf, valid, scale), gradient, T)
