"""Conversion of image messages to arrays, once the rules have accepted them.

The node converts with cv_bridge (`crisp_ros.node.inputs.cv_bridge_decoder`); readers of recordings,
which have no ROS, with OpenCV. Both return the same pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.image_encodings import BAYER, ENCODINGS, YUV

_ALL = {name: found for known in ENCODINGS.values() for name, found in known.items()}
# OpenCV names a mosaic by its second row's second and third pixels, ROS by its first two.
_DEMOSAIC = dict(
    zip(
        BAYER,
        (
            cv2.COLOR_BayerBG2RGB,
            cv2.COLOR_BayerRG2RGB,
            cv2.COLOR_BayerGR2RGB,
            cv2.COLOR_BayerGB2RGB,
        ),
        strict=True,
    )
)
_FROM_YUV = dict(
    zip(
        YUV,
        (
            cv2.COLOR_YUV2RGB_UYVY,
            cv2.COLOR_YUV2RGB_UYVY,
            cv2.COLOR_YUV2RGB_YUY2,
            cv2.COLOR_YUV2RGB_YUY2,
            cv2.COLOR_YUV2RGB_NV12,
            cv2.COLOR_YUV2RGB_NV21,
        ),
        strict=True,
    )
)
_TO_RGB = {
    **_DEMOSAIC,
    "bgr": cv2.COLOR_BGR2RGB,
    "rgba": cv2.COLOR_RGBA2RGB,
    "bgra": cv2.COLOR_BGRA2RGB,
    "mono": cv2.COLOR_GRAY2RGB,
}


class RawImage(NamedTuple):
    """Fields of a sensor_msgs/Image without padding; data of either byte order."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class CompressedImage(NamedTuple):
    """Fields of a sensor_msgs/CompressedImage whose data is one whole file."""

    format: str
    data: Any


class ImageDecoder(Protocol):
    """Conversion of messages that `image_encodings` has accepted."""

    def pixels(self, image: RawImage) -> NDArray[Any]:
        """The elements (H, W) or (H, W, channels) as they were sent, in this machine's order."""

    def rgb(self, image: RawImage) -> NDArray[np.uint8]:
        """The colours (H, W, 3), 8 bits; 8UC1, 8UC3 and 8UC4 have become mono8, bgr8, bgra8."""

    def decompressed(self, image: CompressedImage) -> NDArray[Any] | None:
        """The stored array, its colours in OpenCV's order; None if it is no whole image."""


class OpenCvDecoder:
    """Converts images with NumPy and OpenCV."""

    def pixels(self, image: RawImage) -> NDArray[Any]:
        """See `ImageDecoder`."""
        found = _ALL[image.encoding]
        dtype = np.dtype(found.dtype).newbyteorder(">" if image.is_bigendian else "<")
        shape = (int(image.height * found.rows), image.width, found.channels)
        pixels = np.frombuffer(image.data, dtype).reshape(shape[: 2 + (found.channels > 1)])
        return pixels.astype(dtype.newbyteorder("="))  # a copy: data of a bag are read-only

    def rgb(self, image: RawImage) -> NDArray[np.uint8]:
        """See `ImageDecoder`."""
        pixels = self.pixels(image)
        if image.encoding in YUV:
            return cv2.cvtColor(pixels, _FROM_YUV[image.encoding])
        return array_to_rgb(pixels, image.encoding.removesuffix("16").removesuffix("8"))

    def decompressed(self, image: CompressedImage) -> NDArray[Any] | None:
        """See `ImageDecoder`."""
        return cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_UNCHANGED)


def array_to_rgb(pixels: NDArray[Any], order: str) -> NDArray[np.uint8]:
    """Convert an array of 8 or 16 bits to red, green, blue of 8 bits.

    Args:
        pixels: (H, W) or (H, W, channels).
        order: rgb, bgr, rgba, bgra, mono or a pattern of BAYER.
    """
    if order != "rgb":
        pixels = cv2.cvtColor(np.ascontiguousarray(pixels), _TO_RGB[order])
    if pixels.dtype == np.uint16:  # so that white stays white
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.ascontiguousarray(pixels)


OPENCV = OpenCvDecoder()
