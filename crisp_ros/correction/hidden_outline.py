"""Outlines at which an object may go on: behind something nearer, or outside of its mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crisp_ros.correction.batch import take_rows
from crisp_ros.correction.shape_starts import Support
from crisp_ros.correction.visibility import Images, pixel_rays

_REACH_PX = 3  # pixels around an object that count as next to it
_MIXED_PX = 1  # of these the nearest, whose depth may be a mixture
_HOLES_PX = (8, 16)  # to an object's nearest depth, where none is nearer: next to an occluder
_OPEN_PX = (4, 6)  # from here to there the same surface may go on: masks may be too narrow
_NEAREST_PX = 8  # from there to the nearest depth of the object
_BEFORE_M = 0.008  # nearer than the object by more is something in front of it, metres
_ABOVE_M = 0.01  # what is lower above the plane that an object stands on hides nothing, metres
_AT_LENS_M = 1e-3  # depth beyond the border of the image, where anything may be
_NO_OBJECT = 0  # label


class _Surroundings(NamedTuple):
    """Surroundings (H, W) of an object, whose mask does not touch the border.

    Attributes:
        own: 1 in the mask, 0 elsewhere.
        depth: metres, zero where unknown.
        height: above the support, metres; infinite where none is known.
        unlabelled: bool, pixels of no object.
    """

    own: Tensor
    depth: Tensor
    height: Tensor
    unlabelled: Tensor


@torch.no_grad()
def hidden_outline_shares(objects: Tensor, images: Images, support: Support) -> Tensor:
    """Shares (B,) of the objects' outlines along which something nearer, or no image, is next.

    Args:
        objects: (B,) labels in the label image.
        images: depth and labels; pixels without depth prove nothing.
        support: of the objects: in front of them is the plane that they stand on, which hides
            nothing.
    """
    return _shares(_hidden_share, objects, images, support)


@torch.no_grad()
def open_outline_shares(objects: Tensor, images: Images, support: Support) -> Tensor:
    """Shares (B,) of the objects' outlines beyond which their surface goes on, without a label.

    Depth a few pixels outside of the mask is that of the object there, and not of its support.

    Args: as those of `hidden_outline_shares`.
    """
    return _shares(_open_share, objects, images, support)


def _shares(
    share: Callable[[_Surroundings], Tensor], objects: Tensor, images: Images, support: Support
) -> Tensor:
    """Shares (B,) of the objects' outlines, each from what is around the object."""
    reach = max(_HOLES_PX) + 1
    edge = [reach] * 4
    depth = F.pad(images.depth, edge, value=_AT_LENS_M)
    unlabelled = F.pad(images.labels == _NO_OBJECT, edge)
    v, u = (torch.arange(side).to(images.depth) for side in images.depth.shape)
    v, u = torch.meshgrid(v, u, indexing="ij")
    rays = F.pad(pixel_rays(u, v, images.camera), [0, 0, *edge])
    shares = []
    for row, label in enumerate(objects.tolist()):
        own = F.pad((images.labels == label).to(depth), edge)
        rows, columns = (own.amax(axis).nonzero().squeeze(-1) for axis in (1, 0))
        if len(rows) == 0:
            shares.append(depth.new_zeros(()))
            continue
        box = (
            slice(int(rows[0]) - reach, int(rows[-1]) + reach + 1),
            slice(int(columns[0]) - reach, int(columns[-1]) + reach + 1),
        )
        plane = take_rows(support, row)
        height = depth[box] * (rays[box] @ plane.normal.to(rays)) + plane.offset
        height = torch.where(plane.known, height, torch.inf)
        shares.append(share(_Surroundings(own[box], depth[box], height, unlabelled[box])))
    return torch.stack(shares) if shares else depth.new_zeros(0)


def _hidden_share(around: _Surroundings) -> Tensor:
    own, depth, height, _ = around
    nearest = _greatest(around, -depth, _REACH_PX)
    for pixels in _HOLES_PX:
        farther = _greatest(around, -depth, pixels)
        nearest = torch.where(torch.isfinite(nearest), nearest, farther)
    next_to_it = _dilated(own, _REACH_PX) & ~_dilated(own, _MIXED_PX)
    next_to_it &= (depth > 0) & torch.isfinite(nearest)
    in_front = (depth < -nearest - _BEFORE_M) & (height >= _ABOVE_M)
    return (next_to_it & in_front).sum() / next_to_it.sum().clamp_min(1)


def _open_share(around: _Surroundings) -> Tensor:
    own, depth, height, unlabelled = around
    inner, outer = _OPEN_PX
    next_to_it = _dilated(own, outer) & ~_dilated(own, inner) & (depth > 0)
    nearest, farthest = (_greatest(around, sign * depth, _NEAREST_PX) for sign in (-1, 1))
    goes_on = (depth > -nearest - _BEFORE_M) & (depth < farthest + _BEFORE_M)
    goes_on &= unlabelled & (height >= _ABOVE_M)
    return (next_to_it & goes_on).sum() / next_to_it.sum().clamp_min(1)


def _greatest(around: _Surroundings, values: Tensor, reach: int) -> Tensor:
    """The greatest values (H, W) at the object's depth within some pixels, -inf without depth."""
    measured = (around.own > 0) & (around.depth > 0)
    return _maximum(torch.where(measured, values, -torch.inf), reach)


def _dilated(mask: Tensor, reach: int) -> Tensor:
    """The pixels (H, W) bool that are within some pixels of a mask of ones."""
    return _maximum(mask, reach) > 0


def _maximum(image: Tensor, reach: int) -> Tensor:
    """The greatest values (H, W) within a number of pixels, in each direction.

    Windows are doubled until they are large enough: this takes a 20th of the time of pooling.
    """
    for axis, edge in ((0, [0, 0, reach, reach]), (1, [reach, reach])):
        image, size = F.pad(image, edge, value=-torch.inf), 1
        while size <= 2 * reach:
            step = min(size, 2 * reach + 1 - size)
            length = image.shape[axis] - step
            image = torch.maximum(image.narrow(axis, 0, length), image.narrow(axis, step, length))
            size += step
    return image
