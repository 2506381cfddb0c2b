"""Random faults of masks and depth, as segmenters and depth cameras have them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crisp_ros.observation.crop_channels import geometry_channels, rotate_coordinates
from crisp_ros.validation import check_ranges, ranged

from .draws import Draws


@dataclass(frozen=True)
class GeometryAugmentSettings:
    """Frequency and size of mask and depth errors; lengths are shares of the crop's side.

    Attributes:
        change_share: of masks that grow or shrink.
        change: by at most this much.
        bite_share: of masks that lose everything on one side of a line.
        neighbour_share: of masks that take a piece of what is next to the object.
        neighbour: how far such a piece reaches.
        no_depth_share: of crops without any depth.
        hole_share: of crops whose depth has holes.
        edge_share: of crops whose depth ends short of the mask's border.
        noise_m: largest standard deviation of the depth's noise, pixel by pixel.
        wave_m: the same of noise that changes slowly over the image.
        scale: largest relative error of all depth.
    """

    change_share: float = ranged(0.6, 0.0, 1.0)
    change: float = ranged(0.05, 0.0, 0.5)
    bite_share: float = ranged(0.12, 0.0, 1.0)
    neighbour_share: float = ranged(0.2, 0.0, 1.0)
    neighbour: float = ranged(0.12, 0.0, 0.5)
    no_depth_share: float = ranged(0.1, 0.0, 1.0)
    hole_share: float = ranged(0.3, 0.0, 1.0)
    edge_share: float = ranged(0.3, 0.0, 1.0)
    noise_m: float = ranged(0.003, 0.0, 0.1)
    wave_m: float = ranged(0.004, 0.0, 0.1)
    scale: float = ranged(0.03, 0.0, 0.5)

    def __post_init__(self) -> None:
        check_ranges(self)

    @staticmethod
    def none() -> GeometryAugmentSettings:
        """Settings that keep masks and depth as they are."""
        return GeometryAugmentSettings(*[0.0] * 11)


class CropGeometry(NamedTuple):
    """Depth and mask of crops.

    Attributes:
        points: (B, 3, s, s) float, camera frame, metres; z = 0 where nothing was measured.
        labels: (B, s, s) uint8: 1 for the object, 0 for what is behind it, others for neighbours.
    """

    points: Tensor
    labels: Tensor


def geometry_view(
    geometry: CropGeometry,
    grid: Tensor,
    covered: Tensor,
    angle: Tensor,
    settings: GeometryAugmentSettings,
    draws: Draws,
) -> Tensor:
    """Mask and geometry channels of a random view of stored crops.

    Args:
        geometry: of the stored crops.
        grid: (B, S, S, 2), where the view's pixels are in the stored crops (`F.grid_sample`).
        covered: (B, S, S) bool, pixels that something hides.
        angle: (B,) by which a direction of the view is rotated to be that of the stored crop.
        settings: the faults.
        draws: the random numbers, for B crops.

    Returns:
        (B, 5, S, S), see `geometry_channels`.
    """
    stored = torch.cat([geometry.points, geometry.labels[:, None].to(geometry.points.dtype)], dim=1)
    seen = F.grid_sample(stored, grid, mode="nearest", align_corners=False)
    labels = torch.where(covered, 0.0, seen[:, 3]).round()
    mask = faulty_mask(labels == 1, labels > 1, settings, draws)
    points = torch.where(covered[:, None], 0.0, seen[:, :3])
    points = faulty_depth(points, mask, settings, draws)
    return rotate_coordinates(geometry_channels(points, mask), -angle)


def faulty_mask(
    mask: Tensor, neighbours: Tensor, settings: GeometryAugmentSettings, draws: Draws
) -> Tensor:
    """Masks (B, S, S) that are grown, shrunk, bitten or take a piece of a neighbour.

    Args:
        mask: (B, S, S) bool, the object's pixels.
        neighbours: (B, S, S) bool, other objects' pixels.
        settings: the faults.
        draws: the random numbers.
    """
    side = mask.shape[-1]
    if settings.change_share > 0.0:
        chosen = draws.uniform(0.0, 1.0) < settings.change_share
        steps = draws.uniform(-1.0, 1.0) * settings.change * side * chosen
        # A segmenter's error is not the same all around.
        where = _patches(draws, 6, side) < draws.uniform(0.3, 1.2, 1, 1)
        mask = torch.where(where, _moved_border(mask, steps.round()), mask)
    if settings.neighbour_share > 0.0:
        chosen = draws.uniform(0.0, 1.0, 1, 1) < settings.neighbour_share
        anything = draws.uniform(0.0, 1.0, 1, 1) < 0.4
        near = _dilated(mask, round(settings.neighbour * side))
        near = near & _half_plane(draws, (-0.3, 0.5), side)
        mask = mask | (chosen & near & (neighbours | anything))
    if settings.bite_share > 0.0:
        chosen = draws.uniform(0.0, 1.0, 1, 1) < settings.bite_share
        mask = mask & ~(chosen & _half_plane(draws, (0.05, 0.6), side))
    return mask


def faulty_depth(
    points: Tensor, mask: Tensor, settings: GeometryAugmentSettings, draws: Draws
) -> Tensor:
    """Points (B, 3, S, S) with noise, a scale error and gaps; z = 0 where nothing is measured.

    Args:
        points: (B, 3, S, S) camera frame, metres.
        mask: (B, S, S) bool, as the segmenter gives it.
        settings: the faults.
        draws: the random numbers.
    """
    side = mask.shape[-1]
    valid = points[:, 2] > 0
    if settings.noise_m > 0.0 or settings.wave_m > 0.0:
        noise = settings.noise_m * draws.uniform(0.0, 1.0, 1, 1) * draws.normal(side, side)
        wave = _upsampled(draws.normal(6, 6), side)
        noise = noise + settings.wave_m * draws.uniform(0.0, 1.0, 1, 1) * wave
        points = points * (1.0 + noise / points[:, 2].clamp(min=0.05))[:, None]
    if settings.scale > 0.0:
        points = points * (1.0 + settings.scale * draws.uniform(-1.0, 1.0, 1, 1, 1))
    if settings.hole_share > 0.0:
        chosen = draws.uniform(0.0, 1.0, 1, 1) < settings.hole_share
        holes = _patches(draws, 10, side) > draws.uniform(0.45, 0.9, 1, 1)
        valid = valid & ~(chosen & holes)
    if settings.edge_share > 0.0:
        chosen = draws.uniform(0.0, 1.0) < settings.edge_share
        steps = draws.uniform(-0.04, 0.0) * side * chosen
        valid = valid & _moved_border(mask, steps.round())
    if settings.no_depth_share > 0.0:
        valid = valid & (draws.uniform(0.0, 1.0, 1, 1) >= settings.no_depth_share)
    return torch.where(valid[:, None], points, 0.0)


def _moved_border(mask: Tensor, steps: Tensor) -> Tensor:
    """Masks (B, S, S) grown by steps (B,) pixels, or shrunk where these are negative."""
    grown = shrunk = mask[:, None].float()
    for step in range(1, int(steps.abs().max().item()) + 1):
        grown = torch.where(_column(steps >= step), F.max_pool2d(grown, 3, 1, 1), grown)
        shrunk = torch.where(_column(steps <= -step), -F.max_pool2d(-shrunk, 3, 1, 1), shrunk)
    return torch.where(_column(steps > 0), grown, shrunk)[:, 0] > 0.5


def _dilated(mask: Tensor, reach: int) -> Tensor:
    """Masks (B, S, S) grown by a square's half side, px."""
    wide = F.max_pool2d(mask[:, None].float(), (1, 2 * reach + 1), 1, (0, reach))
    return F.max_pool2d(wide, (2 * reach + 1, 1), 1, (reach, 0))[:, 0] > 0.5


def _half_plane(draws: Draws, offset: tuple[float, float], side: int) -> Tensor:
    """Pixels (B, side, side) beyond random lines, whose distance from the middle is in a range."""
    angle = draws.uniform(0.0, 2 * torch.pi, 1, 1)
    axis = (torch.arange(side, device=angle.device) + 0.5) * 2.0 / side - 1.0
    across = torch.cos(angle) * axis[None, None, :] + torch.sin(angle) * axis[None, :, None]
    return across > draws.uniform(*offset, 1, 1)


def _patches(draws: Draws, cells: int, side: int) -> Tensor:
    """Smooth random fields (B, side, side) in [0, 1]."""
    return _upsampled(draws.uniform(0.0, 1.0, cells, cells), side)


def _upsampled(field: Tensor, side: int) -> Tensor:
    size = (side, side)
    return F.interpolate(field[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]
