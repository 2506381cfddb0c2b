"""Pixels of image messages, raw or compressed as image_transport does it, as arrays.

`image_encodings` has the rules of what is accepted. They are applied here, before a decoder
(`image_decoders`) converts the bytes: cv_bridge in the node, OpenCV elsewhere.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.image_decoders import (
    OPENCV,
    CompressedImage,
    ImageDecoder,
    RawImage,
    array_to_rgb,
)
from crisp_ros.data.image_encodings import (
    BAYER,
    YUV,
    ImageError,
    channel_order,
    check,
    compressed_format,
    description,
    is_compressed,
    layout,
    video_hint,
)
from crisp_ros.data.rvl import RvlError, decode_rvl

__all__ = [
    "DEPTH_HEADER",
    "ImageError",
    "check",
    "colour",
    "depth",
    "depth_m",
    "description",
    "labels",
]

DEPTH_HEADER = 12  # bytes that compressedDepth puts before its data: an enum and two float32
_MILLIMETRE = 1e-3
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
# Encodings that do not state an order of colours have OpenCV's own.
_OPENCV_ORDER = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8"}


def colour(message: Any, decoder: ImageDecoder = OPENCV) -> NDArray[np.uint8]:
    """The colours (H, W, 3) of an image, as R, G, B.

    Raw: the keys of `image_encodings.COLOUR`; 16 bits become 8, mosaics are interpolated.
    Compressed: JPEG, PNG and what else OpenCV decodes, with the order of colours and the mosaic
    that the format states.

    Raises:
        ImageError: another encoding, data that the size or the format does not fit, or colours
            whose order cannot be known.
    """
    if is_compressed(message):
        return _compressed_colour(message, decoder)
    image = _checked(message, "colour")
    return decoder.rgb(image._replace(encoding=_OPENCV_ORDER.get(image.encoding, image.encoding)))


def _compressed_colour(message: Any, decoder: ImageDecoder) -> NDArray[np.uint8]:
    format = compressed_format(message.format)
    image = _decompressed(message, "colour", decoder)
    if image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"colour has {image.dtype} channels, expected 8 or 16 bits a channel")
    if image.ndim == 2:
        if format.encoding.startswith(YUV):
            raise ImageError(
                f"colour of format {message.format!r} has one channel: its colours are lost"
            )
        pattern = format.encoding.removesuffix("16").removesuffix("8")
        return array_to_rgb(image, pattern if pattern in BAYER else "mono")
    return array_to_rgb(image[..., :3], channel_order(format, message.format))


def depth(
    message: Any, unit_m: float = 0.0, decoder: ImageDecoder = OPENCV
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Depth (H, W): uint16 millimetres or float32 metres, as it was sent (REP 118).

    16UC1, mono16 and 32FC1; compressed: a 16-bit PNG, a TIFF of floats, or compressedDepth with a
    PNG or RVL. What the sensor could not measure keeps its mark: 0, in 32FC1 also NaN and
    infinities.

    Args:
        message: the image.
        unit_m: length of one step of the values, metres; 0: by the encoding, millimetres for
            integers and metres for floats. With a unit that the encoding does not have, the result
            is float32 metres.
        decoder: converts the bytes.

    Raises:
        ImageError: another encoding, or data that the size or the format does not fit.
    """
    values = (
        _compressed_depth(message, decoder)
        if is_compressed(message)
        else decoder.pixels(_checked(message, "depth"))
    )
    own = 1.0 if values.dtype == np.float32 else _MILLIMETRE
    if unit_m in (0.0, own):
        return values
    return values * np.float32(unit_m)


def depth_m(
    message: Any, unit_m: float = 0.0, decoder: ImageDecoder = OPENCV
) -> NDArray[np.float32]:
    """Depth (H, W) in float32 metres, see `depth`. Raises ImageError."""
    values = depth(message, unit_m, decoder)
    return values if values.dtype == np.float32 else values * np.float32(_MILLIMETRE)


def _compressed_depth(
    message: Any, decoder: ImageDecoder
) -> NDArray[np.uint16] | NDArray[np.float32]:
    format = compressed_format(message.format)
    has_header = format.is_depth and bytes(message.data[:4]) != _PNG
    if has_header and len(message.data) < DEPTH_HEADER:
        raise ImageError(f"depth has {len(message.data)} bytes: too few for compressedDepth")
    if format.codec == "compressedDepth rvl":
        try:
            image = decode_rvl(np.frombuffer(message.data, np.uint8)[DEPTH_HEADER:])
        except RvlError as error:
            raise ImageError(f"depth of format {message.format!r}: {error}") from error
    else:
        image = _decompressed(message, "depth", decoder, DEPTH_HEADER if has_header else 0)
    if image.ndim == 2 and image.dtype == np.float32 and not format.is_depth:
        return image  # a TIFF keeps floats, metres
    if image.ndim != 2 or image.dtype != np.uint16:
        raise ImageError(
            f"depth of format {message.format!r} holds {image.dtype} {image.shape}, expected one "
            "channel of 16 bits: JPEG and 8 bits lose too much"
        )
    if format.encoding == "32FC1" and not format.is_depth:
        raise ImageError(
            f"depth of format {message.format!r} holds integers of an unknown unit: publish it by "
            "compressedDepth"
        )
    if format.encoding == "32FC1" and has_header:
        return _dequantised(image, message)
    return image


def labels(message: Any, decoder: ImageDecoder = OPENCV) -> NDArray[np.integer]:
    """Labels (H, W), uint8, uint16 or int32.

    mono8, 8UC1, mono16, 16UC1 and 32SC1; compressed: a PNG of 8 or 16 bits.

    Raises:
        ImageError: another encoding, or data that the size or the format does not fit.
    """
    if not is_compressed(message):
        return decoder.pixels(_checked(message, "segmentation"))
    if "jp" in message.format or bytes(message.data[:2]) == _JPEG:
        raise ImageError(f"segmentation format {message.format!r} changes labels: expected a PNG")
    image = _decompressed(message, "segmentation", decoder)
    if image.ndim != 2:
        raise ImageError(
            f"segmentation of format {message.format!r} has {image.shape[2]} channels, expected one"
        )
    return image


def _checked(message: Any, kind: str) -> RawImage:
    """A raw image that the rules accept, without what pads its rows. Raises ImageError."""
    found = layout(message, kind)
    row = message.width * found.channels * np.dtype(found.dtype).itemsize
    data = message.data
    if message.step != row:
        shape, strides = (int(message.height * found.rows), row), (message.step, 1)
        data = np.ndarray(shape, np.uint8, buffer=data, strides=strides).tobytes()
    return RawImage(
        message.height, message.width, message.encoding, message.is_bigendian, row, data
    )


def _decompressed(message: Any, kind: str, decoder: ImageDecoder, skip: int = 0) -> NDArray[Any]:
    data = np.frombuffer(message.data, np.uint8)[skip:]
    try:
        # OpenCV raises on nothing at all, and returns None for what it does not know.
        image = decoder.decompressed(CompressedImage(message.format, data)) if data.size else None
    except cv2.error as error:  # a size beyond all reason
        raise ImageError(f"{kind} cannot be decoded: {error.err or error}") from error
    if image is None:
        raise ImageError(
            f"{kind} of format {message.format!r} cannot be decoded: "
            f"{data.size} bytes that are no whole image{video_hint(message.format)}"
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
