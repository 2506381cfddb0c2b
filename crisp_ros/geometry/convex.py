"""Convex hull and convex decomposition of meshes, for the collision checks of planners."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import trimesh

from crisp_ros.geometry.isosurface import TriangleMesh

_CONCAVITY = 0.08  # of CoACD: largest distance of a part from its hull, relative to the object
_INPUT_FACES = 500  # it samples the surface anyway
_PARTS = 16


def convex_hull(mesh: TriangleMesh) -> TriangleMesh:
    """Compute the convex hull, closed and outward; empty where the mesh is empty or flat."""
    if mesh.is_empty:
        return mesh
    try:
        hull = trimesh.convex.convex_hull(mesh.vertices)
    except Exception:  # Qhull's own error, of points in one plane
        return TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    return TriangleMesh(hull.vertices.astype(np.float32), hull.faces.astype(np.int32))


def can_decompose() -> bool:
    """Whether CoACD is installed."""
    return find_spec("coacd") is not None


def convex_parts(mesh: TriangleMesh) -> Sequence[TriangleMesh]:
    """Decompose a mesh approximately into at most 16 closed, convex parts, by CoACD.

    Takes seconds: it searches for the best cuts.

    Args:
        mesh: closed, outward, metres.

    Raises:
        ImportError: CoACD is not installed.
    """
    try:
        import coacd
    except ImportError as error:
        raise ImportError("convex decomposition needs CoACD: pip install coacd") from error
    from crisp_ros.geometry.decimation import decimated

    small = decimated(mesh, _INPUT_FACES)
    if small.is_empty:
        return []
    coacd.set_log_level("error")
    found = coacd.run_coacd(
        coacd.Mesh(small.vertices.astype(np.float64), small.faces),
        threshold=_CONCAVITY,
        max_convex_hull=_PARTS,
        preprocess_mode="off",  # closed already
        mcts_iterations=60,
        mcts_nodes=10,
        mcts_max_depth=2,
        resolution=1000,
    )
    # Hulls are computed again: those of CoACD may have slivers or inward winding.
    parts = (convex_hull(TriangleMesh(np.asarray(v, np.float32), np.asarray(f))) for v, f in found)
    return [part for part in parts if not part.is_empty]
