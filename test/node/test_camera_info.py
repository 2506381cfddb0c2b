"""CameraInfo to a camera: what each field does to where a point is seen."""

from __future__ import annotations

import pytest
from sensor_msgs.msg import CameraInfo

from crisp_ros.node.camera_info import CameraInfoError, camera


def calibration(**changes: object) -> CameraInfo:
    message = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.1, 0.0])
    message.k = [600.0, 0.0, 320.0, 0.0, 610.0, 240.0, 0.0, 0.0, 1.0]
    message.p = [580.0, 0.0, 310.0, 0.0, 0.0, 590.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def pixel(found, x: float, y: float, z: float) -> tuple[float, float]:
    return found.fx * x / z + found.cx, found.fy * y / z + found.cy


def test_rectified_images_use_p_and_raw_ones_k() -> None:
    rectified = camera(calibration(), rectified=True)
    assert (rectified.fx, rectified.fy, rectified.cx, rectified.cy) == (580, 590, 310, 230)
    raw = camera(calibration(d=[0.0] * 5), rectified=False)
    assert (raw.fx, raw.fy, raw.cx, raw.cy) == (600, 610, 320, 240)
    assert (raw.width, raw.height) == (640, 480)


def test_without_p_an_undistorted_camera_uses_k() -> None:
    found = camera(calibration(p=[0.0] * 12, d=[]), rectified=True)
    assert (found.fx, found.cx) == (600, 320)


@pytest.mark.parametrize("rectified", [True, False])
def test_numbers_are_pythons_own_so_that_images_stay_float32(rectified: bool) -> None:
    found = camera(calibration(d=[0.0] * 5), rectified)
    assert {type(v) for v in (found.fx, found.fy, found.cx, found.cy)} == {float}


def test_region_of_interest_and_binning_move_the_pixel() -> None:
    whole = camera(calibration(), rectified=True)
    message = calibration(binning_x=2, binning_y=4)
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
        ({}, False, "lens distortion, and the images are raw"),
        ({"p": [580.0, 0, 310.0, -60.0, 0, 590.0, 230.0, 0, 0, 0, 1.0, 0]}, True, "stereo pair"),
        ({"p": [580.0, 0, 310.0, 0, 0, -590.0, 230.0, 0, 0, 0, 1.0, 0]}, True, "focal lengths"),
        ({"k": [float("nan")] * 9}, True, "uncalibrated"),
    ],
)
def test_unusable_calibrations_say_why(changes: dict, rectified: bool, reason: str) -> None:
    if "p" in changes:
        changes = {**changes, "p": [float(v) for v in changes["p"]]}
    with pytest.raises(CameraInfoError, match=reason):
        camera(calibration(**changes), rectified)
