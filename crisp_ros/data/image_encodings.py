"""Rules of image messages: which encodings are accepted for what, and what their bytes mean.

The messages are sensor_msgs/Image and sensor_msgs/CompressedImage, of rclpy or of a recording. The
rules say nothing of how pixels are converted; that is `image_messages`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np


class ImageError(ValueError):
    """An image message that cannot be read; the text says what was wrong and what was expected."""


class Layout(NamedTuple):
    """Storage of a raw image of an encoding; big-endian images have the other byte order.

    Attributes:
        dtype: of an element.
        channels: elements of a pixel in a row.
        rows: rows of elements for each row of pixels; NV12 and NV21 add a half for their colours.
    """

    dtype: type[np.generic]
    channels: int
    rows: Fraction = Fraction(1)


BAYER = tuple(f"bayer_{pattern}" for pattern in ("rggb", "bggr", "gbrg", "grbg"))
YUV = ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21")
COLOUR = {
    "rgb8": Layout(np.uint8, 3),
    "bgr8": Layout(np.uint8, 3),
    "8UC3": Layout(np.uint8, 3),
    "rgba8": Layout(np.uint8, 4),
    "bgra8": Layout(np.uint8, 4),
    "8UC4": Layout(np.uint8, 4),
    "mono8": Layout(np.uint8, 1),
    "8UC1": Layout(np.uint8, 1),
    "rgb16": Layout(np.uint16, 3),
    "bgr16": Layout(np.uint16, 3),
    "rgba16": Layout(np.uint16, 4),
    "bgra16": Layout(np.uint16, 4),
    "mono16": Layout(np.uint16, 1),
    **{f"{pattern}8": Layout(np.uint8, 1) for pattern in BAYER},
    **{f"{pattern}16": Layout(np.uint16, 1) for pattern in BAYER},
    **{name: Layout(np.uint8, 2) for name in YUV[:4]},
    **{name: Layout(np.uint8, 1, Fraction(3, 2)) for name in YUV[4:]},
}
DEPTH = {
    "32FC1": Layout(np.float32, 1),
    "16UC1": Layout(np.uint16, 1),
    "mono16": Layout(np.uint16, 1),
}
LABELS = {
    "mono8": Layout(np.uint8, 1),
    "8UC1": Layout(np.uint8, 1),
    "mono16": Layout(np.uint16, 1),
    "16UC1": Layout(np.uint16, 1),
    "32SC1": Layout(np.int32, 1),
}
KINDS = {"rgb": "colour", "depth": "depth", "segmentation": "segmentation"}  # by input
_WIDE = 32  # px; rows of narrower images may be padded by as many bytes as they have pixels
ENCODINGS = {"colour": COLOUR, "depth": DEPTH, "segmentation": LABELS}
_VIDEO = ("h264", "h265", "hevc", "avc", "av1", "vp8", "vp9", "theora")
_HOW_TO_CONVERT = "convert it, such as by image_proc or cv_bridge"


class CompressedFormat(NamedTuple):
    """Content of the `format` of a CompressedImage, as written by image_transport.

    Attributes:
        encoding: of the image before it was compressed; "" where it is not stated.
        codec: jpeg, png, tiff, ..., or compressedDepth followed by png or rvl.
        stored: encoding of the array that was given to the codec; "" where it is not stated.
    """

    encoding: str
    codec: str
    stored: str

    @property
    def is_depth(self) -> bool:
        """Whether compressedDepth wrote it, with a header before the data."""
        return self.codec.startswith("compressedDepth")


def compressed_format(text: str) -> CompressedFormat:
    """Parse a format such as "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth rvl", "png"."""
    before, separator, after = text.partition(";")
    if not separator:
        before, after = "", before
    words = after.split()
    if not words:
        return CompressedFormat(before.strip(), "", "")
    if words[0] == "compressedDepth":
        codec = words[1].lower() if len(words) > 1 else "png"
        return CompressedFormat(before.strip(), f"compressedDepth {codec}", "")
    stored = words[2] if len(words) > 2 and words[1] == "compressed" else ""
    codec = words[0].lower().removeprefix("image/")
    return CompressedFormat(before.strip(), "jpeg" if codec == "jpg" else codec, stored)


def channel_order(format: CompressedFormat, text: str) -> str:
    """The order of a decoded image's colours, "bgr" or "rgb", when OpenCV has decoded it.

    As image_transport's subscriber: an array given to the codec as bgr8 comes back as blue, green,
    red; any other colour array as it was, so in the order of its own encoding's name. A format that
    names no encoding is a camera's or an old publisher's, with the codec's own order.

    Args:
        format: of the message.
        text: the message's `format`, for the error.

    Raises:
        ImageError: the order cannot be known.
    """
    stored, encoding = format.stored.lower(), format.encoding.lower()
    if stored[:3] in ("bgr", "rgb"):
        return stored[:3]
    if not encoding or encoding.startswith(("mono", "8uc")):
        return "bgr"
    if encoding[:3] in ("bgr", "rgb") and not stored:
        return "rgb"
    raise ImageError(
        f"colour of format {text!r}: the order of its colours cannot be known; expected a format "
        "such as 'rgb8; jpeg compressed bgr8'"
    )


def layout(message: Any, kind: str) -> Layout:
    """Check a raw image's encoding and size without looking at its pixels.

    Args:
        message: the image.
        kind: "colour", "depth" or "segmentation".

    Raises:
        ImageError: the encoding is not one for this kind of image, or the data does not fit the
            size.
    """
    encodings = ENCODINGS[kind]
    if message.encoding not in encodings:
        raise ImageError(
            f"{kind} encoding {message.encoding!r} is not supported: "
            f"expected one of {', '.join(encodings)}; {_HOW_TO_CONVERT}"
        )
    found = encodings[message.encoding]
    height, width, step = message.height, message.width, message.step
    row = width * found.channels * np.dtype(found.dtype).itemsize
    if height == 0 or width == 0:
        raise ImageError(f"{kind} image is empty: {width} x {height} pixels")
    if message.encoding in YUV and (width % 2 or height % found.rows.denominator):
        raise ImageError(
            f"{kind} image of {message.encoding} is {width} x {height} pixels: expected even sizes"
        )
    if step < row:
        raise ImageError(
            f"{kind} image has step {step}: "
            f"{width} pixels of {message.encoding} take at least {row} bytes"
        )
    if step != row and step % width == 0 and width >= _WIDE:
        raise ImageError(
            f"{kind} image has step {step}, {step // width} bytes for each of {width} pixels, but "
            f"{message.encoding} has {row // width}: its encoding is wrong"
        )
    rows = int(height * found.rows)
    needed = step * (rows - 1) + row  # the padding of the last row may be missing
    size = len(message.data)
    if not needed <= size <= step * rows:
        wrong = "truncated" if size < needed else "too long"
        raise ImageError(
            f"{kind} image is {wrong}: {size} bytes, "
            f"{width} x {height} {message.encoding} with step {step} takes {needed}"
        )
    return found


def check(message: Any, kind: str) -> None:
    """Find what is wrong with an image without looking at its pixels.

    Args:
        message: the image.
        kind: "colour", "depth" or "segmentation".

    Raises:
        ImageError: see `layout`. The data of a compressed image is not looked at.
    """
    if not is_compressed(message):
        layout(message, kind)
    elif len(message.data) == 0:
        raise ImageError(f"{kind} image is empty: no data")


def video_hint(format: str) -> str:
    """Return advice if the format of a CompressedImage is a video codec; otherwise ""."""
    if not any(name in format.lower() for name in _VIDEO):
        return ""
    return "; video is not read: republish images (ros2 run image_transport republish)"


def description(message: Any) -> tuple[str, str]:
    """Encoding, or format of a compressed image, and size, such as "rgb8" and "640 x 480"."""
    if is_compressed(message):
        return message.format, f"{len(message.data)} bytes"
    return message.encoding, f"{message.width} x {message.height}"


def is_compressed(message: Any) -> bool:
    """Whether it is a sensor_msgs/CompressedImage."""
    return hasattr(message, "format")
