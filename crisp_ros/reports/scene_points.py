"""Coloured points of a recording, thinned for a picture of the scene."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.geometry.se3 import transform

_MM = 1e-3
_VIEWS = 8  # of a known camera, merged into one cloud
_CLOUDS = 40  # where the camera's place is not known, each with a frame of its own
_POINTS = 250_000  # of all clouds together
_SPACING_M = 0.004  # between points, where there are not too many then
_COARSER = 1.25
_RIM_PX, _JUMP = 5, 0.05  # where depth jumps by more than this share of it
_REACH = 1.7  # of the labelled points' reach from their centre; what is farther is left out


class Cloud(NamedTuple):
    """A coloured point cloud.

    Attributes:
        points: (N, 3) metres.
        colours: (N, 3) uint8.
        on_object: (N,) bool, the point has a label.
        spacing_m: approximate distance of the points; 0 before thinning.
    """

    points: NDArray[np.float32]
    colours: NDArray[np.uint8]
    on_object: NDArray[np.bool_]
    spacing_m: float = 0.0


class ScenePoints(NamedTuple):
    """Point clouds for the frames of a page.

    Attributes:
        in_world: the camera pose is known, from the first frame on, and the clouds are in the
            world frame; otherwise they are in the camera's.
        clouds: shared by the frames.
        cloud_of_frame: index of the cloud of each requested frame, None for none.
        field: half width and half height of the image at distance 1.
    """

    in_world: bool
    clouds: list[Cloud]
    cloud_of_frame: list[int | None]
    field: tuple[float, float]


def scene_points(frames: Iterable[RecordedFrame], indices: Sequence[int]) -> ScenePoints:
    """Sample the points of the objects and their surroundings from some of the given frames.

    Args:
        frames: of the recording, all of them up to the last index.
        indices: of the requested frames, increasing.
    """
    last = len(indices) - 1
    merged = set(np.linspace(0, last, min(_VIEWS, len(indices))).round().astype(int).tolist())
    alone = set(np.linspace(0, last, min(_CLOUDS, len(indices))).round().astype(int).tolist())
    place_of = {index: place for place, index in enumerate(indices)}
    views: list[Cloud] = []
    clouds: list[Cloud] = []
    cloud_of_frame: list[int | None] = [None] * len(indices)
    in_world, field = False, (0.4, 0.3)
    for index, frame in enumerate(islice(frames, indices[-1] + 1)):
        if index not in place_of:
            continue
        place, T = place_of[index], frame.T_world_camera
        if place == 0:
            in_world = T is not None
            height, width = frame.depth.shape
            k = frame.intrinsics
            field = (0.5 * width / float(k[0, 0]), 0.5 * height / float(k[1, 1]))
        if in_world and T is not None:
            cloud_of_frame[place] = 0
            if place in merged:
                seen = _around_objects(_camera_points(frame))
                points = transform(T, seen.points).astype(np.float32)
                views.append(_thinned(seen._replace(points=points)))
        elif not in_world and place in alone:
            cloud_of_frame[place] = len(clouds)
            clouds.append(_thinned(_around_objects(_camera_points(frame))))
    if views:
        clouds = [_thinned(_joined(views))]
    clouds = [_limited(cloud, _POINTS // len(clouds)) for cloud in clouds]
    return ScenePoints(in_world, clouds, cloud_of_frame, field)


def _camera_points(frame: RecordedFrame) -> Cloud:
    """All points without a depth discontinuity next to them, in the camera frame."""
    depth = np.asarray(frame.depth, np.float32)
    if frame.depth.dtype == np.uint16:
        depth = depth * np.float32(_MM)
    depth = np.where(np.isfinite(depth), depth, 0.0)
    # At the edges of an object sensors measure depths between it and the background.
    window = np.ones((_RIM_PX, _RIM_PX), np.uint8)
    jump = cv2.dilate(depth, window) - cv2.erode(depth, window)
    v, u = np.nonzero((depth > 0.0) & (jump < _JUMP * depth))
    z, k = depth[v, u], frame.intrinsics.astype(np.float32)
    x, y = (u - k[0, 2]) / k[0, 0] * z, (v - k[1, 2]) / k[1, 1] * z
    points = np.stack([x, y, z], axis=1).astype(np.float32)
    return Cloud(points, frame.rgb[v, u], frame.labels[v, u] > 0)


def _around_objects(cloud: Cloud) -> Cloud:
    """The points in a ball around the objects; all points if there are no objects."""
    if not cloud.on_object.any():
        return cloud
    centre = np.median(cloud.points[cloud.on_object], axis=0)
    distance = np.linalg.norm(cloud.points - centre, axis=1)
    reach = _REACH * np.percentile(distance[cloud.on_object], 95)
    return _selected(cloud, np.flatnonzero(distance < reach))


def _joined(clouds: Sequence[Cloud]) -> Cloud:
    return Cloud(
        np.concatenate([cloud.points for cloud in clouds]),
        np.concatenate([cloud.colours for cloud in clouds]),
        np.concatenate([cloud.on_object for cloud in clouds]),
    )


def _thinned(cloud: Cloud, spacing_m: float = _SPACING_M) -> Cloud:
    """Keep one point of each cube with this edge length."""
    cells = np.floor(cloud.points / np.float32(spacing_m)).astype(np.int64)
    cells -= cells.min(axis=0, initial=0)
    size = cells.max(axis=0, initial=0) + 1
    keys = (cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]
    chosen = _selected(cloud, np.unique(keys, return_index=True)[1])
    return chosen._replace(spacing_m=spacing_m)


def _limited(cloud: Cloud, count: int) -> Cloud:
    """Increase the spacing until the cloud has at most `count` points."""
    while len(cloud.points) > count:
        cloud = _thinned(cloud, _COARSER * cloud.spacing_m)
    return cloud


def _selected(cloud: Cloud, which: NDArray[np.integer]) -> Cloud:
    return Cloud(cloud.points[which], cloud.colours[which], cloud.on_object[which])
