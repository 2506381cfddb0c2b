"""Robust measures of how well surface points fit a shape, shared by all solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.geometry.device_constants import constant


class RobustLoss(NamedTuple):
    """Robust costs of residuals.

    Attributes:
        cost: (...).
        weight: (...) the slope of the cost over 2 r.
    """

    cost: Tensor
    weight: Tensor


def geman_mcclure(square: Tensor, scale: Tensor) -> RobustLoss:
    """Geman-McClure loss r^2 c^2 / (r^2 + c^2): r^2 near zero, never more than c^2.

    Args:
        square: squared residuals r^2 (...), square metres.
        scale: c, metres, broadcasts against `square`.
    """
    share = scale.square() / (square + scale.square())
    return RobustLoss(square * share, share.square())


def surface_objective(sdf: Tensor, counted: Tensor, scale: Tensor) -> Tensor:
    """Objective (...) of every solver: the mean over counted points of the robust squared SDF.

    It is the mean of |f_d(R x_i + t | h)|^2, eq. (5), for points that fit to well within `scale`;
    a point far off costs scale^2, however far. Zero where no point is counted.

    Args:
        sdf: (..., N) metres.
        counted: (..., N), bool, or non-negative weights.
        scale: c of `geman_mcclure`, metres, broadcasts against the result.
    """
    cost = geman_mcclure(sdf.square(), scale[..., None]).cost
    return weighted_mean(cost, counted)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Means (...) of values (..., N) with weights (..., N), bool or not negative; else zero."""
    kept = torch.where(weights > 0, values * weights, torch.zeros_like(values))
    total = weights.to(values.dtype).sum(-1)
    return kept.sum(-1) / torch.where(total > 0, total, torch.ones_like(total))


def masked_median(values: Tensor, valid: Tensor) -> Tensor:
    """Lower medians (...) of the valid ones of values (..., N); zero where there are none."""
    median = torch.where(valid, values, torch.full_like(values, torch.nan)).nanmedian(-1).values
    return median.nan_to_num(0.0)


@dataclass(frozen=True)
class MoveSettings:
    """Criteria for a pose solver to leave its start, see `worth_moving`.

    Attributes:
        significance: share of itself plus the squared surface error by which the objective must
            fall.
        contradiction: added to this share for each squared standard error of the coordinates' mean
            by which the points move.
        contradiction_limit: most that is added for that.
        surface_error_m: of the decoder, metres.
    """

    significance: float = 0.2
    contradiction: float = 0.011
    contradiction_limit: float = 0.5
    surface_error_m: float = 1.5e-3


ANY_FALL = MoveSettings(0.0, 0.0, 0.0, 0.0)


def worth_moving(
    before: Tensor,
    after: Tensor,
    start: Tensor,
    end: Tensor,
    correspondences: Correspondences,
    settings: MoveSettings,
) -> Tensor:
    """Whether poses (B,) should move: the objective fell by more than chance explains.

    How good the start is, the correspondences say.

    Args:
        before: (B,) objectives at the start, square metres.
        after: (B,) objectives at the end.
        start: (B, N, 3) the points at the start, object frame, metres.
        end: (B, N, 3) the points at the end.
        correspondences: of the same points.
        settings: see `MoveSettings`.
    """
    penalty = correspondence_penalty(start, end, correspondences, settings)
    needed = settings.significance + penalty
    return clearly_better(before, after, needed, settings.surface_error_m)


def correspondence_penalty(
    start: Tensor, end: Tensor, correspondences: Correspondences, settings: MoveSettings
) -> Tensor:
    """Return the penalty of motions (...) by the coordinates, as a share of the objective.

    The errors of a network are alike in neighbouring points. Therefore the standard error of the
    coordinates' mean is estimated from the mean errors of eight parts of the object, on which noise
    that is independent from point to point has little influence.

    Args:
        start: (B, N, 3) the points before the motion, object frame, metres.
        end: (B, ..., N, 3) the points after it.
        correspondences: of the same points.
        settings: see `MoveSettings`.
    """
    weights = correspondences.weights
    used = weights > 0
    share = (weights / weights.sum(-1, keepdim=True).clamp_min(1e-12))[..., None]
    middle = masked_median(start.transpose(-1, -2), used[:, None])[:, None]
    bits = constant((1, 2, 4), start)
    octant = ((start > middle) * bits).sum(-1, keepdim=True).long().expand_as(start)
    error = torch.where(used[..., None], share * (start - correspondences.pnc), 0.0)
    parts = error.new_zeros(len(start), 8, 3).scatter_add(1, octant, error)
    over = (len(start), *[1] * (end.ndim - 3))
    variance = parts.square().sum((-1, -2)).clamp_min(1e-12).view(over)
    start, share = (part.view(*over, *part.shape[1:]) for part in (start, share))
    way = (torch.where(share > 0, share, 0.0) * (end - start).square()).sum((-1, -2))
    return (settings.contradiction * way / variance).clamp_max(settings.contradiction_limit)


def clearly_better(before: Tensor, after: Tensor, share: Tensor | float, floor_m: float) -> Tensor:
    """Whether objectives (B,) fell by more than noise explains.

    The surface error of the decoder bends the objective: its minimum is not at the true pose, and a
    pose that is already good should not follow it. Therefore the fall must exceed a share of the
    new objective plus the squared surface error.

    Args:
        before: (B,) objectives, square metres.
        after: (B,) new objectives.
        share: of the new objective, one for all objects or (B,).
        floor_m: surface error, metres.
    """
    return before - after > share * (after + floor_m**2)
