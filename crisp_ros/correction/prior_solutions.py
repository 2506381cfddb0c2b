"""Poses and shapes of one object under the priors of kinds."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import take_rows


class Solutions(NamedTuple):
    """Solutions for one object.

    Attributes:
        T_object_camera: (H, 4, 4).
        latents: (H, D).
        kinds: (H,) numbers of the kinds, or wider kinds, whose priors they are under.
        objective: (H,) of `refine_shape_and_pose`.
        iterations: (H,).
    """

    T_object_camera: Tensor
    latents: Tensor
    kinds: Tensor
    objective: Tensor
    iterations: Tensor

    @classmethod
    def starting(cls, T_object_camera: Tensor, latents: Tensor, kinds: Tensor) -> Solutions:
        """Solutions to start from, with unknown objectives; arguments as the attributes."""
        unknown = torch.full_like(latents[:, 0], torch.inf)
        return cls(T_object_camera, latents, kinds, unknown, torch.zeros_like(kinds))

    def best(self, count: int) -> Solutions:
        """Solutions with the lowest objectives, the best first."""
        return take_rows(self, self.objective.argsort()[:count])
