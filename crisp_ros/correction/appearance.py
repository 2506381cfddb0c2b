"""Colours of library shapes, compared with the image: which of several poses does the print fit?

Depth alone cannot tell a can from the same can rotated about its axis. The colours of the surface
can, if they are compared in a measure that exposure, white balance and blur hardly change.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.chamfer import pairwise_distances
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.library import SurfaceColors
from crisp_ros.network.maps import crop_grid, read_maps

_POINTS = 1024  # of a shape that are compared
_SMOOTHING = 0.015  # of the colours, as a share of the shape's size: about a pixel of its crop
_NEWTON_STEPS = 2
_FACING = 0.25  # cosine between normal and viewing direction from which on a point is seen well
_HIDDEN_M = 0.015  # a point so much farther than the measured depth is hidden
_CHROMA_WEIGHT = 2.0  # of differences of colour against differences of brightness


class PrintedSurface(NamedTuple):
    """The print of a shape, as it is compared.

    Attributes:
        points: (N, 3) on the shape, object frame, metres.
        normals: (N, 3) outward.
        colors: (N, 3) smoothed, in the channels of `opponent_channels`.
    """

    points: Tensor
    normals: Tensor
    colors: Tensor


class PrintAgreement(NamedTuple):
    """Agreement of the image with the print at M poses.

    Attributes:
        correlation: (M,) normalized correlation of print and image over the visible points and all
            channels, -1 to 1; zero where one of both has no contrast.
        visible: (M,) number of points that are seen.
        contrast: (M,) standard deviation of the print over the visible points.
    """

    correlation: Tensor
    visible: Tensor
    contrast: Tensor


class CropView(NamedTuple):
    """Region of an object in the images.

    Attributes:
        crop: (3, S, S) RGB in [0, 1] around the object.
        box: (3,) left, top and side of the crop in the image, px.
        label: () of the object in the label image.
    """

    crop: Tensor
    box: Tensor
    label: Tensor


def opponent_channels(rgb: Tensor) -> Tensor:
    """Brightness and two weighted differences of colours (..., 3), from RGB (..., 3) in [0, 1]."""
    red, green, blue = rgb.unbind(-1)
    brightness = (red + green + blue) / 3
    red_green, yellow_blue = red - green, 0.5 * (red + green) - blue
    return torch.stack(
        (brightness, _CHROMA_WEIGHT * red_green, _CHROMA_WEIGHT * yellow_blue), dim=-1
    )


@torch.no_grad()
def printed_surface(field: ShapeField, shape: Shapes, colors: SurfaceColors) -> PrintedSurface:
    """The print of a shape, moved onto its decoded surface and smoothed.

    Args:
        field: f_d.
        shape: one shape, without leading dimensions.
        colors: of its surface.
    """
    step = max(1, len(colors.points) // _POINTS)
    x = colors.points[::step].to(shape.codes)
    painted = opponent_channels(colors.rgb.to(x) / 255.0)
    weights = torch.exp(
        -0.5
        * (pairwise_distances(x, colors.points.to(x)) / (_SMOOTHING * shape.diameters)).square()
    )
    smoothed = (weights / weights.sum(-1, keepdim=True)) @ painted
    for _ in range(_NEWTON_STEPS):
        sdf, gradient = field.sdf_and_gradient(x, shape)
        x = x - (sdf / gradient.square().sum(-1).clamp_min(0.1))[:, None] * gradient
    normals = torch.nn.functional.normalize(field.sdf_and_gradient(x, shape).gradient, dim=-1)
    return PrintedSurface(x, normals, smoothed)


@torch.no_grad()
def print_agreement(
    surface: PrintedSurface, T_object_camera: Tensor, view: CropView, images: Images
) -> PrintAgreement:
    """Compare the print of a shape with the image at several poses.

    A point takes part where its normal faces the camera, its pixel has the object's label, and no
    depth is measured in front of it.

    Args:
        surface: the print.
        T_object_camera: (M, 4, 4) poses.
        view: the object's crop.
        images: that the object was seen in.
    """
    T = invert(T_object_camera)
    x = transform(T, surface.points)
    normals = surface.normals @ T[:, :3, :3].transpose(-1, -2)
    rays = torch.nn.functional.normalize(x, dim=-1)
    pixels, seen = _project(x, view.label, images)
    seen = seen & ((normals * rays).sum(-1) < -_FACING)
    count = len(T)
    grid = crop_grid(pixels.flatten(0, 1)[None], view.box[None])
    image = read_maps(view.crop[None], grid)[0].view(count, -1, 3)
    image = opponent_channels(image)
    weights = seen.to(image.dtype)[..., None]
    total = weights.sum(1).clamp_min(1.0)
    painted = surface.colors.expand_as(image)
    a = (painted - ((weights * painted).sum(1) / total)[:, None]) * weights
    b = (image - ((weights * image).sum(1) / total)[:, None]) * weights
    variances = a.square().sum((1, 2)), b.square().sum((1, 2))
    correlation = (a * b).sum((1, 2)) / (variances[0] * variances[1]).sqrt().clamp_min(1e-9)
    return PrintAgreement(correlation, seen.sum(1), (variances[0] / total[:, 0]).sqrt())


def _project(x: Tensor, label: Tensor, images: Images) -> tuple[Tensor, Tensor]:
    """Pixels (M, N, 2) of points (M, N, 3) in the camera frame, and which are not hidden (M, N)."""
    depth, labels, camera = images
    z = x[..., 2].clamp_min(1e-3)
    u = camera.fx * x[..., 0] / z + camera.cx
    v = camera.fy * x[..., 1] / z + camera.cy
    height, width = depth.shape
    inside = (x[..., 2] > 1e-3) & (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    column, row = (
        torch.nan_to_num(part).round().clamp(0, size - 1).long()
        for part, size in ((u, width), (v, height))
    )
    measured = depth[row, column]
    shown = (labels[row, column] == label) & ~((measured > 0) & (measured < x[..., 2] - _HIDDEN_M))
    return torch.stack((u, v), dim=-1), inside & shown
