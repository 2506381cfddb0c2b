"""Raw images of a camera with lens distortion become those of a pinhole camera."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.camera import Camera

# Distortion models of sensor_msgs/CameraInfo, and how many coefficients OpenCV takes for them.
COEFFICIENTS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (8, 12, 14),
    "equidistant": (4,),
}


class Rectification(NamedTuple):
    """Where each pixel of the pinhole image is found in the raw one.

    camera: of the rectified images. u, v: (H, W) float32, px; outside the image where there is
    nothing to find.
    """

    camera: Camera
    u: NDArray[np.float32]
    v: NDArray[np.float32]

    def colours(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Colours (H, W, 3), interpolated; black where the raw image has none."""
        return cv2.remap(rgb, self.u, self.v, cv2.INTER_LINEAR)

    def values(self, image: NDArray[np.generic]) -> NDArray[np.generic]:
        """Depth or labels (H, W), each pixel's nearest; 0 where the raw image has none.

        Depth is that along the optical axis, which rectification does not change.
        """
        return cv2.remap(image, self.u, self.v, cv2.INTER_NEAREST)


def rectification(camera: Camera, model: str, coefficients: tuple[float, ...]) -> Rectification:
    """The rectification of a camera's images, to a pinhole camera of the same intrinsics.

    Args:
        camera: intrinsics and size of the raw images.
        model: a key of `COEFFICIENTS`.
        coefficients: of the model, as OpenCV orders them.

    Raises:
        ValueError: another model, another number of coefficients, or one that is not finite.
    """
    if model not in COEFFICIENTS:
        raise ValueError(
            f"distortion model {model!r} is not supported: expected one of "
            f"{', '.join(COEFFICIENTS)}"
        )
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
