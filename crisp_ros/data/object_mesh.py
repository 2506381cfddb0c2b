"""A mesh that somebody brings along: its unit found out, its holes closed, its origin moved."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from crisp_ros.data.mesh_wrap import wrapped
from crisp_ros.data.meshes import MeshError, load_mesh, watertight

UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_LARGEST_M = 2.0  # across; a mesh that seems larger is in millimetres
_SMALL_HOLE = 0.5  # length of a hole's border over the diagonal of the mesh's box


class ObjectMesh(NamedTuple):
    """A closed mesh in the object frame, metres.

    shift: (3,) added to the coordinates of the file (in metres): the file's origin lies there in
    the object frame. notes: what was found out or repaired, a line each. look: the surface as the
    file has it, with its colours, in the object frame.
    """

    mesh: trimesh.Trimesh
    shift: NDArray[np.float64]
    notes: tuple[str, ...]
    look: trimesh.Trimesh


def read_object_mesh(
    path: str | Path,
    units: str | None = None,
    scale: float = 1.0,
    origin: Literal["box", "mesh"] = "box",
    wrap: bool = False,
) -> ObjectMesh:
    """Reads a mesh and makes it a closed surface in metres.

    Args:
        path: PLY, OBJ, STL, GLB, GLTF or OFF.
        units: of the file, a key of `UNITS_M`; None: metres, unless it were more than 2 m across.
        scale: resizes the object.
        origin: "box" moves the middle of the mesh's box to the origin of the object frame; "mesh"
            keeps the file's. The axes are the file's.
        wrap: a mesh that is open beyond small holes gets a closed surface around it, see `wrapped`.

    Raises:
        MeshError: unreadable, not finite, flat, or open beyond small holes and not to be wrapped.
    """
    notes = []
    mesh = load_mesh(path)
    size = _diagonal(mesh)
    if units is None:
        units = "m" if size * scale <= _LARGEST_M else "mm"
        if units == "mm":
            notes.append(
                f"{size:.4g} units across: taken for millimetres (--units m if it is that large)"
            )
    mesh.apply_scale(UNITS_M[units] * scale)
    try:
        closed, closing = closed_surface(mesh, wrap)
    except MeshError as error:
        raise MeshError(f"{path}: {error}") from error
    notes += closing
    look = mesh
    if not closed.volume > 1e-6 * _diagonal(closed) ** 3:
        raise MeshError(f"{path}: it encloses no volume")
    shift = -closed.bounds.mean(axis=0) if origin == "box" else np.zeros(3)
    closed.apply_translation(shift)
    look.apply_translation(shift)
    return ObjectMesh(closed, shift, tuple(notes), look)


def closed_surface(mesh: trimesh.Trimesh, wrap: bool) -> tuple[trimesh.Trimesh, list[str]]:
    """A closed surface without colours of a mesh, and what was repaired for it, a line each.

    Args:
        mesh: metres.
        wrap: see `read_object_mesh`.

    Raises:
        MeshError: open beyond small holes and not to be wrapped.
    """
    try:
        return watertight(mesh), []
    except MeshError:
        filled, holes = _without_small_holes(mesh)
    try:
        return watertight(filled), [f"{holes} small hole{'s' if holes != 1 else ''} closed"]
    except MeshError:
        if not wrap:
            raise
    return wrapped(mesh), ["open: a closed surface was wrapped around it, see that it is right"]


def _diagonal(mesh: trimesh.Trimesh) -> float:
    return float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))


def _without_small_holes(mesh: trimesh.Trimesh) -> tuple[trimesh.Trimesh, int]:
    """The welded mesh with every small hole closed by a fan about its middle, and their number."""
    welded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    welded.merge_vertices()
    edges, uses = np.unique(welded.edges_sorted, axis=0, return_counts=True)
    border = edges[uses == 1]
    count = len(welded.vertices)
    links = coo_array((np.ones(len(border)), border.T), shape=(count, count))
    piece = connected_components(links, directed=False)[1][border[:, 0]]
    vertices, faces = [*welded.vertices], [*welded.faces]
    holes = 0
    for ends in (border[piece == number] for number in np.unique(piece)):
        corners, visits = np.unique(ends, return_counts=True)
        length = np.linalg.norm(np.diff(welded.vertices[ends], axis=1), axis=-1).sum()
        if (visits != 2).any() or length > _SMALL_HOLE * _diagonal(welded):
            continue  # not a single ring, or too large to guess what belongs there
        faces.extend([*edge, len(vertices)] for edge in ends)
        vertices.append(welded.vertices[corners].mean(axis=0))
        holes += 1
    filled = trimesh.Trimesh(np.array(vertices), np.array(faces), process=False)
    trimesh.repair.fix_winding(filled)
    return filled, holes
