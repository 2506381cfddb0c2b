"""Detection of a working renderer."""

from __future__ import annotations

import pytest
import trimesh

from crisp_ros.synthesis.renderer import Renderer, RendererError


def needs_egl() -> None:
    """Skip the test if the renderer finds no EGL."""
    try:
        Renderer([trimesh.creation.box((0.1, 0.1, 0.1))], 8, 8).release()
    except RendererError as error:
        pytest.skip(str(error))
