"""Depth images in metres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image

from crisp_ros.data import image_messages
from crisp_ros.observation.frame import depth_mm_to_m


def depth_m(message: Image | CompressedImage) -> NDArray[np.float32]:
    """Convert a depth image to metres (H, W): 32FC1 is in metres, 16UC1 in millimetres (REP 118).

    Invalid pixels keep their value: 0 in 16UC1, NaN and infinities in 32FC1.

    Raises:
        crisp_ros.data.image_messages.ImageError: see `image_messages.depth`.
    """
    depth = image_messages.depth(message)
    return depth if depth.dtype == np.float32 else depth_mm_to_m(depth)
