"""Crops of a set as the tensors that views are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from crisp_ros.synthesis.crop_set import CROP_MARGIN, Crops

from .augment import StoredViews
from .augment_geometry import CropGeometry


def stored_views(crops: Crops, geometry: bool, device: torch.device) -> StoredViews:
    """Stored crops on a device.

    Args:
        crops: B crops.
        geometry: whether the network sees mask and geometry.
        device: where the tensors go.

    Raises:
        ValueError: the network sees geometry, and the crops were stored without depth.
    """
    rgb = torch.from_numpy(crops.rgb).permute(0, 3, 1, 2).to(device)
    pnc = torch.from_numpy(crops.pnc).permute(0, 3, 1, 2).to(device)
    if not geometry:
        return StoredViews(rgb, pnc, CROP_MARGIN)
    if crops.depth is None:
        raise ValueError(
            "the crops were stored without depth, which this network needs: render them again"
        )
    depth = torch.from_numpy(crops.depth).to(device)
    labels = torch.from_numpy(crops.labels).to(device)
    points = _back_projected(depth, torch.from_numpy(crops.camera).to(device))
    return StoredViews(rgb, pnc, CROP_MARGIN, CropGeometry(points, labels))


def _back_projected(depth: Tensor, camera: Tensor) -> Tensor:
    """Points (B, 3, s, s) of depth (B, s, s), metres; cameras (B, 4) are fx, fy, cx, cy, px."""
    side = torch.arange(depth.shape[-1], device=depth.device, dtype=depth.dtype)
    fx, fy, cx, cy = camera[:, :, None].unbind(1)
    x = ((side - cx) / fx)[:, None, :] * depth
    y = ((side - cy) / fy)[:, :, None] * depth
    return torch.stack([x, y, depth], dim=1)
