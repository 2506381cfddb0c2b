"""Depth images of boxes on a table, intersected exactly with the rays of a camera."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.camera import Camera

CAMERA = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)
TABLE_Z = 0.0


class BoxScene(NamedTuple):
    """An image: rgb (H, W, 3) uint8, depth (H, W) metres, labels (H, W); plane (4,) of the table
    in the optical frame."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.int32]
    plane: NDArray[np.float64]


def box_scene(
    boxes: list[tuple[tuple[float, float], tuple[float, float, float]]],
    camera: Camera = CAMERA,
    table: bool = True,
    noise_m: float = 0.0005,
    height_m: float = 0.7,
) -> BoxScene:
    """Render boxes, each the (x, y) of its middle and its edges, standing on z = 0, metres.

    The camera looks down at 45 degrees to the origin; without a table they float before nothing.
    """
    forward = np.array([0.0, 1.0, -1.0]) / np.sqrt(2.0)
    right = np.array([1.0, 0.0, 0.0])
    R = np.stack([right, np.cross(forward, right), forward])  # world to camera
    eye = np.array([0.0, -height_m, height_m])
    v, u = np.mgrid[: camera.height, : camera.width]
    local = np.stack(
        [(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(u.shape)], -1
    )
    rays = local @ R
    depth = np.full(u.shape, np.inf)
    labels = np.zeros(u.shape, np.int32)
    if table:
        hit = (TABLE_Z - eye[2]) / rays[..., 2]
        depth = np.where(hit > 0.0, hit, np.inf)
    for number, ((x, y), edges) in enumerate(boxes, start=1):
        lower = np.array([x, y, 0.0]) - [edges[0] / 2, edges[1] / 2, 0.0]
        upper = lower + edges
        with np.errstate(divide="ignore"):
            a, b = (lower - eye) / rays, (upper - eye) / rays
        enter, leave = np.minimum(a, b).max(-1), np.maximum(a, b).min(-1)
        closer = (enter < leave) & (enter > 0.0) & (enter < depth)
        depth[closer], labels[closer] = enter[closer], number
    depth = np.where(np.isfinite(depth), depth, 0.0)
    rng = np.random.default_rng(0)
    depth = np.where(depth > 0.0, depth + rng.normal(0.0, noise_m, depth.shape), 0.0)
    rgb = np.full((*depth.shape, 3), 90, np.uint8)
    rgb[labels > 0] = 160
    normal = R @ [0.0, 0.0, 1.0]
    return BoxScene(rgb, depth.astype(np.float32), labels, np.array([*normal, eye[2]]))
