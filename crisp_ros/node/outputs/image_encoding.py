"""Images of the node: depth in metres, and messages of arrays."""

from __future__ import annotations

import array

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from crisp_ros.data import image_messages
from crisp_ros.observation.frame import depth_mm_to_m


def depth_m(message: Image | CompressedImage) -> NDArray[np.float32]:
    """Depth (H, W) in metres: 32FC1 is in metres, 16UC1 in millimetres (REP 118).

    What the sensor could not measure keeps its mark: 0 in 16UC1, NaN and infinities in 32FC1.

    Raises:
        crisp_ros.data.image_messages.ImageError: see `image_messages.depth`.
    """
    depth = image_messages.depth(message)
    return depth if depth.dtype == np.float32 else depth_mm_to_m(depth)


def rgb_message(pixels: NDArray[np.uint8], header: Header) -> Image:
    """An rgb8 image of colours (H, W, 3)."""
    return image_message(pixels, "rgb8", header)


def image_message(pixels: NDArray[np.generic], encoding: str, header: Header) -> Image:
    """An image of pixels (H, W) or (H, W, channels), of the type that the encoding names."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()
    message = Image(header=header, height=height, width=width, encoding=encoding)
    message.step = len(data) // height
    # rclpy takes an array.array as it is; of anything else it checks every element.
    message.data = array.array("B", data)
    return message
