"""Crops, solver and estimator of networks whose coordinates are normalised, as in NOCS."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.network.checkpoint import Model
from crisp_ros.observation.observe import Observations
from crisp_ros.pipeline import Estimator, EstimatorSettings
from crisp_ros.pipeline.solver import Solver
from crisp_ros.synthesis.crop_set import Crops, CropSet

_PAIRS = 2000
_MIN_PAIR_M = 0.01  # least distance of two points whose ratio of distances counts


class NormalisedCrops:
    """Crops whose coordinates are divided by the diagonal of their object's box.

    Args:
        crops: metric ones.
        diagonals: (K,) metres.
    """

    def __init__(self, crops: CropSet, diagonals: NDArray[np.float64]) -> None:
        self._crops, self._diagonals = crops, diagonals.astype(np.float32)

    @property
    def mesh(self) -> NDArray[np.int64]:
        return self._crops.mesh

    @property
    def scale(self) -> NDArray[np.float32]:
        return self._crops.scale

    def __len__(self) -> int:
        return len(self._crops)

    def batch(self, indices: NDArray[np.int64]) -> Crops:
        crops = self._crops.batch(indices)
        return crops._replace(pnc=crops.pnc / self._diagonals[crops.mesh][:, None, None, None])


class NormalisedSolver(Solver):
    """A solver for a network of normalised coordinates: depth gives the object's size.

    The scale of eq. (24) is the median ratio of distances between pairs of points, in coordinates
    and in depth.
    """

    def coordinates(self, maps: Tensor, observations: Observations) -> Tensor:
        """Read the points' coordinates (B, N, 3), scaled to metres."""
        normalised = super().coordinates(maps, observations)
        scaled = []
        generator = torch.Generator().manual_seed(0)
        for z, x, valid in zip(normalised, observations.points, observations.valid, strict=True):
            rows = valid.nonzero().squeeze(-1)
            first, second = rows[torch.randint(len(rows), (2, _PAIRS), generator=generator)]
            depth = (x[first] - x[second]).norm(dim=-1)
            apart = depth > _MIN_PAIR_M
            ratio = (z[first] - z[second]).norm(dim=-1)[apart] / depth[apart]
            scale = ratio.median() if len(ratio) else ratio.new_tensor(1.0)
            scaled.append(z / scale.clamp_min(1e-3))
        return torch.stack(scaled)


class NormalisedEstimator(Estimator):
    """An estimator for a network of normalised coordinates."""

    def __init__(
        self,
        model: Model,
        settings: EstimatorSettings | None = None,
        device: torch.device | str = "cpu",
        prior_model: Model | None = None,
    ) -> None:
        super().__init__(model, settings, device, prior_model)
        self._solver = NormalisedSolver(
            self._network, self.field, self.prepared_library, self.settings, self.device
        )
