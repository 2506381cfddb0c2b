"""Mesh decimation, for viewers and planners."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.isosurface import TriangleMesh

_CAREFULNESS = 2.0  # the library's "aggressiveness"; its default of 7 moves thin walls by 4 mm


def decimated(mesh: TriangleMesh, max_faces: int) -> TriangleMesh:
    """Reduce a mesh to at most `max_faces` faces by quadric edge collapses; closed if `mesh` is.

    The budget is doubled as long as the collapses open the surface.

    Args:
        mesh: vertices in metres, outward winding.
        max_faces: at least 4.

    Raises:
        ValueError: for a budget below that of a tetrahedron.
        ImportError: where fast-simplification is not installed.
    """
    if max_faces < 4:
        raise ValueError(f"max_faces is {max_faces}, expected at least 4, a tetrahedron")
    if len(mesh.faces) <= max_faces:
        return mesh
    try:
        import fast_simplification
    except ImportError as error:
        raise ImportError(
            "decimating meshes needs fast-simplification: pip install fast-simplification"
        ) from error
    was_closed = is_closed(mesh.faces)
    while max_faces < len(mesh.faces):
        vertices, faces = fast_simplification.simplify(
            np.asarray(mesh.vertices, np.float32),
            np.asarray(mesh.faces, np.int32),
            target_count=max_faces,
            agg=_CAREFULNESS,
        )
        faces = np.asarray(faces, np.int32)
        if len(faces) <= max_faces and (is_closed(faces) or not was_closed):
            return TriangleMesh(np.asarray(vertices, np.float32), faces)
        max_faces *= 2
    return mesh


def is_closed(faces: NDArray[np.integer]) -> bool:
    """Whether faces (F, 3) use every edge exactly once in each direction, and there are faces."""
    start, end = faces.astype(np.int64).ravel(), np.roll(faces, -1, axis=1).astype(np.int64).ravel()
    if len(start) == 0:
        return False
    count = int(faces.max()) + 1
    forward, backward = np.sort(start * count + end), np.sort(end * count + start)
    return bool((forward == backward).all() and (np.diff(forward) > 0).all())
