"""Triangle meshes: reading, closing, signed distances and surface samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray

from crisp_ros.data.files import read_json, text

if TYPE_CHECKING:
    from PIL.Image import Image

_READABLE = (".ply", ".obj", ".glb", ".gltf", ".stl", ".off")


class MeshError(ValueError):
    """A mesh that cannot be read or used; the message says which and why."""


class SurfaceSamples(NamedTuple):
    """Points on a surface, points (n, 3) in metres, with their outward unit normals (n, 3)."""

    points: NDArray[np.float64]
    normals: NDArray[np.float64]


def load_mesh(path: str | Path, unit_m: float = 1.0) -> trimesh.Trimesh:
    """Reads a mesh into metres and keeps its texture or its vertex colours.

    Args:
        path: PLY, OBJ, GLB, GLTF, STL or OFF; a scene of several meshes becomes one mesh.
        unit_m: length of one file unit in metres, 0.001 for the millimetres of BOP.

    Raises:
        MeshError: unreadable, or without faces, or with coordinates that are not finite.
    """
    path = Path(path)
    if path.suffix.lower() not in _READABLE:
        raise MeshError(f"{path}: expected a mesh, one of {', '.join(_READABLE)}")
    if not path.is_file():
        raise MeshError(f"{path}: no such file")
    if not (np.isfinite(unit_m) and unit_m > 0.0):
        raise MeshError(f"{path}: the unit must be a positive length in metres, got {unit_m}")
    try:
        mesh = trimesh.load(path, force="mesh", process=False)
    except Exception as error:  # every reader of trimesh fails in its own way
        raise MeshError(f"{path}: not a readable mesh ({error})") from error
    if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
        raise MeshError(f"{path}: no faces; a surface is needed, not a point cloud")
    if not np.isfinite(mesh.vertices).all():
        raise MeshError(f"{path}: some vertices are not finite")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        raise MeshError(f"{path}: a face names a vertex that is not there")
    mesh.apply_scale(unit_m)
    return mesh


def mesh_files(folder: Path) -> dict[str, Path]:
    """The meshes of a folder by name: that in BOP's models_info.json if any, else the file's.

    Raises:
        MeshError: no mesh, or two of one name.
        DatasetError: models_info.json is malformed.
    """
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in _READABLE)
    if not paths:
        raise MeshError(f"{folder}: no meshes ({', '.join(_READABLE)})")
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


def texture_image(mesh: trimesh.Trimesh) -> Image | None:
    """The base colour image (Pillow) of a textured mesh, whatever kind of material holds it."""
    material = getattr(mesh.visual, "material", None)
    image = getattr(material, "image", None)
    return image if image is not None else getattr(material, "baseColorTexture", None)


def watertight(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Closes a scan without changing its shape: welds seams, drops faces that enclose nothing.

    Texture seams split vertices, and mesh simplifiers leave slivers without area and pairs of
    opposite faces on the same three vertices. Removing these leaves every winding number as it
    was, so that walls, cavities and handles stay.

    Returns:
        The bare geometry in the same frame, closed, with normals outwards.

    Raises:
        MeshError: still open afterwards.
    """
    closed = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    closed.merge_vertices()
    closed.update_faces(_enclosing_faces(closed.faces))
    closed.remove_unreferenced_vertices()
    if not closed.is_winding_consistent:
        trimesh.repair.fix_winding(closed)
    if not closed.is_watertight:
        raise MeshError("the surface is open: close its holes, or give its walls a thickness")
    if closed.volume < 0.0:
        closed.invert()
    return closed


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
    import igl  # compiled: only whoever makes distance fields needs it

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
    """Draws n points uniformly by area, with the normals of their faces.

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
    """Marks the faces (F,) that remain once slivers, repeated and opposite faces are gone."""
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
