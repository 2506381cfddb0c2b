"""Networks of normalised coordinates: their crops, and how depth gives their scale."""

import pickle
from types import SimpleNamespace

import numpy as np
import torch
from tiny_model import write_tiny_model

from crisp_ros.network.checkpoint import load_model
from crisp_ros.pipeline.solver import Solver
from crisp_ros.studies.normalised_coordinates import (
    NormalisedCrops,
    NormalisedEstimator,
    NormalisedSolver,
)
from crisp_ros.synthesis.crop_set import Crops


def test_crops_are_divided_by_the_diagonal_of_their_mesh():
    class Source:
        mesh = np.array([0, 1, 1])
        scale = np.ones(3, np.float32)

        def __len__(self) -> int:
            return 3

        def batch(self, indices):
            pnc = np.full((len(indices), 2, 2, 3), 0.1, np.float32)
            pnc[:, 0] = np.nan
            return Crops(np.zeros((len(indices), 2, 2, 3), np.uint8), pnc, self.mesh[indices])

    crops = NormalisedCrops(Source(), np.array([0.5, 0.2]))
    batch = crops.batch(np.array([0, 2]))
    assert np.allclose(batch.pnc[:, 1], np.array([0.2, 0.5])[:, None, None])
    assert np.isnan(batch.pnc[:, 0]).all() and list(batch.mesh) == [0, 1] and len(crops) == 3


def test_depth_gives_the_scale_of_normalised_coordinates(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    z = 0.05 * torch.randn(2, 400, 3, generator=generator)
    diagonals = torch.tensor([0.25, 0.1])
    wrong = z / diagonals[:, None, None]
    wrong[:, :80] = torch.randn(2, 80, 3, generator=generator)  # a fifth are outliers
    monkeypatch.setattr(Solver, "coordinates", lambda self, maps, observations: wrong)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    points = z @ rotation.T + torch.tensor([0.1, 0.2, 0.9])
    observed = SimpleNamespace(points=points, valid=torch.ones(2, 400, dtype=torch.bool))
    metric = NormalisedSolver.coordinates(object.__new__(NormalisedSolver), None, observed)
    ratio = (metric[:, 80:] / z[:, 80:]).flatten(1).median(1).values
    assert torch.allclose(ratio, torch.ones(2), atol=0.08)


def test_the_normalised_estimator_solves_with_scaled_coordinates(tmp_path):
    estimator = NormalisedEstimator(load_model(write_tiny_model(tmp_path)))
    assert type(estimator._solver) is NormalisedSolver
    assert type(pickle.loads(pickle.dumps(estimator))._solver) is NormalisedSolver
