"""The messages of one moment as registered images: one set of rules for node, bag and player."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data import image_messages
from crisp_ros.data.camera_calibration import CameraInfoError, camera, check_size, rectification_of
from crisp_ros.data.image_decoders import OPENCV, ImageDecoder
from crisp_ros.data.image_encodings import ImageError
from crisp_ros.geometry.camera import Camera, FrameError
from crisp_ros.geometry.rectification import Rectification

_REGISTERED = {
    "depth": "all inputs have to be registered to the colour image (RealSense: "
    "align_depth.enable:=true, aligned_depth_to_color)",
    "segmentation": "all inputs have to be registered to the colour image: segment the image that "
    "the node gets",
}


class InputError(ValueError):
    """Unusable input; `input` is rgb, depth, segmentation or camera_info."""

    def __init__(self, input: str, reason: str) -> None:
        super().__init__(reason)
        self.input = input


@dataclass(frozen=True)
class InputRules:
    """Properties of inputs that their messages do not contain, and the decoder of images.

    Attributes:
        rectified: whether images are rectified, so that camera_info's P describes them; otherwise K
            and D do, and they are rectified here.
        depth_unit_m: length of one step of depth, metres; 0: by the encoding (REP 118).
        decoder: converts the bytes of images.
    """

    rectified: bool = True
    depth_unit_m: float = 0.0
    decoder: ImageDecoder = OPENCV


class CameraImages(NamedTuple):
    """Colour and depth of one moment, not rectified yet.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) uint16 millimetres or float32 metres.
        camera: of both, once rectified.
        rectification: makes them the camera's; None where they are.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16] | NDArray[np.float32]
    camera: Camera
    rectification: Rectification | None


def read_camera_images(rgb: Any, depth: Any, info: Any, rules: InputRules) -> CameraImages:
    """Read colour, depth registered to it, and their calibration.

    Args:
        rgb, depth: sensor_msgs/Image or sensor_msgs/CompressedImage.
        info: sensor_msgs/CameraInfo.
        rules: see `InputRules`.

    Raises:
        InputError: unusable encoding, size or calibration.
    """
    with errors_of("rgb"):
        colours = image_messages.colour(rgb, rules.decoder)
    height, width = colours.shape[:2]
    with errors_of("depth"):
        values = image_messages.depth(depth, rules.depth_unit_m, rules.decoder)
        require_size("depth", values, height, width)
    with errors_of("camera_info"):
        found = camera(info, rules.rectified)
        check_size(found, info, height, width)
        rectification = rectification_of(info, rules.rectified)
    return CameraImages(colours, values, found, rectification)


def read_labels(message: Any, decoder: ImageDecoder = OPENCV) -> NDArray[np.integer]:
    """Read a label image (H, W): 0 for the background, and positive labels.

    Raises:
        ImageError: unreadable, or negative labels.
    """
    labels = image_messages.labels(message, decoder)
    if labels.min() < 0:
        raise ImageError(
            f"segmentation has negative labels, down to {labels.min()}: "
            "expected 0 for the background and positive labels"
        )
    return labels


def require_size(input: str, image: NDArray[Any], height: int, width: int) -> None:
    """Check that depth or labels have the size of the colour image. Raises ImageError."""
    if image.shape[:2] != (height, width):
        raise ImageError(
            f"{input} is {image.shape[1]} x {image.shape[0]} pixels, colour is {width} x {height}: "
            f"{_REGISTERED[input]}"
        )


@contextmanager
def errors_of(input: str) -> Iterator[None]:
    """Name the input at fault. Raises InputError."""
    try:
        yield
    except (ImageError, CameraInfoError, FrameError) as error:
        raise InputError(input, str(error)) from error
