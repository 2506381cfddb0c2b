"""Differences between a recorded and a repeated estimate of a frame."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from crisp_ros.evaluation.estimate_difference import OtherObjectsError, estimate_differences
from crisp_ros.pipeline import FrameEstimate, ObjectEstimate


@pytest.fixture
def frame() -> FrameEstimate:
    """The estimates of two objects."""
    one = ObjectEstimate(
        label=1,
        T_camera_object=np.eye(4),
        code=np.zeros(3, np.float32),
        certified=True,
        residual_m=0.001,
        quantile=0.9,
        threshold_m=0.005,
        score=0.9,
        reason="",
        inlier_share=1.0,
        n_points=500,
        lower=np.full(3, -0.05),
        upper=np.full(3, 0.05),
    )
    return FrameEstimate((one, replace(one, label=2)), (), {}, "1.0.0")


def changed(frame: FrameEstimate, **values: object) -> FrameEstimate:
    """The frame with other values of its second object."""
    first, second = frame.objects
    return replace(frame, objects=(first, replace(second, **values)))


def pose(x: float, degrees: float) -> np.ndarray:
    angle = math.radians(degrees)
    T = np.eye(4)
    T[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    T[0, 3] = x
    return T


def test_the_difference_of_poses_is_measured_per_object(frame: FrameEstimate) -> None:
    moved = changed(frame, T_camera_object=pose(2e-3, 3.0))
    first, second = estimate_differences(frame, moved)
    assert (first.label, first.metres, first.radians, first.identical) == (1, 0.0, 0.0, True)
    assert second.label == 2 and not second.identical
    assert second.metres == pytest.approx(2e-3)
    assert second.radians == pytest.approx(math.radians(3.0))
    assert first.to_json()["identical"] is True


@pytest.mark.parametrize(
    "x, degrees, reproduced", [(5e-5, 0.1, True), (2e-4, 0.0, False), (0.0, 0.2, False)]
)
def test_rounding_alone_counts_as_reproduced(
    frame: FrameEstimate, x: float, degrees: float, reproduced: bool
) -> None:
    _, second = estimate_differences(frame, changed(frame, T_camera_object=pose(x, degrees)))
    assert second.is_reproduced is reproduced and not second.identical


@pytest.mark.parametrize("values", [{"n_points": 499}, {"code": np.ones(3, np.float32)}])
def test_other_values_than_the_pose_must_be_identical(frame: FrameEstimate, values: dict) -> None:
    _, second = estimate_differences(frame, changed(frame, **values))
    assert second.is_reproduced and not second.identical


def test_other_objects_are_an_error(frame: FrameEstimate) -> None:
    fewer = replace(frame, objects=frame.objects[:1])
    with pytest.raises(OtherObjectsError, match=r"objects \[1\], recorded were \[1, 2\]"):
        estimate_differences(frame, fewer)
