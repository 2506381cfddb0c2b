"""A mesh that somebody brings along: its unit found out, its holes closed, its origin moved."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from crisp_ros.data.files import MeshError
from crisp_ros.data.mesh_parts import LooseParts, connected_parts, face_parts, without_scraps
from crisp_ros.data.mesh_wrap import wrap_surface
from crisp_ros.data.meshes import close_seams, load_mesh

UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_LARGEST_M = 2.0  # across; a mesh that seems larger is in millimetres
_SIZES_M = (1e-3, 1e3)  # across, of an object
_FLAT = 1e-3  # thickness over size of a mesh that is no body
_LOST = 0.05  # share of the size by which a repaired mesh may differ from the file's
_SMALL_HOLE = 0.5  # length of a hole's border over the diagonal of the mesh's box
_SMALL_REMNANT = 0.01  # share of the largest part's area


class ObjectMesh(NamedTuple):
    """A closed mesh in the object frame, metres.

    Attributes:
        mesh: closed, without colours.
        shift: (3,) position of the file's origin in the object frame, metres: it was added to the
            coordinates of the file.
        notes: what was found out or repaired, a line each.
        look: the surface as the file has it, with its colours, in the object frame.
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
    """Read a mesh and make it a closed surface in metres.

    Args:
        path: PLY, OBJ, STL, GLB, GLTF or OFF.
        units: of the file, a key of `UNITS_M`; None: metres, unless it were more than 2 m across.
        scale: resizes the object.
        origin: "box" moves the middle of the mesh's box to the origin of the object frame; "mesh"
            keeps the file's. The axes are the file's.
        wrap: a mesh that is open beyond small holes is closed by `wrap_surface`.

    Raises:
        MeshError: unreadable, not finite, of a size that no object has, flat, open beyond small
            holes and not to be wrapped, or not as large as the file's once it is closed.
    """
    mesh, loose = without_scraps(load_mesh(path))
    notes = list(mesh.metadata.get("notes", ()))
    size = _diagonal(mesh)
    if units is None:
        units = "m" if size * scale <= _LARGEST_M else "mm"
        if units == "mm":
            notes.append(
                f"{size:.4g} units across: taken for millimetres (--units m if it is that large)"
            )
    unit_m = UNITS_M[units] * scale
    mesh.apply_scale(unit_m)
    notes += _loose_notes(loose, unit_m)
    try:
        _check_size(mesh, units)
        closed, closing = closed_surface(mesh, wrap)
        _check_repair(closed, mesh)
    except MeshError as error:
        raise MeshError(f"{path}: {error}") from error
    notes += closing
    shift = -closed.bounds.mean(axis=0) if origin == "box" else np.zeros(3)
    closed.apply_translation(shift)
    mesh.apply_translation(shift)
    return ObjectMesh(closed, shift, tuple(notes), mesh)


def _check_size(mesh: trimesh.Trimesh, units: str) -> None:
    least, most = _SIZES_M
    if not least <= _diagonal(mesh) <= most:
        raise MeshError(
            f"it is {_diagonal(mesh):.3g} m across, taken in {units}: state its unit, or move the"
            " vertices that are far away"
        )
    centred = mesh.vertices - mesh.vertices.mean(axis=0)
    thickness = np.ptp(centred @ np.linalg.eigh(centred.T @ centred)[1][:, 0])
    if thickness < _FLAT * _diagonal(mesh):
        raise MeshError("it is flat: give it a thickness")


def _check_repair(closed: trimesh.Trimesh, mesh: trimesh.Trimesh) -> None:
    """Check that a closed surface encloses something, and is as large as the mesh it came from.

    Raises:
        MeshError: it does not, or is not.
    """
    if not closed.volume > 1e-6 * _diagonal(closed) ** 3:
        raise MeshError("it encloses no volume")
    if np.abs(closed.bounds - mesh.bounds).max() > _LOST * _diagonal(mesh):
        raise MeshError(
            f"what could be closed of it is {_millimetres(closed)} mm large, and all of it"
            f" {_millimetres(mesh)}: close its holes, or give its walls a thickness"
        )


def _millimetres(mesh: trimesh.Trimesh) -> str:
    return " x ".join(f"{1e3 * edge:.3g}" for edge in mesh.extents)


def closed_surface(mesh: trimesh.Trimesh, wrap: bool) -> tuple[trimesh.Trimesh, list[str]]:
    """A closed surface without colours of a mesh, and what was repaired for it, a line each.

    Args:
        mesh: metres.
        wrap: see `read_object_mesh`.

    Raises:
        MeshError: open beyond small holes and not to be wrapped.
    """
    try:
        return _closed(mesh)
    except MeshError:
        solid, notes = _without_open_remnants(mesh)
    filled, holes = _without_small_holes(solid)
    if holes:
        notes.append(f"{holes} small hole{'s' if holes != 1 else ''} closed")
    try:
        closed, orientation_notes = _closed(filled)
    except MeshError:
        if not wrap:
            raise
        # The remnants count again: together they may be a wall.
        wrapped = wrap_surface(mesh)
        share = wrapped.volume / max(wrapped.convex_hull.volume, 1e-300)
        return wrapped, [
            "open: a closed surface was wrapped around it, which fills"
            f" {100 * share:.0f} % of its convex hull; see that it is right"
        ]
    return closed, notes + orientation_notes


