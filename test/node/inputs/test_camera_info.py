"""CameraInfo to a camera: what each field does to where a point is seen."""

from __future__ import annotations

import pytest
from sensor_msgs.msg import CameraInfo

from crisp_ros.node.inputs.camera_info import (
    CameraInfoError,
    calibration_key,
    camera,
    rectification_of,
)


def info(**changes: object) -> CameraInfo:
    message = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.1, 0.0])
    message.k = [600.0, 0.0, 320.0, 0.0, 610.0, 240.0, 0.0, 0.0, 1.0]
    message.p = [580.0, 0.0, 310.0, 0.0, 0.0, 590.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def pixel(found, x: float, y: float, z: float) -> tuple[float, float]:
    return found.fx * x / z + found.cx, found.fy * y / z + found.cy


def test_rectified_images_use_p_and_raw_ones_k() -> None:
    rectified = camera(info(), rectified=True)
    assert (rectified.fx, rectified.fy, rectified.cx, rectified.cy) == (580, 590, 310, 230)
    raw = camera(info(d=[0.0] * 5), rectified=False)
    assert (raw.fx, raw.fy, raw.cx, raw.cy) == (600, 610, 320, 240)
    assert (raw.width, raw.height) == (640, 480)


def test_without_p_an_undistorted_camera_uses_k() -> None:
    found = camera(info(p=[0.0] * 12, d=[]), rectified=True)
    assert (found.fx, found.cx) == (600, 320)


@pytest.mark.parametrize("rectified", [True, False])
def test_intrinsics_are_python_floats(rectified: bool) -> None:
    found = camera(info(d=[0.0] * 5), rectified)
    assert {type(v) for v in (found.fx, found.fy, found.cx, found.cy)} == {float}


def test_region_of_interest_and_binning_move_the_pixel() -> None:
    whole = camera(info(), rectified=True)
    message = info(binning_x=2, binning_y=4)
    message.roi.x_offset, message.roi.y_offset = 100, 60
    message.roi.width, message.roi.height = 320, 240
    part = camera(message, rectified=True)
    assert (part.width, part.height) == (160, 60)
    u, v = pixel(whole, 0.05, -0.02, 0.8)
    assert pixel(part, 0.05, -0.02, 0.8) == pytest.approx(((u - 100) / 2, (v - 60) / 4))


@pytest.mark.parametrize(
    ("changes", "rectified", "reason"),
    [
        ({"k": [0.0] * 9}, True, r"K\[0\] = 0, so the camera is uncalibrated"),
        ({"p": [0.0] * 12}, True, "no projection matrix P"),
        ({"p": [580.0, 0, 310.0, -60.0, 0, 590.0, 230.0, 0, 0, 0, 1.0, 0]}, True, "stereo pair"),
        ({"p": [580.0, 0, 310.0, 0, 0, -590.0, 230.0, 0, 0, 0, 1.0, 0]}, True, "focal lengths"),
        ({"k": [float("nan")] * 9}, True, "uncalibrated"),
    ],
)
def test_unusable_calibrations_are_refused(changes: dict, rectified: bool, reason: str) -> None:
    if "p" in changes:
        changes = {**changes, "p": [float(v) for v in changes["p"]]}
    with pytest.raises(CameraInfoError, match=reason):
        camera(info(**changes), rectified)


def test_raw_images_of_a_distorted_camera_are_rectified_to_k() -> None:
    message = info(d=[0.1, -0.02, 0.001, 0.0, 0.0], binning_x=2, binning_y=2)
    found = rectification_of(message, rectified=False)
    assert found is not None and found.camera == camera(message, rectified=False)
    assert found.u.shape == (240, 320)
    assert rectification_of(message, rectified=False) is found  # made once
    assert rectification_of(message, rectified=True) is None
    assert rectification_of(info(d=[0.0] * 5), rectified=False) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"d": [0.1, 0.0]}, "plumb_bob has the coefficients .0.1, 0.0.: expected 4 or 5 finite"),
        ({"d": [float("nan")] * 5}, "expected 4 or 5 finite"),
        ({"distortion_model": "thin_prism", "d": [0.1] * 5}, "'thin_prism' is not supported"),
        ({"distortion_model": "equidistant", "d": [0.1] * 5}, "expected 4 finite numbers"),
    ],
)
def test_unknown_distortions_are_refused(changes: dict, reason: str) -> None:
    with pytest.raises(CameraInfoError, match=reason):
        rectification_of(info(**changes), rectified=False)


def test_calibration_keys_ignore_the_header() -> None:
    first, later = info(), info()
    later.header.stamp.sec = 5
    assert calibration_key(first) == calibration_key(later)
    for change in ({"width": 320}, {"k": [1.0] * 9}, {"binning_x": 2}, {"d": [0.2, 0.0]}):
        assert calibration_key(info(**change)) != calibration_key(first)
    later.roi.x_offset = 4
    assert calibration_key(later) != calibration_key(first)
