"""Robust measures of how well surface points fit a shape, shared by all solvers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RobustLoss(NamedTuple):
    """Costs and weights of residuals, both (...), the weight being the slope over 2 r."""

    cost: Tensor
    weight: Tensor


def geman_mcclure(square: Tensor, scale: Tensor) -> RobustLoss:
    """The Geman-McClure loss r^2 c^2 / (r^2 + c^2): r^2 near zero, never more than c^2.

    Args:
        square: squared residuals r^2 (...), square metres.
        scale: c, metres, broadcasts against `square`.
    """
    share = scale.square() / (square + scale.square())
    return RobustLoss(square * share, share.square())


def surface_objective(sdf: Tensor, counted: Tensor, scale: Tensor) -> Tensor:
    """The objective (...) of every solver: the MEAN over counted points of the robust squared SDF.

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
    """Means (...) of values (..., N), weighted by (..., N) bool or non-negative; else zero."""
    kept = torch.where(weights > 0, values * weights, torch.zeros_like(values))
    total = weights.to(values.dtype).sum(-1)
    return kept.sum(-1) / torch.where(total > 0, total, torch.ones_like(total))


def masked_median(values: Tensor, valid: Tensor) -> Tensor:
    """Lower medians (...) of the valid ones of values (..., N); zero where there are none."""
    median = torch.where(valid, values, torch.full_like(values, torch.nan)).nanmedian(-1).values
    return median.nan_to_num(0.0)


def usable(points: Tensor, valid: Tensor) -> Tensor:
    """Which points (B, N) count: marked valid and finite in (B, N, 3)."""
    return valid & torch.isfinite(points).all(-1)


def evenly_chosen(valid: Tensor, count: int) -> Tensor:
    """Indices (B, count) that step evenly through each object's valid points.

    An object with fewer valid points gives some of them twice; one with none gives index 0.
    """
    order = (~valid).to(torch.int8).argsort(dim=-1, stable=True)
    total = valid.sum(-1, keepdim=True)
    steps = torch.arange(count, device=valid.device)
    return order.gather(-1, (steps * total).div(count, rounding_mode="floor"))


def clearly_better(before: Tensor, after: Tensor, share: float, floor_m: float) -> Tensor:
    """Whether objectives (B,) fell by more than noise can explain.

    The decoder's own surface error bends the objective: its lowest point is not the true pose, and
    a pose that is already good should not follow it. So the fall must exceed `share` of the new
    objective plus the squared surface error `floor_m`.
    """
    return before - after > share * (after + floor_m**2)
