"""The colours of training meshes, as a shape library keeps them."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree

from crisp_ros.data.mesh_colours import coloured_samples, has_colours
from crisp_ros.network.library import SurfaceColors

_POINTS = 4096
_SAMPLES_PER_POINT = 16


def mesh_surface_colors(mesh: trimesh.Trimesh, seed: int = 0) -> SurfaceColors | None:
    """Sample the colours of a mesh, evenly over its surface.

    Args:
        mesh: in the object frame, metres.
        seed: of the samples.

    Returns:
        The colours, None where the mesh has none.
    """
    if not has_colours(mesh):
        return None
    points, colours = coloured_samples(mesh, _POINTS * _SAMPLES_PER_POINT, seed)
    kept = points[:_POINTS]
    # The mean of the samples around each point: a print is finer than the points are apart.
    _, nearest = cKDTree(kept).query(points)
    counts = np.bincount(nearest, minlength=_POINTS)[:, None]
    sums = np.stack([np.bincount(nearest, c, _POINTS) for c in colours.T], axis=-1)
    rgb = np.rint(255.0 * sums / counts).astype(np.uint8)
    return SurfaceColors(torch.from_numpy(kept).float(), torch.from_numpy(rgb))
