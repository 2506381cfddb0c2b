"""Images of messages, raw or compressed as image_transport does it, as arrays.

The messages are sensor_msgs/Image and sensor_msgs/CompressedImage, of rclpy or of a recording.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

DEPTH_HEADER = 12  # bytes that compressedDepth puts before a PNG: an enum and two float32


class ImageError(ValueError):
    """An image message that cannot be read; the text says what was wrong and what was expected."""


class _Layout(NamedTuple):
    """Element type and channels of an encoding; big-endian images have the other byte order."""

    dtype: type[np.generic]
    channels: int


_COLOUR = {
    "rgb8": _Layout(np.uint8, 3),
    "bgr8": _Layout(np.uint8, 3),
    "8UC3": _Layout(np.uint8, 3),
    "rgba8": _Layout(np.uint8, 4),
    "bgra8": _Layout(np.uint8, 4),
    "mono8": _Layout(np.uint8, 1),
    "8UC1": _Layout(np.uint8, 1),
}
_DEPTH = {
    "32FC1": _Layout(np.float32, 1),
    "16UC1": _Layout(np.uint16, 1),
    "mono16": _Layout(np.uint16, 1),
}
_LABELS = {
    "mono8": _Layout(np.uint8, 1),
    "8UC1": _Layout(np.uint8, 1),
    "mono16": _Layout(np.uint16, 1),
    "16UC1": _Layout(np.uint16, 1),
    "32SC1": _Layout(np.int32, 1),
}
_ENCODINGS = {"colour": _COLOUR, "depth": _DEPTH, "segmentation": _LABELS}
_TO_RGB = {
    "bgr8": cv2.COLOR_BGR2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,  # OpenCV's own order
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
}


def colour(message: Any) -> NDArray[np.uint8]:
    """The colours (H, W, 3) of an image, as R, G, B.

    rgb8, bgr8, rgba8, bgra8, mono8 and their nameless kin; compressed: JPEG or PNG.

    Raises:
        ImageError: another encoding, or data that the size or the format does not fit.
    """
    if not _is_compressed(message):
        pixels = _pixels(message, "colour")
        if message.encoding == "rgb8":
            return np.ascontiguousarray(pixels)
        return cv2.cvtColor(np.ascontiguousarray(pixels), _TO_RGB[message.encoding])
    image = _decoded(message, "colour")
    if image.dtype != np.uint8:
        raise ImageError(f"colour has {image.dtype} channels, expected 8 bits a channel")
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    return cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2RGB)


def depth(message: Any) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Depth (H, W): uint16 millimetres or float32 metres, as it was sent (REP 118).

    16UC1, mono16 and 32FC1; compressed: a 16-bit PNG, or compressedDepth with a PNG. What the
    sensor could not measure keeps its mark: 0, in 32FC1 also NaN and infinities.

    Raises:
        ImageError: another encoding, or data that the size or the format does not fit.
    """
    if not _is_compressed(message):
        return _native(_pixels(message, "depth"))
    if "compressedDepth" not in message.format:
        image = _decoded(message, "depth")
    elif "rvl" in message.format:
        raise ImageError(
            f"depth format {message.format!r} is not supported: set the publisher's "
            "compressedDepth format to png"
        )
    elif len(message.data) < DEPTH_HEADER:
        raise ImageError(f"depth has {len(message.data)} bytes: too few for compressedDepth")
    else:
        image = _decoded(message, "depth", DEPTH_HEADER)
    if image.ndim != 2 or image.dtype != np.uint16:
        raise ImageError(
            f"depth of format {message.format!r} holds {image.dtype} {image.shape}, expected one "
            "channel of 16 bits: JPEG and 8 bits lose too much"
        )
    if "compressedDepth" in message.format and message.format.startswith("32FC1"):
        return _dequantised(image, message)
    return image


def labels(message: Any) -> NDArray[np.integer]:
    """Labels (H, W), uint8, uint16 or int32.

    mono8, 8UC1, mono16, 16UC1 and 32SC1; compressed: a PNG of 8 or 16 bits.

    Raises:
        ImageError: another encoding, or data that the size or the format does not fit.
    """
    if not _is_compressed(message):
        return _native(_pixels(message, "segmentation"))
    if "jp" in message.format:
        raise ImageError(f"segmentation format {message.format!r} changes labels: expected a PNG")
    image = _decoded(message, "segmentation")
    if image.ndim != 2:
        raise ImageError(
            f"segmentation of format {message.format!r} has {image.shape[2]} channels, expected one"
        )
    return image


def check(message: Any, kind: str) -> None:
    """Finds what is wrong with an image without looking at its pixels.

    Args:
        message: the image.
        kind: "colour", "depth" or "segmentation".

    Raises:
        ImageError: the encoding is not one for this kind of image, or the data does not fit the
            size. The data of a compressed image is not looked at.
    """
    if not _is_compressed(message):
        _pixels(message, kind)
    elif len(message.data) == 0:
        raise ImageError(f"{kind} image is empty: no data")


def description(message: Any) -> tuple[str, str]:
    """Encoding, or format of a compressed image, and size, such as "rgb8" and "640 x 480"."""
    if _is_compressed(message):
        return message.format, f"{len(message.data)} bytes"
    return message.encoding, f"{message.width} x {message.height}"


def _is_compressed(message: Any) -> bool:
    return hasattr(message, "format")


def _native(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels.astype(pixels.dtype.newbyteorder("="))


def _pixels(message: Any, kind: str) -> NDArray[Any]:
    """A view (H, W) or (H, W, channels) of a raw image's bytes."""
    encodings = _ENCODINGS[kind]
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
    needed = step * (height - 1) + row  # the padding of the last row may be missing
    size = len(message.data)
    if not needed <= size <= step * height:
        wrong = "truncated" if size < needed else "too long"
        raise ImageError(
            f"{kind} image is {wrong}: {size} bytes, "
            f"{width} x {height} {message.encoding} with step {step} takes {needed}"
        )
    shape, strides = (height, width), (step, channels * dtype.itemsize)
    if channels > 1:
        shape, strides = (*shape, channels), (*strides, dtype.itemsize)
    return np.ndarray(shape, dtype, buffer=message.data, strides=strides)


def _decoded(message: Any, kind: str, skip: int = 0) -> NDArray[Any]:
    data = np.frombuffer(message.data, np.uint8)[skip:]
    try:
        # OpenCV raises on nothing at all, and returns None for what it does not know.
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    except cv2.error as error:  # a size beyond all reason
        raise ImageError(f"{kind} cannot be decoded: {error.err or error}") from error
    if image is None:
        raise ImageError(
            f"{kind} of format {message.format!r} cannot be decoded: "
            f"{data.size} bytes that are no whole image"
        )
    return image


def _dequantised(image: NDArray[np.uint16], message: Any) -> NDArray[np.float32]:
    """Metres of what image_transport stored: a / depth + b in 16 bits, 0 where there was none."""
    a, b = np.frombuffer(message.data, "<f4", count=2, offset=4)
    if not (np.isfinite(a) and np.isfinite(b) and a > 0):
        raise ImageError(f"depth has the quantisation {a}, {b}: expected positive, finite numbers")
    value = image.astype(np.float32) - b
    valid = (image > 0) & (value > 0)
    return np.divide(a, value, out=np.zeros_like(value), where=valid)
