"""Depth images of one object on a table, ray cast from its signed distance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from crisp_ros.geometry.camera import Camera
from crisp_ros.geometry.se3 import transform
from crisp_ros.synthesis.scenes import look_at

CAMERA = Camera(150.0, 150.0, 79.5, 59.5, 160, 120)
T_CAMERA_TABLE = torch.from_numpy(look_at(np.array([0.1, -0.6, 0.45]), np.zeros(3)))
LABEL = 3
_FARTHEST_M = 2.0


def table_plane() -> tuple[Tensor, Tensor]:
    """Normal (3,) and offset of the table, camera frame."""
    normal = T_CAMERA_TABLE[:3, 2]
    return normal, -(normal @ T_CAMERA_TABLE[:3, 3])


def rays() -> Tensor:
    """Viewing rays (H, W, 3) with z = 1."""
    v, u = torch.meshgrid(torch.arange(CAMERA.height), torch.arange(CAMERA.width), indexing="ij")
    x, y = (u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).double()


def table_images(sdf: Callable[[Tensor], Tensor], T_object_camera: Tensor) -> tuple[Tensor, Tensor]:
    """Depth (H, W) in metres and labels (H, W) of an object on the table.

    Args:
        sdf: of points (N, 3) in the object frame, metres.
        T_object_camera: (4, 4).
    """
    ray = rays().reshape(-1, 3)
    normal, offset = table_plane()
    slope = ray @ normal
    table = torch.where(slope < 0, -offset / slope, _FARTHEST_M).clamp_max(_FARTHEST_M)
    depth = torch.full_like(table, 0.2)
    for _ in range(80):
        points = transform(T_object_camera, depth[:, None] * ray)
        depth = depth + sdf(points) / ray.norm(dim=1)
    hit = depth < table
    shape = (CAMERA.height, CAMERA.width)
    depth = torch.where(hit, depth, table).reshape(shape)
    return depth, torch.where(hit, LABEL, 0).reshape(shape)
