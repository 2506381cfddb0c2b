"""Image messages from arrays."""

from __future__ import annotations

import array

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header


def rgb_message(pixels: NDArray[np.uint8], header: Header) -> Image:
    """Create an rgb8 image from colours (H, W, 3)."""
    return image_message(pixels, "rgb8", header)


def image_message(pixels: NDArray[np.generic], encoding: str, header: Header) -> Image:
    """Create an image from pixels (H, W) or (H, W, channels), of the type that `encoding` names."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()
    message = Image(header=header, height=height, width=width, encoding=encoding)
    message.step = len(data) // height
    # rclpy assigns an array.array unchecked; of other types it checks every element.
    message.data = array.array("B", data)
    return message
