"""The objects that a model is trained for: their meshes, names, symmetries and likely views."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crisp_ros.data.bop_models import read_symmetries
from crisp_ros.data.mesh_colours import coloured_samples, has_colours
from crisp_ros.data.meshes import distance_to, mesh_files, surface_samples
from crisp_ros.data.nocs import NocsDataset
from crisp_ros.data.object_mesh import ObjectMesh, closed_surface, read_object_mesh
from crisp_ros.data.spe3r import Spe3rDataset
from crisp_ros.geometry.symmetry import rotational_symmetries
from crisp_ros.synthesis.scenes import Viewpoints, load_observed_poses, viewpoints

_SYMMETRY_SAMPLES = 20_000
_STEPS = 36  # of a listed continuous symmetry
_COLOUR_SAMPLES = 4_000
_SAME_ROTATION = 0.05  # entries of two matrices, up to which they count as the same
_SAME_COLOUR = 0.06  # mean difference, of 1, up to which two views count as the same


@dataclass(frozen=True)
class TrainingObject:
    """One object.

    Attributes:
        name: distinct.
        source: name of its file.
        digest: SHA-256 of the file.
        look: the mesh with its colours, metres, object frame.
        solid: the closed mesh, without colours.
        views: likely orientations.
        shift: (3,) the file's origin in the object frame, metres.
        notes: what was found out or repaired, a line each.
        listed_symmetries: (S, 4, 4) that models_info.json lists, identity first.
    """

    name: str
    source: str
    digest: str
    look: trimesh.Trimesh
    solid: trimesh.Trimesh
    views: Viewpoints
    shift: NDArray[np.float64]
    notes: tuple[str, ...]
    listed_symmetries: NDArray[np.float64] = field(default_factory=lambda: np.eye(4)[None])


def training_objects(
    folder: Path,
    units: str | None = None,
    origin: Literal["box", "mesh"] | None = None,
    observed_poses: Path | None = None,
    on_object: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[TrainingObject, ...]:
    """Read and repair the meshes of a folder, one object each.

    Args:
        folder: PLY, OBJ, GLB, ...; a BOP models_info.json next to them gives names.
        units: of the files, see `read_object_mesh`; None: found out, but millimetres where there is
            a models_info.json.
        origin: of the object frames, see `read_object_mesh`; None: box, but that of the mesh where
            there is a models_info.json, so that the data set's poses hold.
        observed_poses: npz of observed poses by object id, the number in a mesh's file name.
        on_object: called after each with the number done and the total.

    Raises:
        MeshError: no meshes, or one that cannot be read.
        DatasetError: models_info.json is malformed.
    """
    return _read(mesh_files(folder), folder, units, origin, observed_poses, on_object)


def data_objects(
    layout: str,
    folder: Path,
    splits: Sequence[str],
    observed_poses: Path | None = None,
    on_object: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[TrainingObject, ...]:
    """The objects of a data set's splits.

    Args:
        layout: bop, spe3r or nocs. Objects of NOCS are as large as in its normalised frames.
        folder: of the data set.
        splits: which are trained on.
        observed_poses: see `training_objects`; for bop.
        on_object: called after each with the number done and the total.

    Raises:
        DatasetError: a file is missing.
        MeshError: a mesh that cannot be read.
    """
    if layout == "bop":
        return training_objects(folder / "models", None, None, observed_poses, on_object)
    if layout == "spe3r":
        data = [Spe3rDataset(folder, split) for split in splits]
        files = {s.name: s.mesh_path for part in data for s in part.satellites.values()}
        return _read(files, folder, "m", "mesh", None, on_object)
    models = {m.name: m for split in splits for m in NocsDataset(folder, split).models()}
    objects = []
    for name, model in models.items():
        look = model.mesh
        solid, notes = closed_surface(look, wrap=True)
        mesh = ObjectMesh(solid, np.zeros(3), tuple(notes), look)
        objects.append(_object(name, model.path, mesh, None))
        on_object(len(objects), len(models))
    return tuple(objects)


def _read(
    files: Mapping[str, Path],
    folder: Path,
    units: str | None,
    origin: Literal["box", "mesh"] | None,
    observed_poses: Path | None,
    on_object: Callable[[int, int], None],
) -> tuple[TrainingObject, ...]:
    is_bop = (folder / "models_info.json").is_file()
    units = units or ("mm" if is_bop else None)
    origin = origin or ("mesh" if is_bop else "box")
    observed = load_observed_poses(observed_poses) if observed_poses else {}
    # A mesh that is moved has its symmetries about other axes than those that are listed.
    listed = read_symmetries(folder, _STEPS) if is_bop and origin == "mesh" else {}
    objects = []
    for name, path in files.items():
        mesh = read_object_mesh(path, units, origin=origin, wrap=True)
        number = int("".join(filter(str.isdecimal, path.stem)) or 0)
        known = _object(name, path, mesh, observed.get(number))
        objects.append(replace(known, listed_symmetries=listed.get(number, np.eye(4)[None])))
        on_object(len(objects), len(files))
    return tuple(objects)


def _object(
    name: str, path: Path, mesh: ObjectMesh, observed: NDArray[np.float64] | None
) -> TrainingObject:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    views = viewpoints(mesh.mesh, observed)
    notes = mesh.notes
    if not has_colours(mesh.look):
        notes += ("it has no colours: the network sees it as plain grey",)
    return TrainingObject(name, path.name, digest, mesh.look, mesh.mesh, views, mesh.shift, notes)


def symmetries_of_shape(mesh: trimesh.Trimesh, tolerance_m: float, seed: int) -> NDArray:
    """The rotations (S, 4, 4) that map a mesh onto itself, identity first, whatever its colours.

    Args:
        mesh: metres, or any unit, which then is that of the tolerance too.
        tolerance_m: mean distance up to which a rotated surface counts as the same.
        seed: of the samples.
    """
    points = surface_samples(mesh, _SYMMETRY_SAMPLES, np.random.default_rng(seed)).points
    return rotational_symmetries(points, distance_to(mesh), tolerance_m)


def symmetries_of_look(mesh: trimesh.Trimesh, tolerance_m: float, seed: int) -> NDArray:
    """Those of `symmetries_of_shape` that colours do not give away.

    Args:
        mesh: with its texture or its vertex colours, if any.
        tolerance_m: mean distance up to which a rotated surface counts as the same.
        seed: of the samples.
    """
    group = symmetries_of_shape(mesh, tolerance_m, seed)
    if len(group) == 1 or not has_colours(mesh):
        return group
    points, colours = coloured_samples(mesh, _COLOUR_SAMPLES, seed)
    # Blurred over neighbours: the nearest sample of a fine print is another letter.
    tree = cKDTree(points)
    colours = colours[tree.query(points, k=8)[1]].mean(axis=1)

    def unseen(T: NDArray[np.float64]) -> bool:
        nearest = tree.query(trimesh.transform_points(points, T))[1]
        return bool(np.abs(colours - colours[nearest]).mean() <= _SAME_COLOUR)

    return _closed(group[[unseen(T) for T in group]])


def _closed(motions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of the motions (S, 4, 4) whose square, and its square, ... are among them.

    A small rotation moves a mark only a little; many of them move it all around.
    """
    while True:
        squares = (motions @ motions)[:, None, :3, :3]
        apart = np.abs(squares - motions[None, :, :3, :3]).max(axis=(2, 3)).min(axis=1)
        kept = apart < _SAME_ROTATION
        if kept.all():
            return motions
        motions = motions[kept]


def symmetries(
    objects: Collection[TrainingObject],
    symmetric: Collection[str] | Literal["auto", "shape", "listed"],
    tolerance_m: float,
    seed: int,
) -> list[NDArray[np.float64]]:
    """Per object the transforms (S, 4, 4) that leave its look unchanged, identity first.

    Args:
        objects: of the training.
        symmetric: names of those whose shape's symmetries count; "shape" looks for them in all,
            "auto" for symmetries of shape and colour, "listed" takes those of models_info.json.
        tolerance_m: mean distance up to which a rotated surface counts as the same.
        seed: of the samples.
    """
    if symmetric == "listed":
        return [o.listed_symmetries for o in objects]
    if symmetric == "auto":
        return [symmetries_of_look(o.look, tolerance_m, seed) for o in objects]
    return [
        symmetries_of_shape(o.look, tolerance_m, seed)
        if symmetric == "shape" or o.name in symmetric
        else np.eye(4)[None]
        for o in objects
    ]
