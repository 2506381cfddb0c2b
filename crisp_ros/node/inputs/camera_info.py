"""Conversion of sensor_msgs/CameraInfo to the pinhole camera of its images."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from sensor_msgs.msg import CameraInfo

from crisp_ros.geometry.camera import Camera
from crisp_ros.geometry.rectification import Rectification, rectification


class CameraInfoError(ValueError):
    """Unusable calibration; the text gives the cause and the remedy."""


class _Intrinsics(NamedTuple):
    fx: float
    fy: float
    cx: float
    cy: float


def camera(message: CameraInfo, rectified: bool) -> Camera:
    """Get the camera of the images, with region of interest and binning applied.

    Args:
        message: the calibration, given for the full resolution.
        rectified: whether the images are rectified, so that P describes them; otherwise K does,
            after `rectification_of` has been applied.

    Raises:
        CameraInfoError: the camera is uncalibrated or the second of a stereo pair, or a number is
            invalid.
    """
    if not message.k[0] > 0:
        raise CameraInfoError(
            "camera_info has K[0] = 0, so the camera is uncalibrated: "
            "calibrate it, or have its driver publish the calibration"
        )
    full = _rectified(message) if rectified else _raw(message)
    if not (np.isfinite(full).all() and full.fx > 0 and full.fy > 0):
        raise CameraInfoError(
            f"camera_info has focal lengths {full.fx:g}, {full.fy:g} "
            f"and principal point {full.cx:g}, {full.cy:g}: expected positive, finite numbers"
        )
    # Like image_geometry: zeros mean the whole image and no binning; the region of interest is
    # given in pixels of the full resolution.
    roi = message.roi
    bin_x, bin_y = message.binning_x or 1, message.binning_y or 1
    return Camera(
        fx=full.fx / bin_x,
        fy=full.fy / bin_y,
        cx=(full.cx - roi.x_offset) / bin_x,
        cy=(full.cy - roi.y_offset) / bin_y,
        width=(roi.width or message.width) // bin_x,
        height=(roi.height or message.height) // bin_y,
    )


def rectification_of(message: CameraInfo, rectified: bool) -> Rectification | None:
    """Get the rectification from the raw images to those of `camera`, None if none is needed.

    Raises:
        CameraInfoError: unknown distortion model, or see `camera`.
    """
    if rectified or not any(message.d):
        return None
    try:
        return _rectification(
            camera(message, rectified), message.distortion_model, tuple(map(float, message.d))
        )
    except ValueError as error:
        raise CameraInfoError(f"camera_info: {error}") from error


def calibration_key(message: CameraInfo) -> tuple[Any, ...]:
    """Get all of a message but its header, for comparisons."""
    numbers = (values.tobytes() for values in (message.d, message.k, message.r, message.p))
    window = (message.width, message.height, message.binning_x, message.binning_y, message.roi)
    return (message.distortion_model, *numbers, *window)


# The maps take longer than the rest of a frame's conversion, and a camera rarely changes.
_rectification = lru_cache(maxsize=2)(rectification)


def _rectified(message: CameraInfo) -> _Intrinsics:
    p = message.p
    if p[0] == 0:
        # Drivers of undistorted cameras often fill in K alone.
        if not any(message.d):
            return _raw(message)
        raise CameraInfoError(
            "camera_info has no projection matrix P, but the camera is distorted: "
            "rectified images need P; for raw ones set the parameter rectified to false"
        )
    if p[3] != 0:
        raise CameraInfoError(
            f"camera_info is of the second camera of a stereo pair (P[3] = {p[3]:g}): "
            "its images are not in the frame of their header; use the first camera"
        )
    return _intrinsics(p[0], p[5], p[2], p[6])


def _raw(message: CameraInfo) -> _Intrinsics:
    k = message.k
    return _intrinsics(k[0], k[4], k[2], k[5])


def _intrinsics(*values: np.float64) -> _Intrinsics:
    """Convert to Python's numbers: NumPy's would convert float32 images to float64."""
    return _Intrinsics(*map(float, values))
