"""Triangle meshes: reading, closing, signed distances and surface samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray

from crisp_ros.data.files import MeshError, read_json, text
from crisp_ros.data.mesh_colours import merge_looks
from crisp_ros.data.mesh_parts import Orientation, orient_parts
from crisp_ros.data.mesh_readers import CONVERTIBLE, READABLE, read_meshes


class SurfaceSamples(NamedTuple):
    """Points on a surface, points (n, 3) in metres, with their outward unit normals (n, 3)."""

    points: NDArray[np.float64]
    normals: NDArray[np.float64]


def load_mesh(path: str | Path, unit_m: float = 1.0) -> trimesh.Trimesh:
    """Read a mesh into metres, with its colours in the form of `mesh_colours`.

    Vertices that no face uses are dropped. What is missing, such as a texture's file, is listed in
    `metadata["notes"]`.

    Args:
        path: PLY, OBJ, GLB, GLTF, STL or OFF; a scene of several meshes becomes one mesh.
        unit_m: length of one file unit in metres, 0.001 for the millimetres of BOP.

    Raises:
        MeshError: unreadable, or without faces, or with coordinates that are not finite.
    """
    path = Path(path)
    if not (np.isfinite(unit_m) and unit_m > 0.0):
        raise MeshError(f"{path}: the unit must be a positive length in metres, got {unit_m}")
    notes: list[str] = []
    meshes = read_meshes(path, notes)
    for part in meshes:
        if part.faces.min() < 0 or part.faces.max() >= len(part.vertices):
            raise MeshError(f"{path}: a face names a vertex that is not there")
    mesh = merge_looks(meshes, notes)
    # A face that names a vertex twice is no surface; and vertices of none count in no box.
    a, b, c = np.asarray(mesh.faces).T
    mesh.update_faces((a != b) & (b != c) & (a != c))
    if len(mesh.faces) == 0:
        raise MeshError(f"{path}: no face with three corners")
    mesh.remove_unreferenced_vertices()
    if not np.isfinite(mesh.vertices).all():
        raise MeshError(f"{path}: some vertices are not finite")
    mesh.metadata["notes"] = tuple(dict.fromkeys(notes))
    mesh.apply_scale(unit_m)
    return mesh


def mesh_files(folder: Path) -> dict[str, Path]:
    """The meshes of a folder by name: that in BOP's models_info.json if any, else the file's.

    Raises:
        MeshError: no mesh, two of one name, or one of a format that has to be converted first.
        DatasetError: models_info.json is malformed.
    """
    files = sorted(folder.iterdir())
    paths = [p for p in files if p.suffix.lower() in READABLE]
    stems = {p.stem for p in paths}
    for path in files:
        if path.suffix.lower() in CONVERTIBLE and path.stem not in stems:
            raise MeshError(f"{path}: {CONVERTIBLE[path.suffix.lower()]}")
    if not paths:
        raise MeshError(f"{folder}: no meshes ({', '.join(READABLE)})")
    info_path = folder / "models_info.json"
    info = read_json(info_path, dict) if info_path.is_file() else {}
    named: dict[str, Path] = {}
    for path in paths:
        number = "".join(filter(str.isdecimal, path.stem))
        key = str(int(number)) if number else ""
        name = text(info.get(key, {}), "name", path.stem, f"{info_path}: model {key}")
        if name in named:
            raise MeshError(f"{folder}: {named[name].name} and {path.name} are both named {name}")
        named[name] = path
    return named


class ClosedMesh(NamedTuple):
    """A closed surface without colours, and how its parts were oriented."""

    mesh: trimesh.Trimesh
    orientation: Orientation


def watertight(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Close a scan without changing its shape, see `close_seams`. Raises MeshError."""
    return close_seams(mesh).mesh


def close_seams(mesh: trimesh.Trimesh) -> ClosedMesh:
    """Close a scan without changing its shape: weld seams, drop faces that enclose nothing.

    Texture seams split vertices, and mesh simplifiers leave slivers without area and pairs of
    opposite faces on the same three vertices. Removing these leaves every winding number as it
    was, so that walls, cavities and handles stay. Every closed part then faces outwards, and a
    cavity inwards, see `orient_parts`.

    Returns:
        The bare geometry in the same frame.

    Raises:
        MeshError: still open afterwards.
    """
    closed = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    closed.merge_vertices()
    closed.update_faces(_enclosing_faces(closed.faces))
    closed.remove_unreferenced_vertices()
    if not closed.is_winding_consistent and not _is_balanced(closed.faces):
        trimesh.repair.fix_winding(closed)
    # Parts that touch along an edge have four faces there, and are closed all the same.
    if len(closed.faces) == 0 or not (closed.is_watertight or _is_balanced(closed.faces)):
        raise MeshError("the surface is open: close its holes, or give its walls a thickness")
    return ClosedMesh(closed, orient_parts(closed))


