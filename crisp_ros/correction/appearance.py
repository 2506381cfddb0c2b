"""Colours of library shapes, compared with the image: which of several poses does the print fit?

Depth alone cannot tell a can from the same can rotated about its axis. The colours of the surface
can, if they are compared in a measure that exposure, white balance and blur hardly change, and that
ignores what is the same at all poses, such as a bright lid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.fixed_shapes import has_fixed_shapes
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.library import SurfaceColors
from crisp_ros.network.maps import crop_grid, read_maps

_POINTS = 2048  # of a shape that are looked at in the image
_VOXELS = 48  # a side of the grid of colours
_NEIGHBOURS = 4  # coloured points whose mean a voxel has
_ROOM = 0.06  # around the shape's box, as a share of its diagonal
_NEWTON_STEPS = 2
_FACING = 0.25  # cosine between normal and viewing direction from which on a point is seen well
_HIDDEN_M = 0.015  # a point so much farther than the measured depth is hidden
_LEAST_POINTS = 3  # with fewer nothing agrees
_LEAST_COMMON = 1e-6  # a mean print with a smaller sum of squares is plain
_CHROMA_WEIGHT = 2.0  # of differences of colour against differences of brightness


class PrintedSurface(NamedTuple):
    """The print of a shape, ready to be compared with images.

    Attributes:
        points: (N, 3) on the shape, object frame, metres.
        normals: (N, 3) outward.
        volume: (1, 3, D, D, D) colours around the surface, in the channels of `opponent_channels`;
            the last dimension is x.
        lower: (3,) corner of the volume, object frame, metres.
        upper: (3,) opposite corner.
    """

    points: Tensor
    normals: Tensor
    volume: Tensor
    lower: Tensor
    upper: Tensor

    def colors_at(self, points: Tensor) -> Tensor:
        """Colours (..., 3) of the print at points (..., 3) near the surface, interpolated."""
        unit = 2 * (points - self.lower) / (self.upper - self.lower) - 1
        found = torch.nn.functional.grid_sample(
            self.volume, unit.reshape(1, 1, 1, -1, 3), padding_mode="border", align_corners=True
        )
        return found.view(3, -1).T.view(points.shape)


class PrintAgreement(NamedTuple):
    """Agreement of the image with the print at M poses.

    Attributes:
        correlation: (M,) of what sets the poses apart, -1 to 1: print and image over the visible
            points and all channels, without the part that is the same at all poses. Zero where
            nothing is left of one of them.
        overall: (M,) the same correlation with the part that is the same at all poses left in.
        visible: () number of points that are seen.
        contrast: (M,) root mean square of that part of the print.
    """

    correlation: Tensor
    overall: Tensor
    visible: Tensor
    contrast: Tensor

    def joined(self, other: PrintAgreement) -> PrintAgreement:
        """The agreement at these poses and at others of the same comparison."""
        return PrintAgreement(
            torch.cat((self.correlation, other.correlation)),
            torch.cat((self.overall, other.overall)),
            self.visible,
            torch.cat((self.contrast, other.contrast)),
        )


class CropView(NamedTuple):
    """Region of an object in the images.

    Attributes:
        crop: (3, S, S) RGB in [0, 1] around the object.
        box: (4,) left, top, width and height of the crop in the image, px.
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
    """The print of a shape, with points on its decoded surface.

    Args:
        field: f_d.
        shape: one shape, without leading dimensions.
        colors: of its surface.
    """
    step = max(1, len(colors.points) // _POINTS)
    x = colors.points[::step].to(shape.codes)
    for _ in range(_NEWTON_STEPS):
        sdf, gradient = field.sdf_and_gradient(x, shape)
        x = x - (sdf / gradient.square().sum(-1).clamp_min(0.1))[:, None] * gradient
    normals = torch.nn.functional.normalize(field.sdf_and_gradient(x, shape).gradient, dim=-1)
    room = _ROOM * shape.diameters
    lower, upper = shape.lower - room, shape.upper + room
    steps = torch.linspace(0.0, 1.0, _VOXELS, dtype=x.dtype, device=x.device)
    z, y, x_ = torch.meshgrid(steps, steps, steps, indexing="ij")
    voxels = lower + torch.stack((x_, y, z), dim=-1).view(-1, 3) * (upper - lower)
    tree = cKDTree(colors.points.cpu().numpy())
    count, workers = min(_NEIGHBOURS, len(colors.points)), torch.get_num_threads()
    _, nearest = tree.query(voxels.cpu().numpy(), k=count, workers=workers)
    nearest = torch.from_numpy(nearest).to(x.device).view(len(voxels), -1)
    painted = opponent_channels(colors.rgb.to(x) / 255.0)[nearest].mean(1)
    volume = painted.T.reshape(1, 3, _VOXELS, _VOXELS, _VOXELS).contiguous()
    return PrintedSurface(x, normals, volume, lower, upper)


class PrintComparison:
    """Compares the print of an object with the image at a pose and at motions of it.

    The motions map the shape onto itself: at all of them the same pixels show the object, only the
    print under them changes. Of image and print the part that is explained by the mean print of
    the motions is removed, so that what is the same at all of them does not count.
    """

    def __init__(
        self,
        surface: PrintedSurface,
        T_object_camera: Tensor,
        motions: Tensor,
        view: CropView,
        images: Images,
        possible: Tensor | None = None,
    ) -> None:
        """Look at the visible points of the surface.

        A point is visible where its normal faces the camera, its pixel has the object's label, and
        no depth is measured in front of it.

        Args:
            surface: the print.
            T_object_camera: (4, 4) the pose.
            motions: (M, 4, 4) of the object frame, the identity included.
            view: the object's crop.
            images: that the object was seen in.
            possible: (M,) bool, the motions whose prints have a common part; None for all.
        """
        self._surface = surface
        T = invert(T_object_camera)
        x = transform(T, surface.points)
        pixels, seen = _project(x, view.label, images)
        rays = torch.nn.functional.normalize(x, dim=-1)
        normals = surface.normals @ T[:3, :3].transpose(-1, -2)
        seen = seen & ((normals * rays).sum(-1) < -_FACING)
        self._points = surface.points
        if not has_fixed_shapes(seen):
            rows = seen.nonzero().squeeze(-1)
            self._points, pixels, seen = (part[rows] for part in (self._points, pixels, seen))
        self._seen = seen[:, None]
        self._visible = seen.sum()
        self._share = self._seen / self._visible.clamp_min(1)
        grid = crop_grid(pixels[None], view.box[None])
        image = opponent_channels(read_maps(view.crop[None], grid)[0])
        self._prints_of_motions = prints = self._prints(motions)
        if possible is None:
            self._mean = prints.mean(0)
        else:
            self._mean = (prints * (possible / possible.sum())[:, None, None]).sum(0)
        self._common = self._centred(self._mean)
        self._image = self._without_common(image)
        self._centred_image = self._centred(image)

    def agreement(self, motions: Tensor | None = None) -> PrintAgreement:
        """The agreement at motions (M, 4, 4); None for those that are compared."""
        prints = self._prints_of_motions if motions is None else self._prints(motions)
        overall = _correlation(self._centred(prints), self._centred_image)
        distinct = self._without_common(prints - self._mean)
        contrast = (distinct.square().sum((1, 2)) / self._visible.clamp_min(1)).sqrt()
        correlation = _correlation(distinct, self._image)
        enough = self._visible >= _LEAST_POINTS
        correlation, overall, contrast = (
            torch.where(enough, part, 0.0) for part in (correlation, overall, contrast)
        )
        return PrintAgreement(correlation, overall, self._visible, contrast)

    def _prints(self, motions: Tensor) -> Tensor:
        """Return the colours of the print at the points' pixels (M, N, 3)."""
        return self._surface.colors_at(transform(motions, self._points))

    def _centred(self, values: Tensor) -> Tensor:
        """Values (..., N, 3) without the mean of each channel over the visible points."""
        middle = (self._share * values).sum(-2, keepdim=True)
        return torch.where(self._seen, values - middle, 0.0)

    def _without_common(self, values: Tensor) -> Tensor:
        """Values (..., N, 3) without what a constant and the mean print explain of a channel."""
        values = self._centred(values)
        scale = self._common.square().sum(0).clamp_min(_LEAST_COMMON)
        factor = (values * self._common).sum(-2, keepdim=True) / scale
        return values - factor * self._common


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Normalized correlations (M,) of values (M, N, C), already centred, with values (N, C)."""
    scale = (a.square().sum((1, 2)) * b.square().sum()).sqrt()
    product = (a * b).sum((1, 2))
    return torch.where(scale > 1e-6, product / scale.clamp_min(1e-6), 0.0)


def _project(x: Tensor, label: Tensor, images: Images) -> tuple[Tensor, Tensor]:
    """Pixels (N, 2) of points (N, 3) in the camera frame, and which are not hidden (N,)."""
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
