"""Mesh decimation, for viewers and planners."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.isosurface import TriangleMesh

_CAREFULNESS = 2.0  # the library's "aggressiveness"; its default of 7 moves thin walls by 4 mm


def decimated(mesh: TriangleMesh, max_faces: int) -> TriangleMesh:
    """Reduce a mesh to at most `max_faces` faces by quadric edge collapses; closed if `mesh` is.

    fast-simplification goes first, because it is ten times as fast. Open3D follows: where the
    result is too large, with collapses that keep the volume; where a thin wall was opened, with
    collapses that never open one. The budget is doubled only if all of them fail.

    Args:
        mesh: vertices in metres, outward winding.
        max_faces: at least 4.

    Raises:
        ValueError: for a budget below that of a tetrahedron.
        ImportError: where fast-simplification or Open3D is not installed.
    """
    if max_faces < 4:
        raise ValueError(f"max_faces is {max_faces}, expected at least 4, a tetrahedron")
    was_closed = len(mesh.faces) > max_faces and is_closed(mesh.faces)

    def is_good(found: TriangleMesh, budget: int) -> bool:
        is_whole = is_closed(found.faces) if was_closed else len(found.faces) > 0
        return is_whole and len(found.faces) <= budget

    while max_faces < len(mesh.faces):
        found = _fast_collapses(mesh, max_faces)
        if len(found.faces) > max_faces:
            found = _volume_keeping_collapses(mesh, max_faces)
        if not is_good(found, max_faces):
            found = _manifold_collapses(mesh, max_faces)
        if is_good(found, max_faces):
            return found
        max_faces *= 2
    return mesh


def _fast_collapses(mesh: TriangleMesh, max_faces: int) -> TriangleMesh:
    try:
        import fast_simplification
    except ImportError as error:
        raise ImportError(
            "decimating meshes needs fast-simplification: pip install fast-simplification"
        ) from error
    vertices, faces = fast_simplification.simplify(
        np.asarray(mesh.vertices, np.float32),
        np.asarray(mesh.faces, np.int32),
        target_count=max_faces,
        agg=_CAREFULNESS,
    )
    return TriangleMesh(np.asarray(vertices, np.float32), np.asarray(faces, np.int32))


def _volume_keeping_collapses(mesh: TriangleMesh, max_faces: int) -> TriangleMesh:
    import open3d  # 1.4 s: only where it is needed

    full = open3d.t.geometry.TriangleMesh(
        np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)
    )
    reduction = 1.0 - max_faces / len(mesh.faces)
    small = full.simplify_quadric_decimation(reduction, preserve_volume=True)
    faces = small.triangle.indices.numpy().astype(np.int32)
    return TriangleMesh(small.vertex.positions.numpy().astype(np.float32), faces)


def _manifold_collapses(mesh: TriangleMesh, max_faces: int) -> TriangleMesh:
    import open3d

    full = open3d.geometry.TriangleMesh(
        open3d.utility.Vector3dVector(np.asarray(mesh.vertices, np.float64)),
        open3d.utility.Vector3iVector(np.asarray(mesh.faces, np.int32)),
    )
    small = full.simplify_quadric_decimation(max_faces)
    vertices = np.asarray(small.vertices, np.float32)
    return TriangleMesh(vertices, np.asarray(small.triangles, np.int32))


def is_closed(faces: NDArray[np.integer]) -> bool:
    """Whether faces (F, 3) use every edge exactly once in each direction, and there are faces."""
    start, end = faces.astype(np.int64).ravel(), np.roll(faces, -1, axis=1).astype(np.int64).ravel()
    if len(start) == 0:
        return False
    count = int(faces.max()) + 1
    forward, backward = np.sort(start * count + end), np.sort(end * count + start)
    return bool((forward == backward).all() and (np.diff(forward) > 0).all())
