"""The renderers to choose from, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import trimesh

from .cycles import CyclesRenderer
from .renderer import Renderer, Rendering, Scene

RendererName = Literal["fast", "cycles"]
RENDERERS: tuple[str, ...] = get_args(RendererName)


class SceneRenderer(Protocol):
    """Interface of a renderer for a fixed set of meshes."""

    width: int
    height: int

    def render(self, scene: Scene) -> Rendering:
        """Draw a scene, whose camera has the renderer's size."""

    def release(self) -> None:
        """Free what drawing needed."""


def open_renderer(
    name: RendererName, meshes: Sequence[trimesh.Trimesh], width: int, height: int
) -> SceneRenderer:
    """A renderer of images of a size, pixels.

    Raises:
        crisp_ros.synthesis.renderer.RendererError: it cannot draw here.
    """
    return {"fast": Renderer, "cycles": CyclesRenderer}[name](meshes, width, height)
