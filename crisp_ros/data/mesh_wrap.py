"""A closed surface around a mesh that is open: loose walls, holes, faces that point inwards."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from crisp_ros.data.files import MeshError
from crisp_ros.data.mesh_parts import connected_parts
from crisp_ros.data.meshes import signed_distance, surface_samples
from crisp_ros.geometry.marching_cubes import triangulate

_BLOCK = 200_000  # points at once
_MIN_BODY = 1e-3  # share of the largest body's volume that another one needs to be kept
_MAX_OFF = 3.0  # cells that the mesh may be outside of the result, and their boxes may differ
_COVERED = 0.99  # share of the mesh's surface that must not be farther outside
_SAMPLES = 4000  # of that surface


def wrap_surface(mesh: trimesh.Trimesh, cells: int = 96) -> trimesh.Trimesh:
    """The outside of a mesh, as a closed surface one cell off it that is then drawn tight.

    Inside is what a flood from outside cannot reach through gaps of two cells, and what of the
    convex hull faces wind around by more than half, so that larger holes close as well where faces
    agree on their sides. Details of less than a cell are lost, and an open wall gets a thickness of
    about a cell.

    Args:
        mesh: metres.
        cells: along the longest edge of its box.

    Raises:
        MeshError: the mesh has no extent, or no surface of its size can be drawn around it.
    """
    edge = float(mesh.extents.max()) / cells
    if not edge > 0.0:
        raise MeshError("the surface has no extent")
    mesh = _consistently_wound(mesh)
    lower = mesh.bounds[0] - 3.0 * edge
    counts = np.ceil(mesh.extents / edge).astype(int) + 7
    distance, winding, in_hull = _fields(mesh, lower, counts, edge)
    free, _ = ndimage.label(distance > edge)
    outside = (free == free[0, 0, 0]) & ~((winding >= 0.5) & in_hull)
    # Zero is one cell off the mesh; behind its walls everything is inside.
    values = np.where(outside | (distance <= edge), distance - edge, -edge)
    vertices, faces = triangulate(values)
    body = trimesh.Trimesh(*_bodies(vertices, faces), process=False)
    body.remove_unreferenced_vertices()
    body.apply_scale(edge)
    body.apply_translation(lower)
    tight = trimesh.Trimesh(
        body.vertices - 0.8 * edge * body.vertex_normals, body.faces, process=False
    )
    result = tight if tight.volume > 0.0 else body
    if max(np.abs(result.bounds - mesh.bounds).max(), _left_out(mesh, result)) > _MAX_OFF * edge:
        raise MeshError(
            "the surface is open, and none of its size can be wrapped around it: close its holes,"
            " or give its walls a thickness"
        )
    return result


def _consistently_wound(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """The welded mesh, each connected part of which has faces that agree on their sides."""
    welded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    welded.merge_vertices()
    if not welded.is_winding_consistent:
        trimesh.repair.fix_winding(welded)
    return welded


def _left_out(mesh: trimesh.Trimesh, result: trimesh.Trimesh) -> float:
    """Distance of a mesh outside of its closed surface, but for a hundredth of it, metres."""
    points = surface_samples(mesh, _SAMPLES, np.random.default_rng(0)).points
    return float(np.quantile(signed_distance(result, points), _COVERED))


def _fields(
    mesh: trimesh.Trimesh, lower: NDArray[np.float64], counts: NDArray[np.int64], edge: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """On the grid: distance to the mesh, how often it winds around, whether inside its hull."""
    import igl  # compiled: only making distance fields needs it

    axes = [low + edge * np.arange(n) for low, n in zip(lower, counts, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float64)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
    squared = [
        igl.point_mesh_squared_distance(part, vertices, faces)[0]
        for part in np.array_split(grid, max(1, len(grid) // _BLOCK))
    ]
    distance = np.sqrt(np.concatenate(squared)).reshape(counts)
    winding = np.abs(igl.fast_winding_number(vertices, faces, grid)).reshape(counts)
    try:
        hull = trimesh.Trimesh(vertices, ConvexHull(vertices).simplices, process=False)
    except QhullError:  # flat: nothing can be inside
        return distance, winding, np.zeros(counts, bool)
    hull.fix_normals()
    hull_faces = np.ascontiguousarray(hull.faces, dtype=np.int64)
    in_hull = igl.fast_winding_number(vertices, hull_faces, grid).reshape(counts) > 0.5
    return distance, winding, in_hull


def _bodies(
    vertices: NDArray[np.float64], faces: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """The surface without specks, which are bodies of hardly any volume, and without hollows."""
    part = connected_parts(faces.astype(np.int64))
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    volume = np.bincount(part, np.einsum("fi,fi->f", a, np.cross(b, c)) / 6.0)
    return vertices, faces[(volume > _MIN_BODY * volume.max())[part]]
