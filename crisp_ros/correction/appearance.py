"""Colours of library shapes, compared with the image: which of several poses does the print fit?

Depth alone cannot tell a can from the same can rotated about its axis. The colours of the surface
can, if they are compared in a measure that exposure, white balance, shading and blur hardly change,
and that a pose which is a few pixels off does not spoil.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.visibility import Images
from crisp_ros.geometry.device_constants import constant
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
_SHIFTS_PX = (-2.0, -1.0, 0.0, 1.0, 2.0)  # of the print in the crop, in each direction
_SHIFT_COST = 0.01  # of correlation, times the squared length of the shift in px
_NEAR_SHARE = 0.45  # of the spread of all visible points that the surroundings of one have
_NODES = 8  # a side of the grid over the visible points on which means of surroundings are found
_EVEN_SHARE = 0.3  # of the mean contrast that is added to that of a point's surroundings
_LEAST_VARIANCE = 1e-6  # of colours that are not plain
_LEAST_EVENED = 1e-2  # product of two evened colours, root mean square, that are not plain
_CHROMA_WEIGHT = 2.0  # of differences of colour against differences of brightness


class PrintedSurface(NamedTuple):
    """The print of a shape, ready to be compared with images.

    Attributes:
        points: (N, 3) on the shape, object frame, metres.
        normals: (N, 3) outward.
        volume: (D, D, D, 3) colours around the surface, in the channels of `opponent_channels`;
            the dimensions are z, y and x.
        lower: (3,) corner of the volume, object frame, metres.
        upper: (3,) opposite corner.
    """

    points: Tensor
    normals: Tensor
    volume: Tensor
    lower: Tensor
    upper: Tensor

    def colors_at(self, points: Tensor) -> Tensor:
        """Colours (..., 3) of the print at points (..., 3) near the surface, of nearest voxels."""
        side = len(self.volume)
        unit = (points - self.lower) / (self.upper - self.lower)
        cell = ((side - 1) * unit).nan_to_num().round().clamp(0, side - 1).long()
        x, y, z = cell.unbind(-1)
        rows = (side * z + y) * side + x
        return self.volume.view(-1, 3).index_select(0, rows.flatten()).view(points.shape)


class PrintAgreement(NamedTuple):
    """Agreement of the image with the print at M poses.

    Attributes:
        correlation: (M,) of print and image over the visible points and all channels, -1 to 1, each
            without the mean of its surroundings and divided by their contrast, at the best shift
            of the print in the image, less a small cost of that shift. Zero where one of them is
            plain.
        visible: () number of points that are seen.
        contrast: (M,) root mean square of what sets the print apart from the mean of the poses.
    """

    correlation: Tensor
    visible: Tensor
    contrast: Tensor

    def joined(self, other: PrintAgreement) -> PrintAgreement:
        """The agreement at these poses and at others of the same comparison."""
        return PrintAgreement(
            torch.cat((self.correlation, other.correlation)),
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
    volume = painted.view(_VOXELS, _VOXELS, _VOXELS, 3)
    return PrintedSurface(x, normals, volume, lower, upper)


class PrintComparison:
    """Compares the print of an object with the image at a pose and at motions of it.

    The motions map the shape onto itself: at all of them the same pixels show the object, only the
    print under them changes. Colours are compared with those around them, as shading and
    reflections change slowly over a surface, and at several shifts in the image, as fine print is
    narrower than the error of a pose.
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
            possible: (M,) bool, the motions whose mean print the contrast refers to; None for all.
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
        pixel = view.box[2:] / view.crop.shape[-1]  # of the crop, in those of the image
        self._to_nodes = self._surroundings(pixels / pixel)
        total = self._to_nodes @ self._to_nodes.sum(0)[:, None]
        self._total_weight = total.clamp_min(1e-6)
        shifts = constant(_SHIFTS_PX, pixels)
        shifts = torch.cartesian_prod(shifts, shifts)
        self._shift_cost = _SHIFT_COST * shifts.square().sum(-1)
        grid = crop_grid((pixels + (shifts * pixel)[:, None]).view(1, -1, 2), view.box[None])
        image = opponent_channels(read_maps(view.crop[None], grid)[0])
        self._image = self._evened(image.view(len(shifts), -1, 3))
        self._prints_of_motions = prints = self._prints(motions)
        if possible is None:
            self._mean = prints.mean(0)
        else:
            self._mean = (prints * (possible / possible.sum())[:, None, None]).sum(0)

    def agreement(self, motions: Tensor | None = None) -> PrintAgreement:
        """The agreement at motions (M, 4, 4); None for those that are compared."""
        prints = self._prints_of_motions if motions is None else self._prints(motions)
        distinct = self._centred(prints - self._mean)
        contrast = (distinct.square().sum((1, 2)) / self._visible.clamp_min(1)).sqrt()
        correlation = self._correlations(self._evened(prints)).amax(-1)
        enough = self._visible >= _LEAST_POINTS
        correlation, contrast = (torch.where(enough, x, 0.0) for x in (correlation, contrast))
        return PrintAgreement(correlation, self._visible, contrast)

    def _surroundings(self, pixels: Tensor) -> Tensor:
        """Weights (N, G) of visible points at the nodes of a grid over their pixels (N, 2).

        From the points to the nodes and back, two Gaussians make the wider one of the surroundings.
        """
        centred = self._centred(pixels)
        spread = (self._share * centred.square()).sum(0).amax().sqrt().clamp_min(1.0)
        around = torch.cat((centred, centred.new_zeros(1, 2)))  # there may be no point
        lower, upper = around.amin(0), around.amax(0)
        steps = torch.linspace(0.0, 1.0, _NODES, dtype=pixels.dtype, device=pixels.device)
        nodes = lower + torch.cartesian_prod(steps, steps) * (upper - lower)
        apart = torch.cdist(centred, nodes) / (_NEAR_SHARE * spread)
        return torch.exp(-apart.square()) * self._seen

    def _prints(self, motions: Tensor) -> Tensor:
        """Return the colours of the print at the points' pixels (M, N, 3)."""
        return self._surface.colors_at(transform(motions, self._points))

    def _centred(self, values: Tensor) -> Tensor:
        """Values (..., N, 3) without the mean of each channel over the visible points."""
        middle = (self._share * values).sum(-2, keepdim=True)
        return torch.where(self._seen, values - middle, 0.0)

    def _evened(self, values: Tensor) -> Tensor:
        """Values (M, N, 3) without the mean of their surroundings, divided by their contrast."""
        distinct = values - self._around(values)
        square = torch.where(self._seen, distinct, 0.0).square().sum(-1, keepdim=True)
        mean = (self._share * square).sum(-2, keepdim=True)
        variance = self._around(square) + _EVEN_SHARE * mean + _LEAST_VARIANCE
        return self._centred(distinct * variance.rsqrt())

    def _around(self, values: Tensor) -> Tensor:
        """The means (M, N, C) of values (M, N, C) in the surroundings of each point."""
        columns = values.transpose(0, 1).flatten(1)  # one product of matrices, not M narrow ones
        means = self._to_nodes @ (self._to_nodes.T @ columns) / self._total_weight
        return means.unflatten(1, (len(values), -1)).transpose(0, 1)

    def _correlations(self, evened: Tensor) -> Tensor:
        """Normalized correlations (M, S) of prints (M, N, 3) with the shifted images."""
        a, b = evened.flatten(1), self._image.flatten(1)
        scale = a.square().sum(-1)[:, None].sqrt() * b.square().sum(-1).sqrt()
        least = _LEAST_EVENED * self._visible.clamp_min(1)  # of surfaces that are not plain
        correlation = a @ b.T / scale.clamp_min(1e-6) - self._shift_cost
        return torch.where(scale > least, correlation, 0.0)


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
