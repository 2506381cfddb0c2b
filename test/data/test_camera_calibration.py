"""CameraInfo to a camera: what each field does to where a point is seen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from crisp_ros.data.camera_calibration import (
    CalibrationBuffer,
    CameraInfoError,
    calibration_key,
    camera,
    check_size,
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


@pytest.mark.parametrize(
    "changes",
    [{"k": [0.0] * 9}, {"k": [float("nan")] * 9}, {"d": [float("nan")] * 5}, {"r": [0.0] * 9},
     {"distortion_model": "none of all"}],
)  # fmt: skip
def test_fields_that_are_not_used_are_not_checked(changes: dict) -> None:
    found = camera(info(**changes), rectified=True)
    assert (found.fx, found.fy, found.cx, found.cy) == (580, 590, 310, 230)
    assert rectification_of(info(**changes), rectified=True) is None


def test_a_region_of_interest_may_be_the_whole_image() -> None:
    message = info()
    message.roi.width, message.roi.height = 640, 480
    assert camera(message, rectified=True) == camera(info(), rectified=True)


def test_a_calibration_of_another_size_is_refused() -> None:
    check_size(camera(info(), True), info(), 480, 640)
    with pytest.raises(CameraInfoError, match="640 x 480 pixels, colour is 1280 x 720: publish"):
        check_size(camera(info(), True), info(), 720, 1280)
    with pytest.raises(CameraInfoError, match="rotated by 90 degrees, rotate the calibration"):
        check_size(camera(info(), True), info(), 640, 480)
    binned = info(binning_x=2, binning_y=2)
    with pytest.raises(CameraInfoError, match=r"320 x 240 pixels \(binning applied\), colour"):
        check_size(camera(binned, True), binned, 480, 640)


def test_fields_of_ros_1_have_capitals() -> None:
    message = info(d=[0.1, -0.02, 0.001, 0.0, 0.0])
    old = SimpleNamespace(
        D=message.d, K=message.k, R=message.r, P=message.p, roi=message.roi, width=640, height=480,
        binning_x=0, binning_y=0, distortion_model="plumb_bob",
    )  # fmt: skip
    for rectified in (True, False):
        assert camera(old, rectified) == camera(message, rectified)
    assert rectification_of(old, False) is rectification_of(message, False)
    assert calibration_key(old) == calibration_key(message)


@pytest.mark.parametrize(
    ("model", "coefficients", "same_as"),
    [
        ("rational_polynomial", [0.1, -0.2, 0.001, 0.002, 0.03, 0.1, -0.1, 0.02], None),
        (
            "rational_polynomial",
            [0.1, -0.2, 0.001, 0.002, 0.03, 0.1, -0.1, 0.02] + [0.001] * 4,
            None,
        ),
        ("rational_polynomial", [0.1, -0.2, 0.0, 0.0, 0.0, 0.1, -0.1, 0.02] + [0.001] * 6, None),
        ("equidistant", [0.1, -0.02, 0.001, 0.0], None),
        ("rational_polynomial", [0.1, -0.2, 0.001, 0.002, 0.03], "plumb_bob"),
        ("plumb_bob", [0.1, -0.2, 0.001, 0.002, 0.03, 0.0, 0.0, 0.0], "plumb_bob"),
        ("fisheye", [0.1, -0.02, 0.001, 0.0], "equidistant"),
        ("equidistant", [0.1, -0.02, 0.001, 0.0, 0.0], "equidistant"),
    ],
)
def test_models_and_their_numbers_of_coefficients(
    model: str, coefficients: list[float], same_as: str | None
) -> None:
    found = rectification_of(info(distortion_model=model, d=coefficients), rectified=False)
    assert np.abs(found.u[0, 0]) > 0.5
    if same_as:
        count = 4 if same_as == "equidistant" else 5
        plain = info(distortion_model=same_as, d=coefficients[:count])
        np.testing.assert_allclose(rectification_of(plain, False).u, found.u, atol=1e-4)


def test_an_image_has_the_calibration_of_its_stamp_or_the_latest() -> None:
    buffer = CalibrationBuffer()
    assert not buffer
    for stamp in (10, 20, 30):
        buffer.add(stamp, info(width=stamp))
    assert buffer.of(20).width == 20 and buffer.of(25).width == 30
    for stamp in range(40, 400):
        buffer.add(stamp, info(width=stamp))
    assert buffer.of(20).width == 399  # long dropped
    buffer.clear()
    assert not buffer


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
        ({"k": [0.0] * 9}, False, r"K\[0\] = 0, so the camera is uncalibrated"),
        ({"k": [0.0] * 9, "p": [0.0] * 12, "d": []}, True, "uncalibrated"),
        ({"width": 0}, True, "0 x 480 pixels: have its publisher fill in"),
        ({"p": [0.0] * 12}, True, "no projection matrix P"),
        ({"p": [580.0, 0, 310.0, -60.0, 0, 590.0, 230.0, 0, 0, 0, 1.0, 0]}, True, "stereo pair"),
        ({"p": [580.0, 0, 310.0, 0, 0, -590.0, 230.0, 0, 0, 0, 1.0, 0]}, True, "focal lengths"),
        ({"k": [float("nan")] * 9}, False, "uncalibrated"),
        ({"p": [float("nan")] * 12}, True, "focal lengths nan"),
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
