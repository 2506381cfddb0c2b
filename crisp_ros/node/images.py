"""sensor_msgs/Image to arrays and back; units and byte order are settled here."""

from __future__ import annotations

import array

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from crisp_ros.observation.frame import depth_mm_to_m

# Encoding -> element type and channels. Big-endian images get the type's other byte order.
_COLOUR = {
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "mono8": (np.uint8, 1),
}
_DEPTH = {"32FC1": (np.float32, 1), "16UC1": (np.uint16, 1), "mono16": (np.uint16, 1)}
_LABELS = {
    "mono8": (np.uint8, 1),
    "8UC1": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
    "32SC1": (np.int32, 1),
}
_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
}


class ImageError(ValueError):
    """An image message that cannot be read; the text says what was wrong and what was expected."""


def rgb(message: Image) -> NDArray[np.uint8]:
    """The colours (H, W, 3) of an rgb8, bgr8, rgba8, bgra8 or mono8 image, as R, G, B.

    Raises:
        ImageError: another encoding, or fewer bytes than the size asks for.
    """
    pixels = _pixels(message, _COLOUR, "colour")
    if message.encoding == "rgb8":
        return np.ascontiguousarray(pixels)
    return cv2.cvtColor(np.ascontiguousarray(pixels), _TO_RGB[message.encoding])


def depth_m(message: Image) -> NDArray[np.float32]:
    """Depth (H, W) in metres: 32FC1 is in metres, 16UC1 in millimetres (REP 118).

    What the sensor could not measure keeps its mark: 0 in 16UC1, NaN and infinities in 32FC1.

    Raises:
        ImageError: another encoding, or fewer bytes than the size asks for.
    """
    pixels = _pixels(message, _DEPTH, "depth")
    if message.encoding == "32FC1":
        return pixels.astype(np.float32)
    return depth_mm_to_m(pixels.astype(np.uint16))


def labels(message: Image) -> NDArray[np.int32]:
    """Labels (H, W) of a mono8, 8UC1, 16UC1 or 32SC1 segmentation; 0 is the background.

    Raises:
        ImageError: another encoding, or fewer bytes than the size asks for.
    """
    return _pixels(message, _LABELS, "segmentation").astype(np.int32)


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


def _pixels(
    message: Image, encodings: dict[str, tuple[type[np.generic], int]], kind: str
) -> NDArray[np.generic]:
    """A view (H, W) or (H, W, channels) of a message's bytes."""
    if message.encoding not in encodings:
        raise ImageError(
            f"{kind} encoding {message.encoding!r} is not supported: "
            f"expected one of {', '.join(encodings)}"
        )
    element, channels = encodings[message.encoding]
    dtype = np.dtype(element).newbyteorder(">" if message.is_bigendian else "<")
    height, width, step = message.height, message.width, message.step
    row = width * channels * dtype.itemsize
    if height == 0 or width == 0:
        raise ImageError(f"{kind} image is empty: {width} x {height} pixels")
    if step < row:
        raise ImageError(
            f"{kind} image has step {step}: "
            f"{width} pixels of {message.encoding} take at least {row} bytes"
        )
    needed = step * (height - 1) + row
    if len(message.data) < needed:
        raise ImageError(
            f"{kind} image is truncated: {len(message.data)} bytes, "
            f"{width} x {height} {message.encoding} with step {step} takes {needed}"
        )
    shape, strides = (height, width), (step, channels * dtype.itemsize)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, dtype.itemsize)
    return np.ndarray(shape, dtype, buffer=message.data, strides=strides)
