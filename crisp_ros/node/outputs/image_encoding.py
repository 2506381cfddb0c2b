"""Image messages from arrays, by cv_bridge."""

from __future__ import annotations

import numpy as np
from cv_bridge import CvBridge
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

_BRIDGE = CvBridge()


def rgb_message(pixels: NDArray[np.uint8], header: Header) -> Image:
    """Create an rgb8 image from colours (H, W, 3)."""
    return image_message(pixels, "rgb8", header)


def image_message(pixels: NDArray[np.generic], encoding: str, header: Header) -> Image:
    """Create an image from pixels (H, W) or (H, W, channels).

    Raises:
        TypeError: the pixels are not of the type that `encoding` names.
    """
    return _BRIDGE.cv2_to_imgmsg(pixels, encoding, header)
