"""A depth image of one closed-form shape before a wall."""

from __future__ import annotations

import torch
from analytic import AnalyticShape
from torch import Tensor

from crisp_ros.geometry.se3 import transform
from crisp_ros.observation.frame import Camera

CAMERA = Camera(fx=300.0, fy=300.0, cx=79.5, cy=59.5, width=160, height=120)
LABEL = 7
WALL_M = 1.2


def rendered(shape: AnalyticShape, T_object_camera: Tensor) -> tuple[Tensor, Tensor]:
    """Depth (H, W) and labels (H, W): the shape, labelled 7, before the wall, by sphere tracing."""
    v, u = torch.meshgrid(
        torch.arange(CAMERA.height).double(), torch.arange(CAMERA.width).double(), indexing="ij"
    )
    rays = torch.stack(
        ((u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, torch.ones_like(u)), -1
    )
    length = rays.norm(dim=-1)
    depth = torch.full_like(u, 0.3)
    for _ in range(60):
        x = (depth[..., None] * rays).reshape(-1, 3)
        distance = shape.sdf(transform(T_object_camera, x)).reshape(u.shape)
        depth = torch.where(depth < WALL_M, depth + distance / length, depth)
    hit = depth < WALL_M
    return torch.where(hit, depth, WALL_M).float(), torch.where(hit, LABEL, 0)


def seen_points(depth: Tensor, labels: Tensor) -> Tensor:
    """The depth points (N, 3) of the labelled shape, camera frame, metres."""
    v, u = (labels == LABEL).nonzero(as_tuple=True)
    z = depth[v, u]
    x, y = (
        (pixel - c) / f for pixel, c, f in ((u, CAMERA.cx, CAMERA.fx), (v, CAMERA.cy, CAMERA.fy))
    )
    return torch.stack((x * z, y * z, z), -1)
