"""Depth points of the labelled objects of a frame."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.observation.frame import Frame


class ObjectPoints(NamedTuple):
    """Points of objects, N in all, in the camera's optical frame.

    Attributes:
        points: (N, 3) float32 metres.
        rgb: (N, 3) uint8.
        labels: (N,) int32, of the object.
        certified: (N,) bool, whether its estimate has a certificate.
    """

    points: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    labels: NDArray[np.int32]
    certified: NDArray[np.bool_]


def object_points(frame: Frame, certified: Collection[int]) -> ObjectPoints:
    """Back-project the valid depth of all labelled pixels.

    Args:
        frame: with labels.
        certified: labels of the objects with a certificate.
    """
    v, u = np.nonzero((frame.labels > 0) & valid_depth(frame))
    labels = frame.labels[v, u]
    is_certified = np.isin(labels, np.fromiter(certified, np.int32, len(certified)))
    return ObjectPoints(back_projected(frame, v, u), frame.rgb[v, u], labels, is_certified)


def write_points(path: Path, found: ObjectPoints) -> None:
    """Write points as a PLY with colours and the attributes label and certified.

    Raises:
        OSError: the file cannot be written.
    """
    import open3d  # 1.4 s: only where it is needed

    cloud = open3d.t.geometry.PointCloud(open3d.core.Tensor(found.points))
    cloud.point.colors = open3d.core.Tensor(found.rgb)
    cloud.point.label = open3d.core.Tensor(found.labels[:, None])
    cloud.point.certified = open3d.core.Tensor(found.certified[:, None].astype(np.uint8))
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        written = open3d.t.io.write_point_cloud(str(path), cloud)
    if not written:
        raise OSError(f"{path}: cannot be written as a point cloud")


def valid_depth(frame: Frame) -> NDArray[np.bool_]:
    """Pixels (H, W) with a positive, finite depth."""
    return np.isfinite(frame.depth) & (frame.depth > 0.0)


def back_projected(frame: Frame, v: NDArray[np.int64], u: NDArray[np.int64]) -> NDArray[np.float32]:
    """Points (N, 3) of pixels in rows v and columns u, camera frame, metres."""
    pixels = u.astype(np.float32), v.astype(np.float32)
    return frame.camera.back_project(*pixels, frame.depth[v, u])
