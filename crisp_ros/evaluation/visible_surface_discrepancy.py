"""The visible surface discrepancy of estimates, from renders of their models."""

from __future__ import annotations

import math
from typing import Any

import trimesh

from crisp_ros.data.bop import BopFrame, BopInstance
from crisp_ros.evaluation.bop_metrics import VSD_TOLERANCES, vsd
from crisp_ros.evaluation.frame_estimates import Estimated
from crisp_ros.observation.frame import Camera


class VisibleSurfaces:
    """Renders models on demand; a copy in another process has its own renderers."""

    def __init__(self) -> None:
        self._renderers: dict[tuple[int, int, int], Any] = {}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return VisibleSurfaces, ()

    def vsd(
        self,
        frame: BopFrame,
        instance: BopInstance,
        mesh: trimesh.Trimesh,
        diameter_m: float,
        estimated: Estimated | None,
    ) -> tuple[float, ...]:
        """Compute the discrepancy of an instance; see `crisp_ros.evaluation.bop_metrics.vsd`.

        Returns:
            One value per tolerance; infinite where the instance was missed.

        Raises:
            crisp_ros.synthesis.renderer.RendererError: nothing can be drawn.
        """
        # Only this metric needs OpenGL, and only on request.
        from crisp_ros.synthesis.renderer import Placement, Renderer, Scene

        if estimated is None:
            return (math.inf,) * len(VSD_TOLERANCES)
        height, width = frame.depth.shape
        key = (instance.obj_id, width, height)
        if key not in self._renderers:
            bare = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
            self._renderers[key] = Renderer([bare], width, height)
        K = frame.intrinsics
        camera = Camera.from_matrix(K, width, height)
        estimate, truth = (
            self._renderers[key].render(Scene(camera, (Placement(0, T),))).depth
            for T in (estimated.T_camera_object, instance.T_camera_object)
        )
        return vsd(estimate, truth, frame.depth, K, diameter_m)
