"""The supervised losses of the paper (appendix D.1), with its weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.validation import at_least


@dataclass(frozen=True)
class SdfLossWeights:
    """gamma_1, gamma_2, gamma_3 of eq. (21), and where the off-surface term of eq. (22) applies.

    The paper's exp(-100 |f|) pushes |f| up everywhere off the surface and outweighs the SDF term
    where |f| < 19 mm, just where certificate, corrector and mesher work. It therefore acts only
    where the true |sdf| exceeds `off_surface_from_m`. The Eikonal term needs second derivatives,
    the most expensive part of a step, and is taken on every `eikonal_stride`-th point.

    Attributes:
        distance: gamma_1, of the error of the distance.
        off_surface: gamma_3, of values near zero off the surface.
        eikonal: gamma_2, of gradients that are not of length one.
        off_surface_from_m: true distance from which the off-surface term counts.
        eikonal_stride: see above.
    """

    distance: float = 3e3
    off_surface: float = 2e2
    eikonal: float = 50.0
    off_surface_from_m: float = 0.03
    eikonal_stride: int = 1

    def __post_init__(self) -> None:
        at_least(self, 1, "eikonal_stride")


def pnc_loss(
    predicted: Tensor,
    target: Tensor,
    mask: Tensor,
    zeta_m: float = 0.1,
    symmetries: Tensor | None = None,
) -> Tensor:
    """Eq. (20), the smallest over an object's symmetries, mean over objects.

    Per coordinate error e: e^2 / (2 zeta) up to zeta, e - zeta / 2 beyond; summed over the three
    coordinates, mean over the object's pixels.

    Args:
        predicted: (B, 3, H, W) metres. target: the same, any value outside the mask.
        mask: (B, H, W) bool; objects without a pixel count as zero.
        zeta_m: where the loss becomes linear. With the paper's 0.1 m it never does.
        symmetries: (B, S, 4, 4) transforms that leave each object's look unchanged, the identity
            repeated to fill up; None for the identity alone.
    """
    count = mask.sum((1, 2)).clamp(min=1)
    if symmetries is None:
        return (_huber(predicted - target, zeta_m).sum(1) * mask).sum((1, 2)).div(count).mean()
    with torch.no_grad():
        # The symmetry is chosen on a coarse grid: the sum over pixels only has to rank them.
        step = max(1, predicted.shape[-1] // 12)
        few = slice(step // 2, None, step)
        points = target[:, :, few, few].flatten(2)
        rotated = symmetries[..., :3, :3] @ points[:, None] + symmetries[..., :3, 3:]
        error = _huber(predicted[:, None, :, few, few].flatten(3) - rotated, zeta_m).sum(2)
        best = (error * mask[:, None, few, few].flatten(2)).sum(2).argmin(1)
        chosen = symmetries[torch.arange(len(best)), best]
        target = (chosen[:, :3, :3] @ target.flatten(2) + chosen[:, :3, 3:]).view_as(target)
    return (_huber(predicted - target, zeta_m).sum(1) * mask).sum((1, 2)).div(count).mean()


def sdf_loss(
    decoder: ShapeDecoder,
    codes: Tensor,
    points: Tensor,
    distances: Tensor,
    weights: SdfLossWeights,
) -> Tensor:
    """Eqs. (21) and (22), each term a mean over the points of a shape, then over the shapes.

    Args:
        codes: (B, C). points: (B, N, 3) object frame, metres. distances: (B, N) true SDF, metres.
    """
    predicted = decoder(points, codes)
    total = weights.distance * (predicted - distances).abs().mean()
    some = points[:, :: weights.eikonal_stride].detach().requires_grad_()
    (slope,) = torch.autograd.grad(decoder(some, codes).sum(), some, create_graph=True)
    total = total + weights.eikonal * (slope.norm(dim=-1) - 1.0).abs().mean()
    if weights.off_surface > 0.0:
        far = distances.abs() > weights.off_surface_from_m
        near_zero = torch.where(far, torch.exp(-100.0 * predicted.abs()), 0.0).sum(1)
        total = total + weights.off_surface * (near_zero / far.sum(1).clamp(min=1)).mean()
    return total


def _huber(error: Tensor, zeta: float) -> Tensor:
    return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=zeta)
