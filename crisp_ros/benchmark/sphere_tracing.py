"""The visible surface of a decoded shape by sphere tracing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.geometry.se3 import from_rotation_translation, transform
from crisp_ros.network.decoder import ShapeDecoder

_STEPS = 80
_HIT_M = 2e-4
_STEP_FACTOR = 0.9  # some distances of a decoder are slightly too long


@dataclass(frozen=True)
class Viewpoint:
    """A pinhole camera directed at a point, with the object's z axis upwards in the image.

    Attributes:
        azimuth: of the camera around the point, radians, from the object's x axis.
        elevation: of the camera above the object's x-y plane, radians.
        distance_m: between camera and point.
        target: the point, object frame, metres.
        width_m: width of the image at the distance of the point.
        side_px: edge length of the square image.
    """

    azimuth: float
    elevation: float
    distance_m: float
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    width_m: float = 0.16
    side_px: int = 128

    @property
    def T_object_camera(self) -> Tensor:
        """(4, 4), camera optical frame (x right, y down, z forward) to object frame."""
        azimuth, elevation = torch.tensor(self.azimuth), torch.tensor(self.elevation)
        level = torch.stack((azimuth.cos(), azimuth.sin(), torch.tensor(0.0)))
        up = torch.tensor((0.0, 0.0, 1.0))
        backward = elevation.cos() * level + elevation.sin() * up
        right = torch.linalg.cross(up, level)
        down = torch.linalg.cross(right, backward)
        rotation = torch.stack((right, down, -backward), dim=-1)
        return from_rotation_translation(
            rotation, torch.tensor(self.target) + self.distance_m * backward
        )


class ShapeView(NamedTuple):
    """A view of a shape, its P pixels row by row.

    Attributes:
        points: (P, 3) object frame, metres.
        normals: (P, 3) unit vectors, object frame.
        hit: (P,) bool, whether the ray meets the shape.
    """

    points: Tensor
    normals: Tensor
    hit: Tensor


@torch.no_grad()
def shape_view(decoder: ShapeDecoder, code: Tensor, view: Viewpoint, reach_m: float) -> ShapeView:
    """Trace one ray per pixel to the surface of a shape.

    Args:
        decoder: f_d.
        code: (C,) of the shape.
        view: see `Viewpoint`.
        reach_m: radius of a sphere around the view's target that contains the shape.
    """
    ticks = ((torch.arange(view.side_px) + 0.5) / view.side_px - 0.5) * view.width_m
    v, u = torch.meshgrid(ticks, ticks, indexing="ij")
    T = view.T_object_camera
    ahead = torch.stack((u, v, torch.full_like(u, view.distance_m)), dim=-1).reshape(-1, 3)
    rays = torch.nn.functional.normalize(ahead, dim=-1) @ T[:3, :3].T
    eye = transform(T, torch.zeros(1, 3))
    way = torch.full((len(rays),), view.distance_m - reach_m)
    hit = torch.zeros(len(rays), dtype=torch.bool)
    going = torch.arange(len(rays))
    for _ in range(_STEPS):
        distance = decoder.sdf(eye + way[going, None] * rays[going], code)
        way[going] += _STEP_FACTOR * distance
        hit[going] = distance.abs() < _HIT_M
        going = going[~hit[going] & (way[going] < view.distance_m + reach_m)]
        if len(going) == 0:
            break
    points = eye + way[:, None] * rays
    normals = torch.nn.functional.normalize(decoder.sdf_and_gradient(points, code).gradient, dim=-1)
    return ShapeView(points, normals, hit)
