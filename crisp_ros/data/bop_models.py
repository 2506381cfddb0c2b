"""Object models in the layout of the BOP benchmark: models_info.json and one mesh an object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.data.files import DatasetError, array, number, read_json, rigid, spelled_number, text
from crisp_ros.data.meshes import load_mesh
from crisp_ros.geometry.se3 import rotation_about

MM = 1e-3  # the layout's unit in metres


class SymmetryAxis(NamedTuple):
    """Axis of a continuous symmetry: direction (3,), point (3,) on it, metres."""

    direction: NDArray[np.float64]
    point: NDArray[np.float64]


@dataclass(frozen=True)
class BopModel:
    """One object model.

    Attributes:
        path: its mesh file.
        diameter_m: largest distance between two of its points.
        lower, upper: (3,) corners of its bounding box, object frame, metres.
        discrete_symmetries: (S, 4, 4) motions that map the object onto itself, identity first.
        symmetry_axes: the continuous symmetries.
    """

    obj_id: int
    name: str
    path: Path
    diameter_m: float
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    discrete_symmetries: NDArray[np.float64] = field(default_factory=lambda: np.eye(4)[None])
    symmetry_axes: tuple[SymmetryAxis, ...] = ()

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """The textured mesh in metres, read when first asked for. Raises MeshError."""
        return load_mesh(self.path, unit_m=MM)

    def symmetries(self, steps: int = 360) -> NDArray[np.float64]:
        """All symmetries (S, 4, 4), identity first, every continuous one in equal steps."""
        return _with_axes(self.discrete_symmetries, self.symmetry_axes, steps)


def read_models(folder: Path) -> dict[int, BopModel]:
    """The models of a folder by object id. Raises DatasetError."""
    info_path = folder / "models_info.json"
    models = {}
    for obj_id, where, entry in _entries(info_path):
        path = folder / f"obj_{obj_id:06d}.ply"
        if not path.is_file():
            raise DatasetError(f"{path}: no such file, but {info_path} lists model {obj_id}")
        lower = np.array([number(entry, f"min_{axis}", where) for axis in "xyz"]) * MM
        size = np.array([number(entry, f"size_{axis}", where) for axis in "xyz"]) * MM
        if (size < 0.0).any() or (diameter_m := number(entry, "diameter", where) * MM) <= 0.0:
            raise DatasetError(f"{where}: expected sizes and a diameter that are positive")
        models[obj_id] = BopModel(
            obj_id=obj_id,
            name=text(entry, "name", path.stem, where),
            path=path,
            diameter_m=diameter_m,
            lower=lower,
            upper=lower + size,
            discrete_symmetries=_discrete_symmetries(entry, where),
            symmetry_axes=_symmetry_axes(entry, where),
        )
    if not models:
        raise DatasetError(f"{info_path}: no model in it")
    return models


def plain_name(name: str) -> str:
    """Remove the number that data sets put first: "002_master_chef_can"."""
    return re.sub(r"^\d+_", "", name)


def read_symmetries(folder: Path, steps: int) -> dict[int, NDArray[np.float64]]:
    """The symmetries (S, 4, 4) that a folder's models_info.json lists, by object id.

    Args:
        folder: of the models, whose files are not looked for.
        steps: of each continuous symmetry.

    Raises:
        DatasetError: models_info.json is missing or malformed.
    """
    return {
        obj_id: _with_axes(_discrete_symmetries(entry, where), _symmetry_axes(entry, where), steps)
        for obj_id, where, entry in _entries(folder / "models_info.json")
    }


def _entries(info_path: Path) -> Iterator[tuple[int, str, Any]]:
    """Object id, place for messages, and content of each entry of a models_info.json."""
    for key, entry in read_json(info_path, dict).items():
        where = f"{info_path}: model {key}"
        obj_id = spelled_number(key)
        if obj_id is None:
            raise DatasetError(f"{where}: expected object ids as keys")
        yield obj_id, where, entry


def _symmetry_axes(entry: Mapping[str, Any], where: str) -> tuple[SymmetryAxis, ...]:
    return tuple(
        SymmetryAxis(
            _unit(array(axis, "axis", (3,), where), where),
            array(axis, "offset", (3,), where) * MM,
        )
        for axis in _list(entry, "symmetries_continuous", where)
    )


def _with_axes(
    group: NDArray[np.float64], axes: tuple[SymmetryAxis, ...], steps: int
) -> NDArray[np.float64]:
    """The motions (S, 4, 4) of a group with every continuous symmetry in equal steps."""
    for axis in axes:
        angles = np.linspace(0.0, 2.0 * np.pi, steps, endpoint=False)
        rotations = Rotation.from_rotvec(angles[:, None] * axis.direction).as_matrix()
        group = (group[:, None] @ rotation_about(rotations, axis.point)).reshape(-1, 4, 4)
    return group


def _discrete_symmetries(entry: Mapping[str, Any], where: str) -> NDArray[np.float64]:
    group = [np.eye(4)]
    listed = _list(entry, "symmetries_discrete", where)
    for index in range(len(listed)):
        motion = array(listed, index, (4, 4), where)
        motion[:3, 3] *= MM
        group.append(rigid(motion, where))
    return np.stack(group)


def _unit(direction: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    length = np.linalg.norm(direction)
    if length == 0.0:
        raise DatasetError(f"{where}: a symmetry axis of length zero")
    return direction / length


def _list(entry: Mapping[str, Any], key: str, where: str) -> list[Any]:
    values = entry.get(key, [])
    if not isinstance(values, list):
        raise DatasetError(f"{where}: {key}: expected a list")
    return values