def _closed(mesh: trimesh.Trimesh) -> tuple[trimesh.Trimesh, list[str]]:
    closed, found = close_seams(mesh)
    notes = []
    if found.parts > 1 and found.reversed_parts:
        notes.append(
            f"{found.reversed_parts} of {found.parts} closed parts inside out: now outwards"
        )
    if found.cavities:
        notes.append(f"{_counted(found.cavities, 'cavity', 'cavities')} inside it kept")
    if found.nested:
        notes.append(
            f"{_counted(found.nested, 'closed part')} inside another one and facing outwards:"
            " counted as solid; reverse its faces if it is a cavity"
        )
    return closed, notes


def _loose_notes(loose: LooseParts, unit_m: float) -> list[str]:
    notes = []
    if loose.scraps:
        notes.append(
            f"{_counted(loose.scraps, 'loose piece')} left out, up to"
            f" {1e3 * unit_m * loose.scrap_size:.3g} mm across and"
            f" {1e3 * unit_m * loose.scrap_distance:.3g} mm away: too small and too far off to"
            " belong to the object"
        )
    if loose.separate:
        notes.append(
            f"{_counted(loose.separate, 'separate part')} up to"
            f" {1e3 * unit_m * loose.separate_distance:.3g} mm from the largest one kept: remove"
            " what does not belong to the object"
        )
    return notes


def _counted(count: int, singular: str, plural: str = "") -> str:
    return f"{count} {singular if count == 1 else plural or singular + 's'}"


def _without_open_remnants(mesh: trimesh.Trimesh) -> tuple[trimesh.Trimesh, list[str]]:
    """The mesh without small open parts, which enclose nothing and would keep it from closing."""
    part = face_parts(mesh.vertices, mesh.faces)
    areas = np.bincount(part, weights=mesh.area_faces)
    small = areas < _SMALL_REMNANT * areas.max()
    if not small.any() or areas[small].sum() > 0.5 * areas.sum():
        return mesh, []
    dropped = np.zeros(len(areas), bool)
    for number in np.flatnonzero(small):
        try:
            close_seams(trimesh.Trimesh(mesh.vertices, mesh.faces[part == number], process=False))
        except MeshError:
            dropped[number] = True
    if not dropped.any():
        return mesh, []
    rest = trimesh.Trimesh(mesh.vertices, mesh.faces[~dropped[part]], process=False)
    count = int(dropped.sum())
    return rest, [f"{_counted(count, 'small open piece')} left out of the closed surface"]


def _diagonal(mesh: trimesh.Trimesh) -> float:
    return float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))


def _without_small_holes(mesh: trimesh.Trimesh) -> tuple[trimesh.Trimesh, int]:
    """The welded mesh with every small hole closed by a fan about its middle, and their number."""
    welded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    welded.merge_vertices()
    edges, uses = np.unique(welded.edges_sorted, axis=0, return_counts=True)
    border = edges[uses == 1]
    if len(border) == 0:
        return welded, 0
    count = len(welded.vertices)
    links = coo_array((np.ones(len(border)), border.T), shape=(count, count))
    ring = connected_components(links, directed=False)[1][border[:, 0]]
    part = np.zeros(count, int)
    part[welded.faces] = connected_parts(welded.faces)[:, None]
    corners_of_part = np.bincount(part)
    longest = _SMALL_HOLE * _diagonal(welded)
    middles, fans = [], []
    order = np.argsort(ring, kind="stable")
    for ends in np.split(border[order], np.flatnonzero(np.diff(ring[order])) + 1):
        corners, visits = np.unique(ends, return_counts=True)
        length = np.linalg.norm(np.diff(welded.vertices[ends], axis=1), axis=-1).sum()
        if (visits != 2).any() or length > longest:
            continue  # not a single ring, or too large to guess what belongs there
        if len(corners) == corners_of_part[part[corners[0]]]:
            continue  # the border of a lone triangle, which encloses nothing
        fans.append(np.insert(ends, 2, count + len(middles), axis=1))
        middles.append(welded.vertices[corners].mean(axis=0))
    if not middles:
        return welded, 0
    vertices = np.concatenate([welded.vertices, middles])
    filled = trimesh.Trimesh(vertices, np.concatenate([welded.faces, *fans]), process=False)
    trimesh.repair.fix_winding(filled)
    return filled, len(middles)
