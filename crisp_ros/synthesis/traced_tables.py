"""Path-traced images of objects on a table in a room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.observation.frame import Camera

from .cycles import CyclesRenderer, CyclesSettings
from .lighting import WIDTHS_RAD, IndoorLight
from .renderer import Light, Placement, Scene
from .room import Room


class TracedPainter:
    """Draw the frames of a recording with Cycles: soft shadows, light from surface to surface.

    Args:
        meshes: the objects.
        light: window and lamp become soft distant lights, the walls' light comes from all around.
        gloss: (K,) of the objects.
        settings: see `CyclesSettings`.
    """

    def __init__(
        self,
        meshes: Sequence[trimesh.Trimesh],
        light: IndoorLight,
        room: Room,
        gloss: NDArray[np.float64],
        camera: Camera,
        settings: CyclesSettings,
    ) -> None:
        self._camera, self._light, self._gloss = camera, light, gloss
        self._renderer = CyclesRenderer(meshes, camera.width, camera.height, settings, room.quads())

    def release(self) -> None:
        """Free the renderer."""
        self._renderer.release()

    def frame(
        self, T_camera_world: NDArray[np.float64], poses: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
        """Linear light (H, W, 3), depth (H, W) in metres and instances (H, W)."""
        placements = tuple(
            Placement(i, T, specular=0.1 + 1.5 * float(gloss), shininess=8.0 / float(gloss))
            for i, (T, gloss) in enumerate(zip(poses, self._gloss, strict=True))
        )
        lamps = self._light.brightest
        lights = tuple(
            Light(tuple(T_camera_world[:3, :3] @ direction), tuple(irradiance), width)
            for direction, irradiance, width in zip(*lamps, WIDTHS_RAD, strict=True)
        )
        ambient = self._light.all.above() - lamps.above()
        scene = Scene(self._camera, placements, tuple(ambient.tolist()), lights)
        view = self._renderer.view(scene, T_camera_world)
        return view.light, view.depth, view.instances
