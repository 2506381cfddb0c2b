"""Rules of sensor_msgs/CameraInfo: the pinhole camera of the images that come with it.

The message may be of rclpy or of a recording, of ROS 2 or of ROS 1, whose fields have capitals.
Fields that are not used are not checked.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.camera import Camera
from crisp_ros.geometry.rectification import Rectification, rectification

_CALIBRATIONS = 100  # kept, as many as images may be queued for a slow segmentation


class CameraInfoError(ValueError):
    """Unusable calibration; the text gives the cause and the remedy."""


class _Intrinsics(NamedTuple):
    fx: float
    fy: float
    cx: float
    cy: float


def camera(message: Any, rectified: bool) -> Camera:
    """Get the camera of the images, with region of interest and binning applied.

    Args:
        message: the calibration, given for the full resolution.
        rectified: whether the images are rectified, so that P describes them; otherwise K does,
            after `rectification_of` has been applied.

    Raises:
        CameraInfoError: the camera is uncalibrated or the second of a stereo pair, or a number is
            invalid.
    """
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
    width, height = (roi.width or message.width) // bin_x, (roi.height or message.height) // bin_y
    if width == 0 or height == 0:
        raise CameraInfoError(
            f"camera_info describes an image of {width} x {height} pixels: have its publisher fill "
            "in width and height, as the calibration is of one size"
        )
    return Camera(
        fx=full.fx / bin_x,
        fy=full.fy / bin_y,
        cx=(full.cx - roi.x_offset) / bin_x,
        cy=(full.cy - roi.y_offset) / bin_y,
        width=width,
        height=height,
    )


def rectification_of(message: Any, rectified: bool) -> Rectification | None:
    """Get the rectification from the raw images to those of `camera`, None if none is needed.

    Raises:
        CameraInfoError: unknown distortion model, or see `camera`.
    """
    distortion = _numbers(message, "d")
    if rectified or not distortion.any():
        return None
    try:
        return _rectification(
            camera(message, rectified), message.distortion_model, tuple(distortion.tolist())
        )
    except ValueError as error:
        raise CameraInfoError(f"camera_info: {error}") from error


def check_size(found: Camera, message: Any, height: int, width: int) -> None:
    """Check that a calibration describes images of this size.

    Args:
        found: the camera of the message.
        message: the calibration.
        height, width: of the colour image, px.

    Raises:
        CameraInfoError: it does not.
    """
    if (found.height, found.width) == (height, width):
        return
    how = ""
    if message.roi.width or message.roi.height:
        how += ", region of interest"
    if max(message.binning_x, message.binning_y) > 1:
        how += ", binning"
    how = f" ({how[2:]} applied)" if how else ""
    advice = "publish the calibration of this resolution, or the images that it is of"
    if (found.width, found.height) == (height, width):
        advice = "if the images are rotated by 90 degrees, rotate the calibration with them"
    raise CameraInfoError(
        f"camera_info describes {found.width} x {found.height} pixels{how}, colour is {width} x "
        f"{height}: {advice}"
    )


def calibration_key(message: Any) -> tuple[Any, ...]:
    """Get all of a message but its header, for comparisons."""
    numbers = (_numbers(message, name).tobytes() for name in "dkrp")
    roi = message.roi
    part = (roi.x_offset, roi.y_offset, roi.width, roi.height, roi.do_rectify)
    window = (message.width, message.height, message.binning_x, message.binning_y)
    return (message.distortion_model, *numbers, *window, *part)


class CalibrationBuffer:
    """The latest calibrations, by their stamps.

    An image has the calibration with its own stamp, otherwise the latest that has come.
    """

    def __init__(self) -> None:
        self._by_stamp: dict[int, Any] = {}  # in order of arrival

    def __bool__(self) -> bool:
        return bool(self._by_stamp)

    def add(self, stamp_ns: int, message: Any) -> None:
        """Add a calibration; the oldest of more than a hundred is dropped."""
        self._by_stamp.pop(stamp_ns, None)
        self._by_stamp[stamp_ns] = message
        while len(self._by_stamp) > _CALIBRATIONS:
            del self._by_stamp[next(iter(self._by_stamp))]

    def has(self, stamp_ns: int) -> bool:
        """Whether there is a calibration of this stamp."""
        return stamp_ns in self._by_stamp

    def of(self, stamp_ns: int) -> Any:
        """The calibration of an image. Raises StopIteration where there is none at all."""
        latest = next(reversed(self._by_stamp.values()))
        return self._by_stamp.get(stamp_ns, latest)

    def clear(self) -> None:
        """Forget all."""
        self._by_stamp.clear()


# The maps take longer than the rest of a frame's conversion, and a camera rarely changes.
_rectification = lru_cache(maxsize=2)(rectification)


def _rectified(message: Any) -> _Intrinsics:
    p = _numbers(message, "p")
    if p[0] == 0:
        # Drivers of undistorted cameras often fill in K alone.
        if not _numbers(message, "d").any():
            return _raw(message)
        raise CameraInfoError(
            "camera_info has no projection matrix P, but the camera is distorted: "
            "rectified images need P; for raw ones set the parameter rectified to false "
            "(crisp demo: --raw)"
        )
    if abs(p[3]) > 0:
        raise CameraInfoError(
            f"camera_info is of the second camera of a stereo pair (P[3] = {p[3]:g}): "
            "its images are not in the frame of their header; use the first camera"
        )
    return _intrinsics(p[0], p[5], p[2], p[6])


def _raw(message: Any) -> _Intrinsics:
    k = _numbers(message, "k")
    if not k[0] > 0:
        raise CameraInfoError(
            "camera_info has K[0] = 0, so the camera is uncalibrated: "
            "calibrate it, or have its driver publish the calibration"
        )
    return _intrinsics(k[0], k[4], k[2], k[5])


def _numbers(message: Any, name: str) -> NDArray[np.float64]:
    """A field of numbers; in ROS 1 its name is a capital."""
    values = getattr(message, name, None)
    return np.asarray(getattr(message, name.upper()) if values is None else values, np.float64)


def _intrinsics(*values: np.float64) -> _Intrinsics:
    """Convert to Python's numbers: NumPy's would convert float32 images to float64."""
    return _Intrinsics(*map(float, values))
