"""Path-traced images have the geometry of the fast renderer's, and the light of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.observation.frame import Camera
from crisp_ros.synthesis.cycles import CyclesRenderer, CyclesSettings
from crisp_ros.synthesis.rendered_recording import RecordingSettings, table_recording
from crisp_ros.synthesis.renderer import Light, Placement, Renderer, RendererError, Scene

CAMERA = Camera(250.0, 270.0, 71.3, 66.2, 160, 120)  # no two numbers of it agree
MESHES = [
    trimesh.creation.box((0.10, 0.06, 0.14)),
    trimesh.creation.cylinder(radius=0.04, height=0.11, sections=48),
    trimesh.creation.icosphere(3, radius=0.04),
]
FEW = CyclesSettings(samples=8)


def pose(degrees: tuple[float, float, float], place: tuple[float, float, float]) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    T[:3, 3] = place
    return T


SCENE = Scene(
    CAMERA,
    (
        Placement(0, pose((20, 40, 5), (-0.08, 0.02, 0.6))),
        Placement(1, pose((80, 10, 40), (0.03, -0.04, 0.7))),
        Placement(2, pose((0, 0, 0), (0.1, 0.05, 0.55))),
    ),
)


@pytest.fixture
def cycles() -> Iterator[CyclesRenderer]:
    pytest.importorskip("bpy")
    renderer = CyclesRenderer(MESHES, 160, 120, FEW)
    yield renderer
    renderer.release()


@pytest.mark.parametrize("fy", [230.0, 270.0])
def test_the_geometry_is_that_of_the_fast_renderer(cycles: CyclesRenderer, fy: float) -> None:
    scene = replace(SCENE, camera=replace(CAMERA, fy=fy))
    fast = Renderer(MESHES, 160, 120)
    expected, traced = fast.render(scene), cycles.render(scene)
    fast.release()
    for label in (1, 2, 3):
        mine, theirs = traced.instances == label, expected.instances == label
        assert (mine & theirs).sum() / (mine | theirs).sum() > 0.97
        both = mine & theirs
        assert np.median(np.abs(traced.depth - expected.depth)[both]) < 1e-4
        assert np.abs(traced.pnc - expected.pnc)[both].max() < 1e-3
    assert not traced.depth[traced.instances == 0].any()


def test_light_comes_from_where_it_is_said_and_casts_a_shadow(cycles: CyclesRenderer) -> None:
    ball = Placement(2, pose((0, 0, 0), (0.0, 0.0, 0.6)), specular=0.0)
    camera = Camera(400.0, 400.0, 79.5, 59.5, 160, 120)
    from_the_left = Light((-1.0, 0.0, -0.2), (0.8, 0.4, 0.2))
    lit = cycles.view(Scene(camera, (ball,), (0.0, 0.0, 0.0), (from_the_left,))).light
    assert lit[59, 60, 0] > 0.05 and lit[59, 100].max() < 0.005
    assert lit[59, 60] / lit[59, 60, 0] == pytest.approx([1.0, 0.5, 0.25], abs=0.02)
    box = Placement(0, pose((0, 0, 0), (-0.15, 0.0, 0.57)))
    shaded = cycles.view(Scene(camera, (ball, box), (0.0, 0.0, 0.0), (from_the_left,))).light
    assert shaded[59, 60].max() < 0.3 * lit[59, 60].max()


def test_a_white_surface_in_even_light_is_white(cycles: CyclesRenderer) -> None:
    tinted = Placement(2, pose((0, 0, 0), (0.0, 0.0, 0.5)), specular=0.0, tint=(1.0, 0.5, 0.25))
    view = cycles.view(Scene(CAMERA, (tinted,), (0.8, 0.8, 0.8), ()))
    middle = view.light[view.instances == 1].mean(axis=0)
    paint = (MESHES[2].visual.vertex_colors[0, 0] / 255.0) ** 2.2
    assert middle / middle[0] == pytest.approx([1.0, 0.5, 0.25], abs=0.05)
    assert middle[0] == pytest.approx(0.8 * paint, rel=0.1)


def test_one_renderer_at_a_time(cycles: CyclesRenderer) -> None:
    with pytest.raises(RendererError, match="release the other"):
        CyclesRenderer(MESHES, 160, 120)
    with pytest.raises(ValueError, match="camera is 80x120"):
        cycles.render(replace(SCENE, camera=replace(CAMERA, width=80)))


def test_without_blender_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bpy", None)
    with pytest.raises(RendererError, match=r"crisp_ros\[cycles\]"):
        CyclesRenderer(MESHES, 160, 120)


@pytest.mark.slow
def test_a_traced_recording_shows_the_same_scene(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("bpy")
    models = dict(zip(("box", "can", "ball"), MESHES, strict=True))
    settings = RecordingSettings(frames=1, width=160, height=120, focal_px=230.0, cycles=FEW)
    (drawn,) = table_recording(models, settings, 0)
    (traced,) = table_recording(models, replace(settings, renderer="cycles"), 0)
    assert capfd.readouterr().out == ""  # Blender's own talk
    for mine, theirs in zip(traced.truth, drawn.truth, strict=True):
        assert mine.name == theirs.name and np.allclose(
            mine.T_camera_object, theirs.T_camera_object
        )
        assert share_common(traced, drawn, mine.label) > 0.97
    seen = (traced.depth > 0) & (drawn.depth > 0)
    difference = np.abs(traced.depth.astype(float) - drawn.depth)[seen]
    assert np.median(difference) < 1.0 and np.mean(difference < 20.0) > 0.97  # mm, of the room too
    ratio = traced.rgb.mean() / drawn.rgb.mean()
    assert 0.6 < ratio < 1.6 and np.abs(traced.rgb.astype(float) - drawn.rgb).mean() > 3.0


def share_common(a: RecordedFrame, b: RecordedFrame, label: int) -> float:
    mine, theirs = a.labels == label, b.labels == label
    return (mine & theirs).sum() / (mine | theirs).sum()
