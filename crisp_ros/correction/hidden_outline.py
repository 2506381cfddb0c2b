"""Hidden outlines: an object that ends where something nearer begins may go on behind it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crisp_ros.correction.batch import take_rows
from crisp_ros.correction.shape_starts import Support
from crisp_ros.correction.visibility import Images, pixel_rays

_REACH_PX = 3  # pixels around an object that count as next to it
_MIXED_PX = 1  # of these the nearest, whose depth may be a mixture
_BEFORE_M = 0.008  # nearer than the object by more is something in front of it, metres
_ABOVE_M = 0.01  # what is lower above the plane that an object stands on hides nothing, metres
_AT_LENS_M = 1e-3  # depth beyond the border of the image, where anything may be


@torch.no_grad()
def hidden_outline_shares(objects: Tensor, images: Images, support: Support) -> Tensor:
    """Shares (B,) of the objects' outlines along which something nearer, or no image, is next.

    Args:
        objects: (B,) labels in the label image.
        images: depth and labels; pixels without depth prove nothing.
        support: of the objects: in front of them is the plane that they stand on, which hides
            nothing.
    """
    edge = [_REACH_PX + 1] * 4
    depth = F.pad(images.depth, edge, value=_AT_LENS_M)
    v, u = (torch.arange(side).to(images.depth) for side in images.depth.shape)
    v, u = torch.meshgrid(v, u, indexing="ij")
    rays = F.pad(pixel_rays(u, v, images.camera), [0, 0, *edge])
    shares = []
    for row, label in enumerate(objects.tolist()):
        own = F.pad((images.labels == label).to(depth), edge)
        shares.append(_hidden_share(own, depth, rays, take_rows(support, row)))
    return torch.stack(shares) if shares else depth.new_zeros(0)


def _hidden_share(own: Tensor, depth: Tensor, rays: Tensor, support: Support) -> Tensor:
    """The share of one object, whose mask (H, W) does not touch the border."""
    rows, columns = (own.amax(axis).nonzero().squeeze(-1) for axis in (1, 0))
    if len(rows) == 0:
        return depth.new_zeros(())
    reach = _REACH_PX + 1
    box = (
        slice(int(rows[0]) - reach, int(rows[-1]) + reach + 1),
        slice(int(columns[0]) - reach, int(columns[-1]) + reach + 1),
    )
    own, depth, rays = own[box], depth[box], rays[box]
    nearest = -_maximum(torch.where((own > 0) & (depth > 0), -depth, -torch.inf), _REACH_PX)
    next_to_it = (_maximum(own, _REACH_PX) > 0) & ~(_maximum(own, _MIXED_PX) > 0)
    next_to_it &= (depth > 0) & torch.isfinite(nearest)
    height = depth * (rays @ support.normal.to(rays)) + support.offset
    in_front = (depth < nearest - _BEFORE_M) & ~(support.known & (height < _ABOVE_M))
    return (next_to_it & in_front).sum() / next_to_it.sum().clamp_min(1)


def _maximum(image: Tensor, reach: int) -> Tensor:
    """The greatest values (H, W) within a number of pixels."""
    return F.max_pool2d(image[None, None], 2 * reach + 1, 1, reach)[0, 0]
