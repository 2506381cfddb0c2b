"""Conversion of image messages by cv_bridge, once `crisp_ros.data.image_messages` accepted them."""

from __future__ import annotations

from typing import Any

import numpy as np
from cv_bridge import CvBridge
from numpy.typing import NDArray

from crisp_ros.data.image_decoders import OPENCV, CompressedImage, RawImage

_ALIASES = {"uyvy": "yuv422", "yuyv": "yuv422_yuy2"}  # names that every cv_bridge knows
_PLANAR = ("nv12", "nv21")  # cv_bridge expects rows of whole pixels


class CvBridgeDecoder:
    """Converts images with cv_bridge; see `crisp_ros.data.image_decoders.ImageDecoder`."""

    def __init__(self) -> None:
        self._bridge = CvBridge()

    def pixels(self, image: RawImage) -> NDArray[Any]:
        """Return the elements as they were sent, in this machine's order."""
        return self._bridge.imgmsg_to_cv2(image, "passthrough")

    def rgb(self, image: RawImage) -> NDArray[np.uint8]:
        """Return the colours (H, W, 3), 8 bits."""
        if image.encoding in _PLANAR:
            return OPENCV.rgb(image)
        encoding = _ALIASES.get(image.encoding, image.encoding)
        return self._bridge.imgmsg_to_cv2(image._replace(encoding=encoding), "rgb8")

    def decompressed(self, image: CompressedImage) -> NDArray[Any] | None:
        """Return the stored array, its colours in OpenCV's order."""
        return self._bridge.compressed_imgmsg_to_cv2(image, "passthrough")


CV_BRIDGE = CvBridgeDecoder()
