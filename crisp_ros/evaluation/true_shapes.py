"""True shapes of the objects of a recording, on which errors are measured."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crisp_ros.data.bop import BopModel
from crisp_ros.data.meshes import surface_samples
from crisp_ros.evaluation.metrics import Surface, reconstructed_points

SHAPES_NAME = "objects.npz"  # next to the files of a recording with ground truth
_SURFACE_SAMPLES = 20_000
_POINTS_PER_METRE, _METRES_PER_POINT = 1e5, 1e-5  # of the stored 16-bit coordinates


class TrueShape(NamedTuple):
    """The surface and the symmetries of an object.

    Attributes:
        points: (N, 3) on the surface, object frame, metres.
        symmetries: (S, 3, 3) rotations that map the object onto itself.
    """

    points: NDArray[np.float64]
    symmetries: NDArray[np.float64]


class ModelShapes(Mapping[str, TrueShape]):
    """Shapes of models by name, sampled on first access.

    Raises:
        crisp_ros.data.meshes.MeshError: on access, where a model cannot be read.
    """

    def __init__(self, models: Iterable[BopModel], count: int, seed: int = 0) -> None:
        """Prepare the shapes of some models.

        Args:
            models: of distinct names.
            count: points per shape.
            seed: of the samples.
        """
        self._models = {model.name: model for model in models}
        self._count, self._seed = count, seed
        self._shapes: dict[str, TrueShape] = {}

    def __getitem__(self, name: str) -> TrueShape:
        if name not in self._shapes:
            model, rng = self._models[name], np.random.default_rng(self._seed)
            points = surface_samples(model.mesh, self._count, rng).points
            self._shapes[name] = TrueShape(points, model.symmetries()[:, :3, :3])
        return self._shapes[name]

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def save_shapes(path: Path, shapes: Mapping[str, TrueShape]) -> None:
    """Write shapes as an .npz; points are rounded to a hundredth of a millimetre."""
    arrays = {}
    for name, shape in shapes.items():
        arrays[f"{name}/points"] = np.rint(shape.points * _POINTS_PER_METRE).astype(np.int16)
        arrays[f"{name}/symmetries"] = shape.symmetries.astype(np.float32)
    np.savez_compressed(path, **arrays)


def load_shapes(path: Path) -> dict[str, TrueShape]:
    """Read the shapes that `save_shapes` wrote."""
    with np.load(path) as arrays:
        names = [key.removesuffix("/points") for key in arrays.files if key.endswith("/points")]
        return {
            name: TrueShape(
                arrays[f"{name}/points"] * _METRES_PER_POINT,
                arrays[f"{name}/symmetries"].astype(np.float64),
            )
            for name in names
        }


def shape_distance(surface: Surface, shape: TrueShape) -> float:
    """Compute the mean distance from true surface points to a reconstructed surface.

    Returns:
        Metres; infinite for a surface without area.
    """
    points = reconstructed_points(surface, _SURFACE_SAMPLES, np.random.default_rng(0))
    if len(points) == 0:
        return math.inf
    return float(cKDTree(points).query(shape.points)[0].mean())
