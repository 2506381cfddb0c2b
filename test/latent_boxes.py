"""Boxes whose latent is their size: the closed-form oracle of the solvers under a prior."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_ros.correction.latent_field import LatentDistances, LatentField
from crisp_ros.correction.shape_mixture import ShapeMixture

MEAN = torch.tensor([0.05, 0.04, 0.08]).double()
SPREAD = torch.tensor([0.015, 0.01, 0.02]).double()
BOXES = ShapeMixture.standard(torch.zeros(3).double())


class RoundedBoxes:
    """Boxes about the origin with half edges mean + spread * z, D = 3, in closed form."""

    evaluations = 0

    def sdf(self, points: Tensor, latents: Tensor) -> Tensor:
        half = (MEAN + latents * SPREAD).clamp_min(1e-3)
        q = points.abs() - half[:, None]
        outside = (q.clamp_min(0.0).square().sum(-1) + 1e-12).sqrt()
        self.evaluations += 1
        return outside + q.amax(-1).clamp_max(0.0) - 0.002

    def derivatives(self, points: Tensor, latents: Tensor) -> LatentDistances:
        with torch.enable_grad():
            x = points.detach().requires_grad_()
            per_point = latents[:, None].expand(-1, points.shape[1], -1).detach()
            per_point = per_point.clone().requires_grad_()
            sdf = self.sdf(x.flatten(0, 1)[:, None], per_point.flatten(0, 1)).view(x.shape[:2])
            gradient, slope = torch.autograd.grad(sdf.sum(), (x, per_point))
        return LatentDistances(sdf.detach(), gradient, slope)

    def of_shape(self, latent: Tensor) -> LatentField:
        return _OneBox(latent)


class _OneBox(RoundedBoxes):
    """One of the boxes, D = 0."""

    def __init__(self, latent: Tensor) -> None:
        self._latent = latent

    def sdf(self, points: Tensor, latents: Tensor) -> Tensor:
        return super().sdf(points, self._latent.expand(len(points), -1))

    def derivatives(self, points: Tensor, latents: Tensor) -> LatentDistances:
        found = RoundedBoxes().derivatives(points, self._latent.expand(len(points), -1))
        return found._replace(slope=found.slope[..., :0])
