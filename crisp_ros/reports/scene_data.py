"""Data of a report's frames and 3D view, as JSON values (see page.js)."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crisp_ros.evaluation.recording_score import FrameScore, RecordingScore
from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.reports.scene_points import Cloud, ScenePoints
from crisp_ros.reports.svg_charts import PALETTE

_CLOUD_UNIT_M = 2e-4  # 16 bits reach 6.5 m
_TRUTH_UNIT_M = 2e-5
_TRUTH_POINTS = 700
_MOST_FRAMES = 150
# Initial view, radians: to the side of the first camera, so that it is visible; and above the
# ground, or slightly above the camera's axis if the ground is unknown.
_ASIDE, _ABOVE_GROUND, _ABOVE_AXIS = 0.6, 0.6, 0.15
# An optical camera frame with its y axis down, stood upright.
_UPRIGHT = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1.0]])


@dataclass(frozen=True, eq=False)
class Surface:
    """A reconstructed shape.

    Attributes:
        vertices: (V, 3) metres, object frame.
        faces: (F, 3).
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SceneFrame:
    """Content of a frame in addition to its scores.

    Attributes:
        index: of the frame among the scores.
        overlay: JPEG of the image with the estimates drawn into it, empty where there is none.
        T_world_camera: (4, 4), None where the camera pose is not known.
        truth: name and T_camera_object of the true objects.
    """

    index: int
    overlay: bytes = b""
    T_world_camera: NDArray[np.float64] | None = None
    truth: Sequence[tuple[str, NDArray[np.float64]]] = ()


Surfaces = Mapping[tuple[str, int], Surface]  # by object id and mesh version


def shown_frames(count: int) -> list[int]:
    """Return the frames that a page shows: all, or some of a long recording."""
    return np.linspace(0, count - 1, min(_MOST_FRAMES, count)).round().astype(int).tolist()


def scene_data(
    score: RecordingScore,
    frames: Sequence[SceneFrame],
    surfaces: Surfaces,
    shapes: Mapping[str, TrueShape],
    points: ScenePoints,
) -> dict[str, Any]:
    """Collect the frames with their objects, and the meshes and points that they refer to.

    Args:
        score: with one entry per frame.
        frames: those to show, at least one.
        surfaces: reconstructed ones.
        shapes: true ones by name, as far as known.
        points: of these frames.
    """
    shown = [score.frames[frame.index] for frame in frames]
    keys = [
        key
        for key in dict.fromkeys((o.id, o.mesh_version) for f in shown for o in f.objects)
        if key in surfaces
    ]
    names = score.names
    colours = {o.id: _rgb(names.index(o.name)) for f in shown for o in f.objects}
    truths = [name for name in names if name in shapes]
    listed = [
        _frame(scored, frame, cloud, keys, truths, points.in_world)
        for scored, frame, cloud in zip(shown, frames, points.cloud_of_frame, strict=True)
    ]
    return {
        "frames": listed,
        "scene": {
            "meshes": [_mesh(surfaces[key], colours[key[0]]) for key in keys],
            "truths": [_points(_few(shapes[name].points)) for name in truths],
            "clouds": [_cloud(cloud, points.in_world) for cloud in points.clouds],
            "truth_unit": _TRUTH_UNIT_M,
            "cloud_unit": _CLOUD_UNIT_M,
            **_initial_view(listed, points.in_world),
            "in_world": points.in_world,
            "field": list(points.field),
        },
    }


def _frame(
    scored: FrameScore,
    frame: SceneFrame,
    cloud: int | None,
    keys: Sequence[tuple[str, int]],
    truths: Sequence[str],
    in_world: bool,
) -> dict[str, Any]:
    """One frame; without a camera pose its objects are left out, as their places are unknown."""
    entry: dict[str, Any] = {
        "index": frame.index,
        "image": _base64(frame.overlay),
        "shown": [],
        "truth": [],
        "camera": None,
        "cloud": cloud,
    }
    T_world_camera = frame.T_world_camera if in_world else _UPRIGHT
    if T_world_camera is None:
        return entry
    return entry | {
        "camera": _matrix(T_world_camera),
        "shown": [
            [keys.index(key), _matrix(T_world_camera @ o.T_camera_object), o.certified]
            for o in scored.objects
            if o.T_camera_object is not None and (key := (o.id, o.mesh_version)) in keys
        ],
        "truth": [
            [truths.index(name), _matrix(T_world_camera @ T)]
            for name, T in frame.truth
            if name in truths
        ],
    }


def _initial_view(frames: Sequence[Mapping[str, Any]], in_world: bool) -> dict[str, Any]:
    """The point that the view is centred on, and the direction and distance of the viewer."""
    places = [place[12:15] for frame in frames for _, place, _ in frame["shown"]]
    target = np.median(places, axis=0) if places else np.zeros(3)
    toward = np.array(frames[0]["camera"][12:15]) - target
    return {
        "target": [round(float(v), 4) for v in target],
        "turn": round(math.atan2(toward[1], toward[0]) + _ASIDE, 3),
        "tilt": _ABOVE_GROUND if in_world else _ABOVE_AXIS,
        "distance": round(float(np.clip(0.9 * np.linalg.norm(toward), 0.3, 3.0)), 3),
    }


def _mesh(surface: Surface, colour: tuple[float, ...]) -> dict[str, Any]:
    unit = float(np.abs(surface.vertices).max(initial=1e-6)) / 32767.0
    return {
        "vertices": _shorts(surface.vertices, unit),
        "faces": _base64(np.ascontiguousarray(surface.faces, "<u4").tobytes()),
        "unit": unit,
        "colour": colour,
    }


def _cloud(cloud: Cloud, in_world: bool) -> dict[str, Any]:
    points = cloud.points if in_world else cloud.points @ _UPRIGHT[:3, :3].T
    near = (np.abs(points) < 32767 * _CLOUD_UNIT_M).all(axis=1)
    # The objects' points come last, so that they can be left out.
    order = np.argsort(cloud.on_object, kind="stable")
    order = order[near[order]]
    colours = np.ascontiguousarray(cloud.colours[order], np.uint8)
    return {
        "points": _shorts(points[order], _CLOUD_UNIT_M),
        "colours": _base64(colours.tobytes()),
        "count": len(order),
        "spacing": cloud.spacing_m,
        "around": int(np.count_nonzero(~cloud.on_object[order])),
    }


def _points(points: NDArray[np.floating]) -> dict[str, Any]:
    return {"points": _shorts(points, _TRUTH_UNIT_M), "count": len(points)}


def _few(points: NDArray[np.float64]) -> NDArray[np.float64]:
    return points[:: max(1, len(points) // _TRUTH_POINTS)]


def _shorts(points: NDArray[np.floating], unit: float) -> str:
    return _base64(np.rint(np.asarray(points) / unit).astype("<i2").tobytes())


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _matrix(T: NDArray[np.float64]) -> list[float]:
    """Flatten a matrix column by column, as WebGL expects it."""
    return [round(float(v), 6) for v in np.asarray(T).T.ravel()]


def _rgb(index: int) -> tuple[float, ...]:
    colour = PALETTE[index % len(PALETTE)]
    return tuple(round(int(colour[i : i + 2], 16) / 255.0, 3) for i in (1, 3, 5))
