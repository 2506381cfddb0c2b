"""The colours of training meshes, as a shape library keeps them."""

from __future__ import annotations

import numpy as np
import torch
import trimesh

from crisp_ros.data.mesh_colours import coloured_samples, has_colours
from crisp_ros.network.library import SurfaceColors

_POINTS = 4096


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
    points, colours = coloured_samples(mesh, _POINTS, seed)
    rgb = np.rint(255.0 * colours).astype(np.uint8)
    return SurfaceColors(torch.from_numpy(points).float(), torch.from_numpy(rgb))
