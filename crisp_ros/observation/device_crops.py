"""Crops made on a GPU: the images go up as they are, and are resampled there."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.observation.crop_channels import GREY, geometry_channels
from crisp_ros.observation.frame import Camera


class CropRecipe(NamedTuple):
    """Rules of the crops of a frame, as the arguments of `observe`.

    Attributes:
        camera: of the images.
        crop_size: S, px.
        crop_rule: one of `CROP_RULES`.
        depth_m: least and greatest depth that counts, metres; None leaves the geometry out.
    """

    camera: Camera
    crop_size: int
    crop_rule: str
    depth_m: tuple[float, float] | None


@torch.no_grad()
def device_crops(
    recipe: CropRecipe, rgb: Tensor, depth: Tensor, masks: Tensor, boxes: Tensor
) -> Tensor:
    """The crops (B, C, S, S) of `observe`, up to a grey level of rounding.

    Args:
        recipe: of the frame.
        rgb: (H, W, 3) uint8.
        depth: (H, W) metres, 0 where invalid.
        masks: (B, S, S) bool, which pixels of the crops show the objects.
        boxes: (B, 4) left, top, width and height of the crops in the images, px.
    """
    return run_captured(_crops, (recipe,), masks, boxes, shared=(rgb, depth))[0]


def _crops(
    recipe: CropRecipe, rgb: Tensor, depth: Tensor, masks: Tensor, boxes: Tensor
) -> tuple[Tensor]:
    colours = _colours(recipe, rgb, boxes)
    if recipe.depth_m is None:
        return (colours,)
    points = _points(recipe, depth, boxes)
    return (torch.cat((colours, geometry_channels(points, masks)), dim=1),)


def _colours(recipe: CropRecipe, rgb: Tensor, boxes: Tensor) -> Tensor:
    """The resampled colours (B, 3, S, S) in [0, 1], grey outside of the image."""
    height, width = rgb.shape[:2]
    columns = _weights(recipe, boxes[:, 0], boxes[:, 2], boxes[:, 2], width)
    rows = _weights(recipe, boxes[:, 1], boxes[:, 3], boxes[:, 2], height)
    # Rows first: all colours of the image's columns at once.
    lines = rows @ rgb.float().flatten(1)
    colours = columns[:, None] @ lines.unflatten(-1, (width, 3))
    colours = colours.permute(0, 3, 1, 2)
    inside = rows.sum(-1)[:, :, None] * columns.sum(-1)[:, None]
    colours = colours + GREY * (1.0 - inside)[:, None]
    return colours.round().clamp(0.0, 255.0) / 255.0


def _weights(
    recipe: CropRecipe, first: Tensor, extent: Tensor, across: Tensor, size: int
) -> Tensor:
    """The weights (B, S, size) of an image's rows, or columns, in those of the crops.

    Pixels of a square that shrinks are averages, those of other crops interpolated.

    Args:
        recipe: of the frame.
        first: (B,) where the crops begin, px.
        extent: (B,) how far they extend, px.
        across: (B,) their widths, px.
        size: number of the image's rows or columns.
    """
    S = recipe.crop_size
    pixels = torch.arange(size, dtype=first.dtype, device=first.device)
    steps = torch.arange(S, dtype=first.dtype, device=first.device)[:, None]
    step = (extent / S)[:, None, None]
    place = pixels - first[:, None, None]  # in the crop's box
    middle = (steps + 0.5) * step - 0.5
    middle = torch.minimum(middle.clamp_min(0.0), extent[:, None, None] - 1.0)
    interpolated = (1.0 - (place - middle).abs()).clamp_min(0.0)
    if recipe.crop_rule != "square":
        return interpolated
    low, high = steps * step, (steps + 1.0) * step
    overlap = torch.minimum(place + 1.0, high) - torch.maximum(place, low)
    shrinks = (across > S)[:, None, None]
    return torch.where(shrinks, overlap.clamp_min(0.0) / step, interpolated)


def _points(recipe: CropRecipe, depth: Tensor, boxes: Tensor) -> Tensor:
    """The points (B, 3, S, S) that the crops' pixels show, camera frame; zero where invalid."""
    left, top, side = boxes[:, :3, None].double().unbind(1)
    steps = torch.arange(recipe.crop_size, dtype=torch.float64, device=boxes.device) + 0.5
    steps = (steps * side / recipe.crop_size).floor()
    u, v = (left + steps).long(), (top + steps).long()
    height, width = depth.shape
    inside = ((u >= 0) & (u < width))[:, None] & ((v >= 0) & (v < height))[:, :, None]
    u, v = u.clamp(0, width - 1)[:, None], v.clamp(0, height - 1)[:, :, None]
    near, far = recipe.depth_m
    z = depth[v, u]
    z = torch.where(inside & (z >= near) & (z <= far), z, 0.0)
    camera = recipe.camera
    x, y = (u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z
    return torch.stack((x, y, z), dim=1)
