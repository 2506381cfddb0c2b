"""Colours of closed-form shapes: as a library keeps them, and as an image shows them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from analytic import AnalyticShape
from analytic_scene import analytic_field, analytic_library
from correction.rendering import CAMERA, LABEL, rendered
from torch import Tensor

from crisp_ros.correction.appearance import CropView
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.library import SurfaceColors

Paint = Callable[[Tensor], Tensor]


def sectors(points: Tensor) -> Tensor:
    """Four colours around the z axis in irregular sectors, RGB (..., 3) in [0, 1]."""
    angle = torch.atan2(points[..., 1], points[..., 0])
    colors = torch.tensor(
        [[0.8, 0.1, 0.1], [0.9, 0.9, 0.2], [0.1, 0.2, 0.7], [0.9, 0.9, 0.9]], dtype=points.dtype
    )
    return colors[torch.bucketize(angle, torch.tensor([-1.8, -0.4, 1.3]))]


def halves(points: Tensor) -> Tensor:
    """Equal after half a rotation about the z axis: red and white in four equal sectors."""
    red = (torch.sin(2 * torch.atan2(points[..., 1], points[..., 0])) > 0)[..., None]
    return torch.where(red, points.new_tensor([0.8, 0.1, 0.1]), points.new_tensor([0.9, 0.9, 0.9]))


def plain(points: Tensor) -> Tensor:
    """One grey all over."""
    return torch.full_like(points, 0.6)


def painted_library(shape: AnalyticShape, paint: Paint | None) -> PreparedLibrary:
    """Return a library of one shape with its colours, or without."""
    library = analytic_library([shape])
    if paint is not None:
        points = shape.surface(3000, torch.Generator().manual_seed(0)).float()
        rgb = (255 * paint(points)).round().to(torch.uint8)
        library = dataclasses.replace(library, colors=(SurfaceColors(points, rgb),))
    return PreparedLibrary(analytic_field(shape), library)


def photograph(
    shape: AnalyticShape, T_object_camera: Tensor, paint: Paint
) -> tuple[CropView, Images]:
    """Return the crop and the images of a painted shape in front of a grey wall."""
    depth, labels = rendered(shape, T_object_camera.double())
    v, u = torch.meshgrid(
        torch.arange(CAMERA.height).float(), torch.arange(CAMERA.width).float(), indexing="ij"
    )
    x, y = (u - CAMERA.cx) / CAMERA.fx * depth, (v - CAMERA.cy) / CAMERA.fy * depth
    seen = transform(T_object_camera, torch.stack((x, y, depth), -1).reshape(-1, 3))
    rgb = paint(seen).view(*depth.shape, 3)
    rgb = torch.where((labels == LABEL)[..., None], rgb, 0.4)
    # The crop is the square around the whole image.
    side, margin = CAMERA.width, (CAMERA.width - CAMERA.height) // 2
    crop = torch.full((3, side, side), 0.5)
    crop[:, margin : margin + CAMERA.height] = rgb.permute(2, 0, 1)
    view = CropView(crop, torch.tensor([0.0, -margin, side]), torch.tensor(LABEL))
    return view, Images(depth, labels, CAMERA)
