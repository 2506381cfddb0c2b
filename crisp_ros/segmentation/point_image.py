"""Depth images as ordered points with normals, at the resolution at which objects are separated."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.camera import Camera


class PointImage(NamedTuple):
    """The points of a reduced depth image.

    Attributes:
        points: (h, w, 3) optical frame, metres, 0 where nothing was measured.
        normals: (h, w, 3) unit normals to the camera's side, 0 where unknown.
        valid: (h, w) where depth was measured.
        step: pixels of the full image along an edge of one of these.
    """

    points: NDArray[np.float32]
    normals: NDArray[np.float32]
    valid: NDArray[np.bool_]
    step: int


def point_image(
    depth: NDArray[np.floating], camera: Camera, width: int, range_m: tuple[float, float]
) -> PointImage:
    """Reduce a depth image to about a width and back-project it.

    Args:
        depth: (H, W) metres; what is not within the range is not measured.
        camera: of the full image.
        width: pixels; the image is reduced by a whole number.
        range_m: nearest and farthest depth.
    """
    step = max(1, round(max(depth.shape) / width))
    rows, columns = depth.shape[0] // step, depth.shape[1] // step
    with np.errstate(invalid="ignore"):
        usable = (depth >= range_m[0]) & (depth <= range_m[1])
    whole = np.where(usable, depth, 0.0).astype(np.float32)[: rows * step, : columns * step]
    # The nearest point of each cell: a mean would invent points between object and background.
    cells = whole.reshape(rows, step, columns, step)
    nearest = np.where(cells > 0.0, cells, np.float32(np.inf)).min((1, 3))
    reduced = np.where(np.isfinite(nearest), nearest, np.float32(0.0))
    middle = (step - 1) / 2.0
    u, v = np.arange(columns) * step + middle, (np.arange(rows) * step + middle)[:, None]
    points = camera.back_project(u.astype(np.float32), v.astype(np.float32), reduced)
    points = points.astype(np.float32)
    valid = reduced > 0.0
    return PointImage(points, _normals(points, valid), valid, step)


def _normals(points: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Unit normals from differences over a small window, 0 near jumps and unmeasured pixels."""
    reach = 2
    weight = cv2.blur(valid.astype(np.float32), (3, 3))
    smooth = cv2.blur(points, (3, 3)) / np.maximum(weight, 1e-6)[..., None]
    normals = np.zeros_like(points)
    right, left = smooth[reach:-reach, 2 * reach :], smooth[reach:-reach, : -2 * reach]
    below, above = smooth[2 * reach :, reach:-reach], smooth[: -2 * reach, reach:-reach]
    known = (weight[reach:-reach, 2 * reach :] > 0) & (weight[reach:-reach, : -2 * reach] > 0)
    known &= (weight[2 * reach :, reach:-reach] > 0) & (weight[: -2 * reach, reach:-reach] > 0)
    normal = np.cross(below - above, right - left)
    length = np.linalg.norm(normal, axis=-1)
    known &= valid[reach:-reach, reach:-reach] & (length > 1e-12)
    normal = normal / np.maximum(length, 1e-12)[..., None]
    away = (normal * smooth[reach:-reach, reach:-reach]).sum(-1) > 0.0
    normal = np.where(away[..., None], -normal, normal)
    normals[reach:-reach, reach:-reach] = np.where(known[..., None], normal, 0.0)
    return normals
