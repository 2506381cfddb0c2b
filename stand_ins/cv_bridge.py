"""Stand-in for cv_bridge: conversion between ROS images and arrays in OpenCV's layout."""

from __future__ import annotations

import array
import re
import sys

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

_DEPTHS = {
    "8U": np.dtype(np.uint8),
    "8S": np.dtype(np.int8),
    "16U": np.dtype(np.uint16),
    "16S": np.dtype(np.int16),
    "32S": np.dtype(np.int32),
    "32F": np.dtype(np.float32),
    "64F": np.dtype(np.float64),
}
_NAMES = {dtype: name for name, dtype in _DEPTHS.items()}
# Encodings with a colour space: OpenCV's name of it, the type, the number of channels.
_COLOURS = {
    "mono8": ("GRAY", "8U", 1),
    "mono16": ("GRAY", "16U", 1),
    "bgr8": ("BGR", "8U", 3),
    "rgb8": ("RGB", "8U", 3),
    "bgra8": ("BGRA", "8U", 4),
    "rgba8": ("RGBA", "8U", 4),
    "bgr16": ("BGR", "16U", 3),
    "rgb16": ("RGB", "16U", 3),
    "bgra16": ("BGRA", "16U", 4),
    "rgba16": ("RGBA", "16U", 4),
    "yuv422": ("UYVY", "8U", 2),
    "yuv422_yuy2": ("YUY2", "8U", 2),
}
# OpenCV names a mosaic by its second row's second and third pixels, ROS by its first two.
for _pattern, _space in (
    ("rggb", "BayerBG"),
    ("bggr", "BayerRG"),
    ("gbrg", "BayerGR"),
    ("grbg", "BayerGB"),
):
    for _bits in (8, 16):
        _COLOURS[f"bayer_{_pattern}{_bits}"] = (_space, f"{_bits}U", 1)
_SOURCES_ONLY = ("UYVY", "YUY2", "BayerBG", "BayerRG", "BayerGR", "BayerGB")


class CvBridgeError(TypeError):
    """An image that cannot be converted to the requested encoding."""


class CvBridge:
    """Converter of images, without state."""

    def imgmsg_to_cv2(self, img_msg: Image, desired_encoding: str = "passthrough") -> NDArray:
        """Return the pixels of a message, (height, width) or (height, width, channels).

        Raises:
            CvBridgeError: unknown encoding, too little data, or an undefined conversion.
        """
        dtype, channels = _layout(img_msg.encoding)
        height, width, step = img_msg.height, img_msg.width, img_msg.step
        data = np.frombuffer(img_msg.data, np.uint8)
        row = width * channels * dtype.itemsize
        if step < row or data.size < step * height:
            raise CvBridgeError(
                f"{width}x{height} {img_msg.encoding} needs {height} rows of {row} bytes; the "
                f"message has step {step} and {data.size} bytes"
            )
        rows = data[: step * height].reshape(height, step)[:, :row]
        wire = dtype.newbyteorder(">" if img_msg.is_bigendian else "<")
        shape = (height, width, channels) if channels > 1 else (height, width)
        image = np.ascontiguousarray(rows).view(wire).astype(dtype, copy=False).reshape(shape)
        return _convert(image, img_msg.encoding, desired_encoding)

    def cv2_to_imgmsg(
        self, cvim: NDArray, encoding: str = "passthrough", header: Header | None = None
    ) -> Image:
        """Return a message with the pixels (height, width) or (height, width, channels).

        Raises:
            CvBridgeError: `encoding` is unknown or does not match the array.
            TypeError: not an array.
        """
        if not isinstance(cvim, np.ndarray):
            raise TypeError(f"expected a NumPy array, got {type(cvim).__name__}")
        channels = 1 if cvim.ndim == 2 else cvim.shape[2]
        if encoding == "passthrough":
            encoding = f"{_NAMES[cvim.dtype.newbyteorder('=')]}C{channels}"
        elif _layout(encoding) != (cvim.dtype.newbyteorder("="), channels):
            raise CvBridgeError(f"{encoding} does not match an array {cvim.dtype} {cvim.shape}")
        message = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=encoding)
        if header is not None:
            message.header = header
        message.is_bigendian = int(_is_bigendian(cvim.dtype))
        message.step = cvim.shape[1] * channels * cvim.dtype.itemsize
        message.data = array.array("B", cvim.tobytes())
        return message

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: CompressedImage, desired_encoding: str = "passthrough"
    ) -> NDArray:
        """Return the decoded image, in BGR order unless another encoding is requested.

        Raises:
            CvBridgeError: the conversion is undefined.
        """
        image = cv2.imdecode(np.frombuffer(cmprs_img_msg.data, np.uint8), cv2.IMREAD_UNCHANGED)
        return _convert(image, "bgr8", desired_encoding)

    def cv2_to_compressed_imgmsg(self, cvim: NDArray, dst_format: str = "jpg") -> CompressedImage:
        """Return a message with the image encoded as `dst_format`, a file name extension.

        Raises:
            TypeError: not an array.
        """
        if not isinstance(cvim, np.ndarray):
            raise TypeError(f"expected a NumPy array, got {type(cvim).__name__}")
        message = CompressedImage(format=dst_format)
        message.data = array.array("B", cv2.imencode(f".{dst_format}", cvim)[1].tobytes())
        return message


def _layout(encoding: str) -> tuple[np.dtype, int]:
    """Return the element type and the number of channels of an encoding."""
    if encoding in _COLOURS:
        _, depth, channels = _COLOURS[encoding]
        return _DEPTHS[depth], channels
    match = re.fullmatch(r"(8U|8S|16U|16S|32S|32F|64F)C([1-4])?", encoding)
    if match is None:
        raise CvBridgeError(f"unrecognised image encoding [{encoding}]")
    return _DEPTHS[match[1]], int(match[2] or 1)


def _convert(image: NDArray, encoding: str, desired: str) -> NDArray:
    if desired in ("passthrough", encoding):
        return image
    if _layout(desired) == _layout(encoding) and desired not in _COLOURS:
        return image
    if not {encoding, desired} <= set(_COLOURS) or _COLOURS[desired][0] in _SOURCES_ONLY:
        raise CvBridgeError(f"cannot convert [{encoding}] to [{desired}]")
    (source, source_bits, _), (target, target_bits, _) = _COLOURS[encoding], _COLOURS[desired]
    if source in ("UYVY", "YUY2"):
        image = cv2.cvtColor(image, getattr(cv2, f"COLOR_YUV2{target}_{source}"))
    elif source != target:
        image = cv2.cvtColor(image, getattr(cv2, f"COLOR_{source}2{target}"))
    if source_bits == target_bits:
        return image
    if target_bits == "8U":
        return np.rint(image * (255 / 65535)).astype(np.uint8)
    return image.astype(np.uint16) * np.uint16(257)


def _is_bigendian(dtype: np.dtype) -> bool:
    return dtype.byteorder == ">" or (dtype.byteorder == "=" and sys.byteorder == "big")
