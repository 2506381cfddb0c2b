"""Frames in 3D: what a window or a picture shows of a ball in front of a wall."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import open3d
import pytest
import trimesh

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.reports import scene_view
from crisp_ros.reports.scene_view import ViewedFrame, ViewError, scene_geometry, show

BALL = trimesh.creation.icosphere(3, 0.1)
MESH = TriangleMesh(BALL.vertices.astype(np.float32), BALL.faces.astype(np.int32))
EMPTY = TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))


def estimate(label: int, x: float, certified: bool) -> SimpleNamespace:
    T = np.eye(4)
    T[:3, 3] = x, 0.0, 0.8
    return SimpleNamespace(
        label=label, T_camera_object=T, certified=certified,
        lower=np.full(3, -0.1), upper=np.full(3, 0.1),
    )  # fmt: skip


def viewed(title: str = "frame 0", scale: int = 1) -> ViewedFrame:
    """A wall at 1 m, with a hole in the depth, and three objects of which one has no mesh."""
    height, width = 48 * scale, 64 * scale
    depth = np.full((height, width), 1.0, np.float32)
    depth[: 8 * scale] = np.nan
    rgb = np.full((height, width, 3), (250, 0, 0), np.uint8)
    camera = Camera(60.0 * scale, 60.0 * scale, width / 2, height / 2, width, height)
    frame = Frame(rgb, depth, np.zeros((height, width), np.int32), camera)
    objects = [estimate(1, -0.2, True), estimate(2, 0.2, False), estimate(3, 0.0, False)]
    return ViewedFrame(title, frame, objects, [MESH, MESH, EMPTY])


def test_scene_has_cloud_meshes_and_axes() -> None:
    scene = scene_geometry(viewed())
    assert set(scene) == {"cloud", "mesh 1", "axes 1", "mesh 2", "axes 2", "axes 3"}
    points = np.asarray(scene["cloud"].points)
    assert len(points) == 40 * 64 and (points[:, 2] == 1.0).all()
    assert np.asarray(scene["cloud"].colors)[0] == pytest.approx([250 / 255, 0, 0])
    np.testing.assert_allclose(scene["mesh 1"].get_center(), [-0.2, 0, 0.8], atol=1e-3)
    green, orange = (np.asarray(scene[f"mesh {i}"].vertex_colors)[0] for i in (1, 2))
    assert green[1] > green[0] and orange[0] > orange[1]


def test_an_object_can_be_shown_alone() -> None:
    assert set(scene_geometry(viewed(), chosen=1)) == {"cloud", "mesh 2", "axes 2"}


class Window:
    """A window whose keys a test presses."""

    pressed = ""
    drawn: list[int]

    def create_window(self, title: str, width: int, height: int) -> bool:
        self.drawn, self.actions, self.closed, self.count = [], {}, False, 0
        Window.last = self
        return True

    def clear_geometries(self) -> None:
        self.count = 0

    def add_geometry(self, geometry: object, reset_bounding_box: bool) -> None:
        self.count += 1

    def get_view_control(self) -> SimpleNamespace:
        return SimpleNamespace(set_front=lambda v: None, set_up=lambda v: None)

    def register_key_callback(self, key: int, action) -> None:
        self.actions[chr(key)] = action

    def run(self) -> None:
        self.drawn.append(self.count)
        for key in self.pressed:
            self.actions[key](self)
            self.drawn.append(self.count)

    def close(self) -> None:
        self.closed = True

    def destroy_window(self) -> None:
        pass


def test_keys_show_objects_and_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open3d.visualization, "VisualizerWithKeyCallback", Window)
    monkeypatch.setattr(Window, "pressed", "MMMMN ")
    frames = [viewed(), viewed("frame 1")._replace(objects=[], meshes=[])]
    show(iter(frames))
    # All, each object alone (the third has no mesh), all, the next frame without objects, the end.
    assert Window.last.drawn == [6, 3, 3, 2, 6, 1, 1] and Window.last.closed


def test_without_a_screen_pictures_are_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ViewError, match="--png DIR"):
        show(iter([viewed()]))


def test_pictures_show_the_meshes(tmp_path: Path) -> None:
    try:
        (path,) = scene_view.write_pictures(iter([viewed(scale=8)]), tmp_path / "out")
    except ViewError as error:
        pytest.skip(str(error))
    picture = cv2.imread(str(path)).astype(int)
    blue, green, red = picture[..., 0], picture[..., 1], picture[..., 2]
    assert picture.shape == (720, 960, 3)
    assert ((green > red + 30) & (green > blue + 30)).mean() > 0.01  # the certified ball
    assert ((red > 200) & (green < 60)).mean() > 0.05  # the wall


def test_no_driver_for_pictures_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 134, "", "EGL: no device\n")
    monkeypatch.setattr(scene_view.subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(ViewError, match="EGL: no device.*libegl1"):
        list(scene_view.write_pictures(iter([viewed()]), tmp_path))
