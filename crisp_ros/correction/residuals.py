"""Robust measures of how well surface points fit a shape, shared by all solvers."""

from __future__ import annotations

from dataclasses import dataclass
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


def where_rows(rows: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """The rows of `yes` (B, ...) where `rows` (B,) hold, else those of `no`."""
    return torch.where(rows.view(-1, *[1] * (no.ndim - 1)), yes, no)


def evenly_chosen(valid: Tensor, count: int) -> Tensor:
    """Indices (B, count) that step evenly through each object's valid points.

    An object with fewer valid points gives some of them twice; one with none gives index 0.
    """
    order = (~valid).to(torch.int8).argsort(dim=-1, stable=True)
    total = valid.sum(-1, keepdim=True)
    steps = torch.arange(count, device=valid.device)
    return order.gather(-1, (steps * total).div(count, rounding_mode="floor"))


@dataclass(frozen=True)
class MoveSettings:
    """When a pose solver leaves the pose that it was given, see `worth_moving`.

    Attributes:
        significance: the objective must fall by this share, and
        contradiction: ... by so much more for each squared standard error of the coordinates'
            mean that the points move, but
        contradiction_limit: ... by no more than this for that, of
        surface_error_m: ... itself plus this squared.
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
    pnc: Tensor,
    weights: Tensor,
    settings: MoveSettings,
) -> Tensor:
    """Whether poses (B,) should move: the objective fell by more than can be by chance.

    The decoder's own surface error bends the objective: its lowest point is not the true pose, and
    a pose that is already good should not follow it. How good it is the correspondences tell.

    Args:
        before, after: (B,) objectives, square metres.
        start, end: (B, N, 3) the points at either pose, object frame, metres.
        pnc: (B, N, 3) their predicted object coordinates, metres.
        weights: (B, N) of the correspondences, zero for outliers.
        settings: see `MoveSettings`.
    """
    needed = settings.significance + contradiction(start, end, pnc, weights, settings)
    return before - after > needed * (after + settings.surface_error_m**2)


def contradiction(
    start: Tensor, end: Tensor, pnc: Tensor, weights: Tensor, settings: MoveSettings
) -> Tensor:
    """How much the correspondences speak against motions (...), as a share of the objective.

    A network's errors are alike in neighbouring points; so the standard error of the coordinates'
    mean is taken from the mean errors of eight parts of the object, which noise that is independent
    from point to point hardly moves.

    Args:
        start: (B, N, 3) the points before, object frame, metres.
        end: (B, ..., N, 3) and after the motion.
        pnc: (B, N, 3) their predicted object coordinates, metres.
        weights: (B, N) of the correspondences, zero for outliers.
        settings: see `MoveSettings`.
    """
    used = weights > 0
    share = (weights / weights.sum(-1, keepdim=True).clamp_min(1e-12))[..., None]
    middle = masked_median(start.transpose(-1, -2), used[:, None])[:, None]
    bits = torch.tensor((1, 2, 4), device=start.device)
    octant = ((start > middle) * bits).sum(-1, keepdim=True).expand_as(start)
    error = torch.where(used[..., None], share * (start - pnc), 0.0)
    parts = error.new_zeros(len(start), 8, 3).scatter_add(1, octant, error)
    over = (len(start), *[1] * (end.ndim - 3))
    variance = parts.square().sum((-1, -2)).clamp_min(1e-12).view(over)
    start, share = (part.view(*over, *part.shape[1:]) for part in (start, share))
    way = (torch.where(share > 0, share, 0.0) * (end - start).square()).sum((-1, -2))
    return (settings.contradiction * way / variance).clamp_max(settings.contradiction_limit)


def clearly_better(before: Tensor, after: Tensor, share: float, floor_m: float) -> Tensor:
    """Whether objectives (B,) fell by more than noise can explain.

    The decoder's own surface error bends the objective: its lowest point is not the true pose, and
    a pose that is already good should not follow it. So the fall must exceed `share` of the new
    objective plus the squared surface error `floor_m`.
    """
    return before - after > share * (after + floor_m**2)
