"""Frames with their reconstructed objects in an Open3D window, or as pictures without a screen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.object_points import back_projected, valid_depth
from crisp_ros.pipeline import ObjectEstimate

if TYPE_CHECKING:
    from open3d.geometry import Geometry3D

_CERTIFIED = (0.25, 0.75, 0.35)
_UNCERTIFIED = (0.95, 0.55, 0.15)
_FARTHEST_M = 3.0  # of the points shown
_PICTURE = (960, 720)  # px
_SIDE = np.radians(25.0)  # the picture is taken from this far to the side of the camera ...
_ABOVE = np.radians(20.0)  # ... and above it
_FIELD_DEG = 45.0  # of the picture
_LIGHT_LUX = 60_000.0
_KEYS = "N or space: next frame; M: next object alone; Q: close"
# Renders a pixel: where there is no driver, OpenGL ends the process instead of raising.
_TRIAL = (
    "from open3d.visualization.rendering import OffscreenRenderer as R; R(8, 8).render_to_image()"
)


class ViewError(Exception):
    """The frames cannot be shown; the text gives the cause and the remedy."""


class ViewedFrame(NamedTuple):
    """A frame and its estimates.

    Attributes:
        title: of the window.
        frame: in whose camera the estimates are.
        objects: the estimates.
        meshes: of each, object frame, metres; empty where there is none.
    """

    title: str
    frame: Frame
    objects: Sequence[ObjectEstimate]
    meshes: Sequence[TriangleMesh]


def scene_geometry(viewed: ViewedFrame, chosen: int | None = None) -> dict[str, Geometry3D]:
    """Create the cloud, and mesh and axes of each object, by name, in the camera frame.

    Green meshes are certified, orange ones are not. The axes are half as long as the object.

    Args:
        viewed: the frame.
        chosen: index of the only object to show; None for all.
    """
    import open3d

    v, u = np.nonzero(valid_depth(viewed.frame) & (viewed.frame.depth < _FARTHEST_M))
    points = back_projected(viewed.frame, v, u)
    cloud = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.astype(np.float64)))
    cloud.colors = open3d.utility.Vector3dVector(viewed.frame.rgb[v, u] / 255.0)
    found: dict[str, Geometry3D] = {"cloud": cloud}
    for index, (estimate, surface) in enumerate(zip(viewed.objects, viewed.meshes, strict=True)):
        if chosen not in (None, index):
            continue
        length = 0.5 * float(np.max(estimate.upper - estimate.lower))
        axes = open3d.geometry.TriangleMesh.create_coordinate_frame(length)
        found[f"axes {estimate.label}"] = axes.transform(estimate.T_camera_object)
        if surface.is_empty:
            continue
        mesh = open3d.geometry.TriangleMesh(
            open3d.utility.Vector3dVector(surface.vertices.astype(np.float64)),
            open3d.utility.Vector3iVector(surface.faces),
        )
        mesh.paint_uniform_color(_CERTIFIED if estimate.certified else _UNCERTIFIED)
        mesh.compute_vertex_normals()
        found[f"mesh {estimate.label}"] = mesh.transform(estimate.T_camera_object)
    return found


def show(frames: Iterator[ViewedFrame]) -> None:
    """Show frames in a window until it is closed or the last one is passed.

    Raises:
        ViewError: there is no screen.
    """
    viewed = next(frames, None)
    if viewed is None:
        return
    import open3d

    window = open3d.visualization.VisualizerWithKeyCallback()
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        opened = window.create_window(f"{viewed.title} ({_KEYS})", *_PICTURE)
    if not opened:
        raise ViewError("no window can be opened: is there a screen? Use --png DIR for pictures")
    state: dict[str, Any] = {"viewed": viewed, "chosen": None}

    def draw(reset: bool) -> bool:
        window.clear_geometries()
        for geometry in scene_geometry(state["viewed"], state["chosen"]).values():
            window.add_geometry(geometry, reset_bounding_box=reset)
        if reset:  # as the camera sees it, which looks along z with y down
            control = window.get_view_control()
            control.set_front((0.0, 0.0, -1.0))
            control.set_up((0.0, -1.0, 0.0))
        return True

    def next_frame(_: Any) -> bool:
        state.update(viewed=next(frames, None), chosen=None)
        if state["viewed"] is None:
            window.close()
            return False
        return draw(reset=False)

    def next_object(_: Any) -> bool:
        last = len(state["viewed"].objects) - 1
        chosen = state["chosen"]
        state["chosen"] = 0 if chosen is None else chosen + 1 if chosen < last else None
        return draw(reset=False)

    draw(reset=True)
    for key, action in (("N", next_frame), (" ", next_frame), ("M", next_object)):
        window.register_key_callback(ord(key), action)
    window.run()
    window.destroy_window()


def write_pictures(frames: Iterator[ViewedFrame], folder: Path) -> Iterator[Path]:
    """Render each frame, seen from the side of the camera, to a PNG, without a screen.

    Raises:
        ViewError: Open3D cannot render here.
    """
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("EGL_PLATFORM", "surfaceless")
    trial = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, text=True)
    if trial.returncode:
        said = [line for line in (trial.stdout + trial.stderr).splitlines() if line.strip()]
        raise ViewError(
            f"Open3D cannot render without a screen here ({said[-1] if said else 'no message'}): "
            "install libegl1 and libgl1-mesa-dri, for Open3D 0.20 libvulkan1 and "
            "mesa-vulkan-drivers"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for index, viewed in enumerate(frames):
        path = folder / f"{index:04d}.png"
        _render(viewed, path)
        yield path


def _render(viewed: ViewedFrame, path: Path) -> None:
    import open3d
    from open3d.visualization import rendering

    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        renderer = rendering.OffscreenRenderer(*_PICTURE)
    renderer.scene.set_background((1.0, 1.0, 1.0, 1.0))
    geometry = scene_geometry(viewed)
    for name, shape in geometry.items():
        material = rendering.MaterialRecord()
        material.shader = "defaultUnlit" if name == "cloud" else "defaultLit"
        material.point_size = 3.0
        renderer.scene.add_geometry(name, shape, material)
    centre = np.median(np.asarray(geometry["cloud"].points), axis=0)
    if viewed.objects:
        centre = np.mean([o.T_camera_object[:3, 3] for o in viewed.objects], axis=0)
    distance = np.linalg.norm(centre)
    side, above = np.sin(_SIDE) * np.cos(_ABOVE), -np.sin(_ABOVE)
    eye = centre + distance * np.array([side, above, -np.cos(_SIDE) * np.cos(_ABOVE)])
    renderer.scene.scene.set_sun_light(centre - eye, (1.0, 1.0, 1.0), _LIGHT_LUX)
    renderer.scene.scene.enable_sun_light(True)
    renderer.setup_camera(_FIELD_DEG, centre, eye, np.array([0.0, -1.0, 0.0]))
    open3d.io.write_image(str(path), renderer.render_to_image())
