"""Images of a bag, raw or compressed, as arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.recorded_frame import RecordingError

DEPTH_HEADER = 12  # bytes of configuration that image_transport puts before a depth image's PNG

_COLOUR_CODES = {
    "rgb8": None,
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "8UC1": cv2.COLOR_GRAY2RGB,
    "8UC3": cv2.COLOR_BGR2RGB,
}
_PIXELS = {
    "rgb8": ("u1", 3), "bgr8": ("u1", 3), "8UC3": ("u1", 3), "rgba8": ("u1", 4), "bgra8": ("u1", 4),
    "mono8": ("u1", 1), "8UC1": ("u1", 1), "mono16": ("u2", 1), "16UC1": ("u2", 1),
    "32SC1": ("i4", 1), "32FC1": ("f4", 1),
}  # fmt: skip


def colour(message: Any, topic: str) -> NDArray[np.uint8]:
    """The colours (H, W, 3) of a sensor_msgs/Image or CompressedImage, as R, G, B.

    Raises:
        RecordingError: it holds something else, or cannot be read.
    """
    if hasattr(message, "format"):
        image = _decoded(message, topic)
        if image.dtype != np.uint8:
            raise RecordingError(f"{topic}: expected 8 bits a channel, got {image.dtype}")
        if image.ndim == 2:
            return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        return cv2.cvtColor(image[..., :3], cv2.COLOR_BGR2RGB)
    image = _pixels(message, topic)
    if message.encoding not in _COLOUR_CODES:
        raise RecordingError(f"{topic}: {message.encoding} is not a colour encoding")
    code = _COLOUR_CODES[message.encoding]
    return image if code is None else cv2.cvtColor(image, code)


def depth(message: Any, topic: str) -> NDArray[Any]:
    """Depth (H, W), uint16 millimetres or float32 metres, as it was recorded.

    Raises:
        RecordingError: it holds something else, or cannot be read.
    """
    if hasattr(message, "format"):
        wrapped = "compressedDepth" in message.format
        image = _decoded(message, topic, DEPTH_HEADER if wrapped else 0)
        if wrapped and message.format.startswith("32FC1"):
            # image_transport stores a / depth + b in 16 bits; a and b are in the header.
            a, b = np.frombuffer(bytes(message.data[4:DEPTH_HEADER]), "<f4")
            image = np.where(image > 0, a / np.maximum(image.astype(np.float32) - b, 1e-6), 0.0)
            return image.astype(np.float32)
    else:
        image = _pixels(message, topic)
    if image.ndim != 2 or image.dtype not in (np.uint16, np.float32):
        raise RecordingError(
            f"{topic}: expected depth as 16UC1 (millimetres) or 32FC1 (metres), got {image.dtype}"
        )
    return image


def labels(message: Any, topic: str) -> NDArray[Any]:
    """Labels (H, W), uint8, uint16 or int32.

    Raises:
        RecordingError: it holds something else, or cannot be read.
    """
    image = _decoded(message, topic) if hasattr(message, "format") else _pixels(message, topic)
    if image.ndim != 2 or image.dtype.kind not in "ui":
        raise RecordingError(
            f"{topic}: expected a label image (mono8, 16UC1 or 32SC1), got {image.shape}"
            f" {image.dtype}"
        )
    return image


def _pixels(message: Any, topic: str) -> NDArray[Any]:
    """A raw sensor_msgs/Image as an array, whatever its row length and byte order."""
    if message.encoding not in _PIXELS:
        raise RecordingError(
            f"{topic}: encoding {message.encoding!r} is not supported; expected one of"
            f" {', '.join(_PIXELS)}"
        )
    kind, channels = _PIXELS[message.encoding]
    dtype = np.dtype((">" if message.is_bigendian else "<") + kind)
    row = message.width * channels * dtype.itemsize
    data = np.frombuffer(message.data, np.uint8)
    if message.step < row or data.size < message.height * message.step:
        raise RecordingError(
            f"{topic}: {data.size} bytes do not hold {message.width} x {message.height} pixels"
            f" of {message.encoding}"
        )
    data = data[: message.height * message.step].reshape(message.height, message.step)[:, :row]
    image = np.ascontiguousarray(data).view(dtype).astype(dtype.newbyteorder("="))
    return image.reshape(message.height, message.width, channels).squeeze(
        -1 if channels == 1 else ()
    )


def _decoded(message: Any, topic: str, skip: int = 0) -> NDArray[Any]:
    data = np.asarray(message.data, np.uint8)[skip:]
    # OpenCV raises on nothing at all, and returns None for what it does not know.
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise RecordingError(f"{topic}: an image of format {message.format!r} cannot be decoded")
    return image
