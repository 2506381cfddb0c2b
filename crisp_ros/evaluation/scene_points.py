"""Coloured points of a recording, thinned for a picture of the scene."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.recorded_frame import RecordedFrame

_MM = 1e-3
_VIEWS = 6  # of a known camera, merged into one cloud
_CLOUDS = 12  # where the camera's place is not known, each with a frame of its own
_POINTS = 60_000  # of all clouds together
_REACH = 1.6  # points beyond this multiple of the labelled ones' median depth are left out


class Cloud(NamedTuple):
    """Points (N, 3) in metres with colours (N, 3) uint8; on_object (N,) for those with a label."""

    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    on_object: NDArray[np.bool_]


class ScenePoints(NamedTuple):
    """clouds: in the world frame where the camera's place is known, else in the camera's.
    cloud_of_frame: which of them a frame shows, None for none.
    field: half width and half height of the image at distance 1."""

    clouds: list[Cloud]
    cloud_of_frame: list[int | None]
    field: tuple[float, float]


def scene_points(frames: Iterable[RecordedFrame], count: int) -> ScenePoints:
    """Points of some of the first `count` frames."""
    merged = set(np.linspace(0, count - 1, min(_VIEWS, count)).round().astype(int).tolist())
    alone = set(np.linspace(0, count - 1, min(_CLOUDS, count)).round().astype(int).tolist())
    views, clouds = [], []
    cloud_of_frame: list[int | None] = [None] * count
    field = (0.4, 0.3)
    rng = np.random.default_rng(0)
    for index, frame in enumerate(islice(frames, count)):
        height, width = frame.depth.shape
        k = frame.intrinsics
        field = (0.5 * width / float(k[0, 0]), 0.5 * height / float(k[1, 1]))
        if frame.T_world_camera is not None:
            if index in merged:
                seen = _camera_points(frame, _POINTS // len(merged), rng)
                T = frame.T_world_camera
                views.append(seen._replace(points=seen.points @ T[:3, :3].T + T[:3, 3]))
        elif index in alone:
            cloud_of_frame[index] = len(clouds)
            clouds.append(_camera_points(frame, _POINTS // len(alone), rng))
    if views:
        clouds = [Cloud(*(np.concatenate(part) for part in zip(*views, strict=True)))]
        cloud_of_frame = [0] * count
    return ScenePoints(clouds, cloud_of_frame, field)


def _camera_points(frame: RecordedFrame, count: int, rng: np.random.Generator) -> Cloud:
    """At most `count` points in the camera frame, of the objects and what is near them."""
    depth = np.asarray(frame.depth, np.float32)
    if frame.depth.dtype == np.uint16:
        depth = depth * np.float32(_MM)
    valid = np.isfinite(depth) & (depth > 0.0)
    labelled = depth[valid & (frame.labels > 0)]
    if len(labelled):
        valid &= depth < _REACH * np.median(labelled)
    v, u = np.nonzero(valid)
    chosen = rng.permutation(len(u))[:count]
    v, u = v[chosen], u[chosen]
    z, k = depth[v, u], frame.intrinsics
    x, y = (u - k[0, 2]) / k[0, 0] * z, (v - k[1, 2]) / k[1, 1] * z
    points = np.stack([x, y, z], axis=1).astype(np.float32)
    return Cloud(points, frame.rgb[v, u], frame.labels[v, u] > 0)
