"""The input of the segmentation network: colour, centred coordinates and height above a plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .network import INPUT_CHANNELS

_POINT_M = 0.5  # unit of coordinates
_HEIGHT_M = 0.05  # unit of the height
_MAX_POINT, _MAX_HEIGHT = 3.0, 8.0  # in these units


def network_input(
    rgb: NDArray[np.uint8],
    points: NDArray[np.float32],
    height: NDArray[np.float32],
    valid: NDArray[np.bool_],
) -> NDArray[np.float32]:
    """Stack the channels of an image (8, h, w).

    Args:
        rgb: (h, w, 3).
        points: (h, w, 3) optical frame, metres; their median depth becomes 0.
        height: (h, w) above the support plane, metres, 0 where there is none.
        valid: (h, w) where depth was measured; elsewhere coordinates and height are 0.
    """
    result = np.zeros((INPUT_CHANNELS, *valid.shape), np.float32)
    result[:3] = rgb.transpose(2, 0, 1) / np.float32(127.5) - np.float32(1.0)
    if valid.any():
        centre = np.array([0.0, 0.0, np.median(points[..., 2][valid])], np.float32)
        apart = np.clip((points - centre) / _POINT_M, -_MAX_POINT, _MAX_POINT)
        result[3:6] = np.where(valid[..., None], apart, 0.0).transpose(2, 0, 1)
        result[6] = np.where(valid, np.clip(height / _HEIGHT_M, -_MAX_HEIGHT, _MAX_HEIGHT), 0.0)
        result[7] = valid
    return result