def _is_balanced(faces: NDArray[np.int64]) -> bool:
    """Whether faces (F, 3) use every edge as often one way as the other, as closed bodies do."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    count = int(faces.max(initial=0)) + 1
    edges = np.minimum(start, end) * count + np.maximum(start, end)
    _, which = np.unique(edges, return_inverse=True)
    return not np.bincount(which.reshape(-1), np.where(start < end, 1.0, -1.0)).any()


def signed_distance(mesh: trimesh.Trimesh, points: ArrayLike) -> NDArray[np.float64]:
    """Exact distance to the surface, signed by the generalised winding number.

    The sign holds for open, self-touching and badly connected surfaces too, as long as faces
    wind outwards.

    Args:
        mesh: the surface, metres.
        points: (N, 3) in the frame of the mesh, metres.

    Returns:
        (N,) metres, negative inside.
    """
    import igl  # compiled: needed only for distance fields

    points = np.ascontiguousarray(points, dtype=np.float64).reshape(-1, 3)
    vertices, faces = _arrays(mesh)
    if len(points) == 0:
        return np.zeros(0)
    # igl.signed_distance scales its distances by the winding number, so ask for each apart.
    inside = igl.fast_winding_number(vertices, faces, points) > 0.5
    return np.where(inside, -1.0, 1.0) * distance_to(mesh)(points)


def distance_to(mesh: trimesh.Trimesh) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """A function of points (N, 3) that gives their exact distance (N,) to a surface, unsigned.

    Points and distances are in the frame and unit of the mesh, which is sorted once for all calls.
    """
    import igl

    vertices, faces = _arrays(mesh)
    tree = igl.AABB()
    tree.init(vertices, faces)

    def distance(points: NDArray[np.float64]) -> NDArray[np.float64]:
        points = np.ascontiguousarray(points, dtype=np.float64)
        return np.sqrt(tree.squared_distance(vertices, faces, points)[0])

    return distance


def _arrays(mesh: trimesh.Trimesh) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices (V, 3) and faces (F, 3) as igl takes them."""
    vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float64)
    return vertices, np.ascontiguousarray(mesh.faces, dtype=np.int64)


def surface_samples(mesh: trimesh.Trimesh, n: int, rng: np.random.Generator) -> SurfaceSamples:
    """Draw n points uniformly by area, with the normals of their faces.

    Raises:
        MeshError: the surface has no area.
    """
    areas = mesh.area_faces
    if not areas.sum() > 0.0:
        raise MeshError("the surface has no area to draw points from")
    chosen = rng.choice(len(areas), size=n, p=areas / areas.sum())
    u, v = rng.random((2, n, 1))
    outside = u + v > 1.0  # fold the parallelogram's far half back onto the triangle
    u, v = np.where(outside, 1.0 - u, u), np.where(outside, 1.0 - v, v)
    a, b, c = np.moveaxis(np.asarray(mesh.triangles)[chosen], 1, 0)
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return SurfaceSamples(a + u * (b - a) + v * (c - a), normals)


def _enclosing_faces(faces: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Mark the faces (F,) that remain once slivers, repeated and opposite faces are gone."""
    ordered = np.sort(faces, axis=1)
    sliver = (ordered[:, 0] == ordered[:, 1]) | (ordered[:, 1] == ordered[:, 2])
    shift = np.argmin(faces, axis=1)
    rolled = faces[np.arange(len(faces))[:, None], (shift[:, None] + np.arange(3)) % 3]
    side = np.where(rolled[:, 1] < rolled[:, 2], 1, -1) * ~sliver
    _, group = np.unique(ordered, axis=0, return_inverse=True)
    group = group.reshape(-1)
    balance = np.bincount(group, weights=side)
    candidates = np.flatnonzero(side == np.sign(balance)[group])
    candidates = candidates[side[candidates] != 0]
    _, first = np.unique(group[candidates], return_index=True)
    keep = np.zeros(len(faces), dtype=bool)
    keep[candidates[first]] = True
    return keep
