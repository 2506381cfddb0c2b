"""Values of the network's maps at image pixels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def crop_grid(pixels: Tensor, boxes: Tensor) -> Tensor:
    """Image pixels as positions in crops, -1 and 1 being the crops' outer edges.

    Args:
        pixels: (B, N, 2), u and v in the image.
        boxes: (B, 4), left, top, width and height of the crops, px.

    Returns:
        (B, N, 2), x and y.
    """
    corner, sides = boxes[:, None, :2], boxes[:, None, 2:]
    return 2 * (pixels + 0.5 - corner) / sides - 1


def read_maps(maps: Tensor, grid: Tensor) -> Tensor:
    """Values (B, N, C) of maps at positions, interpolated between their pixels.

    Args:
        maps: (B, C, S', S') of the crops, any resolution.
        grid: (B, N, 2) as `crop_grid` returns it.
    """
    read = functional.grid_sample(
        maps, grid[:, None].to(maps.dtype), padding_mode="border", align_corners=False
    )
    return read[:, :, 0].transpose(1, 2)
