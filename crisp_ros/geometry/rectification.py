"""Rectification of images with lens distortion to those of a pinhole camera."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.camera import Camera

# Distortion models of sensor_msgs/CameraInfo, and the numbers of coefficients that OpenCV takes.
COEFFICIENTS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}
# What some drivers call them.
_ALIASES = {
    "radtan": "plumb_bob",
    "radial-tangential": "plumb_bob",
    "brown_conrady": "plumb_bob",
    "fisheye": "equidistant",
    "kannala_brandt4": "equidistant",
}


class Rectification(NamedTuple):
    """Map from the pixels of the pinhole image to the raw one.

    Attributes:
        camera: of the rectified images.
        u: (H, W) float32 column in the raw image, px; outside of it where it shows nothing.
        v: (H, W) float32 row in the raw image, px.
    """

    camera: Camera
    u: NDArray[np.float32]
    v: NDArray[np.float32]

    def colours(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rectify colours (H, W, 3) by interpolation; black where the raw image has none."""
        return cv2.remap(rgb, self.u, self.v, cv2.INTER_LINEAR)

    def values(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """Rectify depth or labels (H, W) by nearest neighbour; 0 where the raw image has none.

        Depth is measured along the optical axis, which rectification does not change.
        """
        return cv2.remap(image, self.u, self.v, cv2.INTER_NEAREST)


def rectification(camera: Camera, model: str, coefficients: tuple[float, ...]) -> Rectification:
    """Compute the rectification of a camera's images to a pinhole camera of the same intrinsics.

    Args:
        camera: intrinsics and size of the raw images.
        model: a key of `COEFFICIENTS`.
        coefficients: of the model, as OpenCV orders them.

    Raises:
        ValueError: another model, another number of coefficients, or one that is not finite.
    """
    model = _ALIASES.get(model, model)
    if model not in COEFFICIENTS:
        raise ValueError(
            f"distortion model {model!r} is not supported: expected one of "
            f"{', '.join(COEFFICIENTS)}"
        )
    coefficients = _without_zeros(coefficients, COEFFICIENTS[model])
    if len(coefficients) not in COEFFICIENTS[model] or not np.isfinite(coefficients).all():
        expected = " or ".join(map(str, COEFFICIENTS[model]))
        raise ValueError(
            f"distortion {model} has the coefficients {list(coefficients)}: "
            f"expected {expected} finite numbers"
        )
    maps = (
        cv2.fisheye.initUndistortRectifyMap
        if model == "equidistant"
        else cv2.initUndistortRectifyMap
    )
    size = (camera.width, camera.height)
    K = camera.matrix
    u, v = maps(K, np.array(coefficients), np.eye(3), K, size, cv2.CV_32FC1)
    return Rectification(camera, u, v)


def _without_zeros(coefficients: tuple[float, ...], counts: tuple[int, ...]) -> tuple[float, ...]:
    """The coefficients in a number that a model has, where only zeros are to be left out or added.

    Drivers fill up to a length of their own.
    """
    for count in counts:
        if len(coefficients) <= count and len(coefficients) >= 4:
            return (*coefficients, *(0.0,) * (count - len(coefficients)))
    longest = max(counts)
    return coefficients if any(coefficients[longest:]) else coefficients[:longest]
