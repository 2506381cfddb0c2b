"""Visible shares of the objects of a scene."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.observation.frame import Camera

from .renderer import Placement, Renderer, Scene


class VisibleShares:
    """Count pixels of objects, together and alone, with the fast renderer.

    Args:
        meshes: the objects, metres.
        camera: small images will do.
    """

    def __init__(self, meshes: Sequence[trimesh.Trimesh], camera: Camera) -> None:
        self._camera = camera
        self._renderer = Renderer(meshes, camera.width, camera.height)

    def release(self) -> None:
        """Free the renderer."""
        self._renderer.release()

    def of(self, poses: Sequence[NDArray[np.float64]]) -> list[float]:
        """Visible pixels of each object over those it would have with nothing before it.

        Args:
            poses: T_camera_object (4, 4) of the objects, in their order.
        """
        together = tuple(Placement(i, T) for i, T in enumerate(poses))
        seen = np.bincount(
            self._renderer.render(Scene(self._camera, together)).instances.ravel(),
            minlength=len(poses) + 1,
        )
        whole = [
            np.count_nonzero(self._renderer.render(Scene(self._camera, (placement,))).instances)
            for placement in together
        ]
        return [float(seen[i + 1] / max(size, 1)) for i, size in enumerate(whole)]
