"""Ground-truth model of an object of a BOP data set, as the metrics need it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.bop import BopDataset, DatasetError
from crisp_ros.data.meshes import surface_samples
from crisp_ros.evaluation.bop_metrics import SYMMETRY_STEPS


class TrueModel(NamedTuple):
    """Ground-truth model of an object.

    Attributes:
        mesh: metres.
        points: (N, 3) samples of the mesh, metres.
        rotations: (S, 3, 3) of its symmetries, in steps of one degree.
        symmetries: (S, 4, 4), in the steps of the BOP benchmark.
        diameter_m: of the model.
    """

    mesh: trimesh.Trimesh
    points: NDArray[np.float64]
    rotations: NDArray[np.float64]
    symmetries: NDArray[np.float64]
    diameter_m: float

    @classmethod
    def of(cls, dataset: BopDataset, obj_id: int, points: int, seed: int) -> TrueModel:
        """The model of an object with so many samples.

        Raises:
            DatasetError: the data set has no such model.
        """
        if obj_id not in dataset.models:
            raise DatasetError(
                f"{dataset.folder / 'models' / 'models_info.json'}: no model {obj_id},"
                " but an image shows it"
            )
        model = dataset.models[obj_id]
        return cls(
            model.mesh,
            surface_samples(model.mesh, points, np.random.default_rng(seed)).points,
            model.symmetries()[:, :3, :3],
            model.symmetries(SYMMETRY_STEPS),
            model.diameter_m,
        )
