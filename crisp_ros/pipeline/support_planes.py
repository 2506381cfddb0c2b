"""Support planes of a frame's objects: the plane of the scene that each one stands on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crisp_ros.correction.correspondences import Correspondences
from crisp_ros.correction.shape_starts import Support
from crisp_ros.correction.visibility import Images
from crisp_ros.segmentation.planes import PlaneSettings, find_planes
from crisp_ros.segmentation.point_image import point_image

_WIDTH_PX = 320  # to which the depth image is reduced
_RANGE_M = (0.1, 6.0)
_BELOW_SHARE = 0.1  # of an object's points, that may be under its support
_BELOW_M = 0.01  # under the support, from here on
_GAP_M = 0.08  # between an object's lowest points and its support
_LOWEST_SHARE = 0.05
_LEVEL = (0.0, -1.0, 0.0)  # up in the optical frame of a level camera


def support_planes(observed: Correspondences, images: Images) -> Support:
    """Find the support of each object; where there is none, up is that of a level camera.

    Args:
        observed: of B objects.
        images: that they were seen in.
    """
    depth = images.depth.cpu().numpy()
    labels = images.labels.cpu().numpy()
    scene = point_image(np.where(labels == 0, depth, 0.0), images.camera, _WIDTH_PX, _RANGE_M)
    planes = find_planes(scene.points, scene.normals, scene.valid, PlaneSettings())
    like = observed.points
    normals = torch.tensor([_LEVEL, *(p.normal.tolist() for p in planes)]).to(like)
    offsets = torch.tensor([0.0, *(float(p.offset) for p in planes)]).to(like)
    observed = observed.sanitized()
    heights = observed.points @ normals[1:].T + offsets[1:]  # (B, N, P)
    chosen = [_chosen(h[v]) for h, v in zip(heights, observed.valid, strict=True)]
    rows = torch.tensor(chosen, dtype=torch.long, device=like.device)
    return Support(normals[rows], offsets[rows], rows > 0)


def _chosen(heights: Tensor) -> int:
    """Number, from 1, of the plane on which an object with these heights (N, P) stands; 0: none."""
    if heights.numel() == 0:
        return 0
    below = (heights < -_BELOW_M).to(heights.dtype).mean(0)
    gap = heights.quantile(_LOWEST_SHARE, dim=0).abs()
    gap = gap.masked_fill((below > _BELOW_SHARE) | (gap > _GAP_M), torch.inf)
    best = int(gap.argmin())
    return best + 1 if bool(gap[best] < torch.inf) else 0
