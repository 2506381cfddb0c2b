"""A renderer for tests, if EGL is available."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import trimesh

from crisp_ros.synthesis.renderer import Renderer

MakeRenderer = Callable[[Sequence[trimesh.Trimesh], int, int], Renderer]


@pytest.fixture(scope="session", autouse=True)
def _needs_egl() -> None:
    try:
        Renderer([trimesh.creation.box((0.1, 0.1, 0.1))], 8, 8).release()
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.fixture
def make_renderer() -> Iterator[MakeRenderer]:
    """Make renderers and release them after the test."""
    made: list[Renderer] = []

    def make(meshes: Sequence[trimesh.Trimesh], width: int, height: int) -> Renderer:
        made.append(Renderer(meshes, width, height))
        return made[-1]

    yield make
    for renderer in made:
        renderer.release()
