"""A closed surface around a mesh that is open: loose walls, holes, faces turned inwards."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy import ndimage

from crisp_ros.data.meshes import MeshError
from crisp_ros.geometry.marching_cubes import triangulate

_BLOCK = 200_000  # points at once


def wrapped(mesh: trimesh.Trimesh, cells: int = 96) -> trimesh.Trimesh:
    """The outside of a mesh, as a closed surface one cell off it that is then drawn tight.

    Inside is what a flood from outside cannot reach through gaps of two cells, and what faces wind
    around by more than half, so that larger holes close as well where faces agree on their sides.
    Details of less than a cell are lost, and an open wall gets a thickness of about a cell.

    Args:
        mesh: metres.
        cells: along the longest edge of its box.

    Raises:
        MeshError: the mesh has no extent.
    """
    import igl  # compiled: only whoever makes distance fields needs it

    edge = float(mesh.extents.max()) / cells
    if not edge > 0.0:
        raise MeshError("the surface has no extent")
    lower = mesh.bounds[0] - 3.0 * edge
    counts = np.ceil(mesh.extents / edge).astype(int) + 7
    axes = [low + edge * np.arange(n) for low, n in zip(lower, counts, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float64)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
    squared = [
        igl.point_mesh_squared_distance(part, vertices, faces)[0]
        for part in np.array_split(grid, max(1, len(grid) // _BLOCK))
    ]
    distance = np.sqrt(np.concatenate(squared)).reshape(counts)
    free, _ = ndimage.label(distance > edge)
    turns = np.abs(igl.fast_winding_number(vertices, faces, grid)).reshape(counts)
    outside = (free == free[0, 0, 0]) & (turns < 0.5)
    # Zero lies one cell off the mesh; behind its walls everything is inside.
    values = np.where(outside | (distance <= edge), distance - edge, -edge)
    surface = trimesh.Trimesh(*triangulate(values), process=False)
    surface.apply_scale(edge)
    surface.apply_translation(lower)
    body = max(surface.split(only_watertight=True), key=lambda part: abs(part.volume))
    tight = trimesh.Trimesh(
        body.vertices - 0.8 * edge * body.vertex_normals, body.faces, process=False
    )
    return tight if tight.volume > 0.0 else body
