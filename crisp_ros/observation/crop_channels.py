"""Mask and geometry channels of a crop, built alike for inference and for training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.geometry.device_constants import constant
from crisp_ros.observation.frame import Camera

CROP_RULES = ("square", "tight", "image")
"""What a crop shows: a square around the mask with a margin; the box of the mask, stretched to the
square; the whole image, stretched."""
GREY = 128
"""The 8-bit value nearest to 0.5, outside the image."""
GEOMETRY_CHANNELS = 5
"""Mask, x, y, z and depth validity, in this order, after the three of colour."""
UNIT_M = 0.1
"""Length that the coordinate channels have as 1, metres."""
REACH_M = 0.3
"""Points farther than this from the object's median point count as invalid, metres."""

_STORED_SCALE = (1.0, *[UNIT_M / 1e-3] * 3, 1.0)  # of the geometry channels: millimetres


def geometry_channels(points: Tensor, mask: Tensor) -> Tensor:
    """Build the channels that tell the network which object is meant and where its surface is.

    Coordinates are those of the masked pixels in a frame that looks along the viewing ray through
    their median point, so that equal views have equal channels wherever they are in the image:
    x and y as in the image, z along the ray, the origin at the median point, divided by `UNIT_M`.

    Args:
        points: (B, 3, S, S) in the camera's optical frame, metres; z = 0 or not finite where
            nothing was measured.
        mask: (B, S, S) bool, the object's pixels.

    Returns:
        (B, 5, S, S) float32: mask (-1 or 1); x, y and z (0 where invalid); validity (-1 or 1),
        which is that of a measured depth on the mask within `REACH_M` of the median point.
    """
    valid = mask & (points[:, 2] > 0) & points.isfinite().all(1)
    kept = torch.where(valid[:, None], points, 0.0).flatten(2)
    median = torch.where(valid.flatten(1)[:, None], kept, torch.nan).nanmedian(2).values
    empty = ~valid.flatten(1).any(1)
    median = torch.where(empty[:, None], constant((0.0, 0.0, 1.0), median), median)
    local = _view_rotations(median) @ (kept - median[:, :, None])
    local = local.view_as(points)
    valid = valid & (local.abs() <= REACH_M).all(1)
    coordinates = torch.where(valid[:, None], local / UNIT_M, 0.0)
    signs = torch.stack([mask, valid], dim=1).to(coordinates.dtype) * 2 - 1
    return torch.cat([signs[:, :1], coordinates, signs[:, 1:]], dim=1)


def nearest_pixels(
    box: tuple[int, int, int], shape: tuple[int, int], crop_px: int
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]]:
    """Find the image pixels that a crop's pixels show.

    Args:
        box: left, top and side of the crop, px.
        shape: height and width of the image, px.
        crop_px: S, side of the crop's own pixels.

    Returns:
        Rows (S, 1) and columns (1, S) as an index into the image, clipped to it, and which pixels
        (S, S) of the crop are in the image.
    """
    left, top, side = box
    height, width = shape
    steps = np.floor((np.arange(crop_px) + 0.5) * side / crop_px).astype(int)
    u, v = np.clip(left + steps, 0, width - 1), np.clip(top + steps, 0, height - 1)
    inside = (left + steps == u)[None, :] & (top + steps == v)[:, None]
    return np.ix_(v, u), inside


def crop_points(
    depth: NDArray[np.float32], box: tuple[int, int, int], crop_px: int, camera: Camera
) -> NDArray[np.float32]:
    """Back-project the depth that a crop's pixels show.

    Args:
        depth: (H, W) metres, 0 where invalid.
        box: left, top and side of the crop, px.
        crop_px: S, side of the crop's own pixels.
        camera: of the image.

    Returns:
        (3, S, S) in the camera's optical frame, metres; zero where there is no depth.
    """
    (v, u), inside = nearest_pixels(box, depth.shape, crop_px)
    z = np.where(inside, depth[v, u], np.float32(0))
    return np.moveaxis(camera.back_project(u, v, z), -1, 0).astype(np.float32)


def quantise_crops(crops: Tensor) -> Tensor:
    """Round crops to integers, to be kept in less memory.

    Args:
        crops: (B, 3, S, S) or (B, 8, S, S) as networks take them.

    Returns:
        Colour in 1/255, as uint8 (B, 3, S, S) where there is nothing else; with geometry int16
        (B, 8, S, S), whose mask and validity are -1 or 1 and whose coordinates are millimetres.
    """
    colour = crops[:, :3].mul(255.0).round()
    if crops.shape[1] == 3:
        return colour.to(torch.uint8)
    scale = crops.new_tensor(_STORED_SCALE)[:, None, None]
    return torch.cat([colour, (crops[:, 3:] * scale).round()], dim=1).to(torch.int16)


def dequantise_crops(stored: Tensor) -> Tensor:
    """Crops (B, C, S, S) float32 that `quantise_crops` rounded."""
    colour = stored[:, :3].float().div_(255.0)
    if stored.shape[1] == 3:
        return colour
    scale = colour.new_tensor(_STORED_SCALE)[:, None, None]
    return torch.cat([colour, stored[:, 3:].float() / scale], dim=1)


def rotate_coordinates(channels: Tensor, angle: Tensor) -> Tensor:
    """Rotate the coordinates of `geometry_channels` about the viewing ray.

    Args:
        channels: (B, 5, S, S).
        angle: (B,) radians from x (right) towards y (down).

    Returns:
        (B, 5, S, S); the pixels stay where they are.
    """
    mask, x, y, z, valid = channels.unbind(1)
    cosine, sine = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return torch.stack([mask, cosine * x - sine * y, sine * x + cosine * y, z, valid], dim=1)


def _view_rotations(points: Tensor) -> Tensor:
    """The smallest rotations (B, 3, 3) that take the rays through points (B, 3) to +z."""
    a, b, c = (points / points.norm(dim=1, keepdim=True)).unbind(1)
    k = 1 / (1 + c)
    rows = [1 - a * a * k, -a * b * k, -a, -a * b * k, 1 - b * b * k, -b, a, b, c]
    return torch.stack(rows, dim=1).view(-1, 3, 3)
