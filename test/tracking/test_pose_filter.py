import math

import numpy as np
import pytest
from poses import pose
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.symmetry_group import box_corners
from crisp_ros.tracking.jitter import jitter
from crisp_ros.tracking.pose_filter import PoseFilter, PoseFilterSettings, largest_motion

CORNERS = box_corners((-0.05, -0.05, 0.0), (0.05, 0.05, 0.1))


def test_it_follows_a_jump_exponentially():
    smooth = PoseFilter(PoseFilterSettings(time_constant_s=0.2))
    smooth.update(pose(), 0.0, CORNERS)
    target = pose((0.02, 0.0, 0.8), (0.0, 0.0, 0.1))
    for i in range(1, 6):
        found = smooth.update(target, 0.1 * i, CORNERS)
        left = math.exp(-0.1 * i / 0.2)
        assert Rotation.from_matrix(found[:3, :3]).magnitude() == pytest.approx(0.1 * (1 - left))
        middle = np.array([0.0, 0.0, 0.05])
        assert (found[:3, :3] @ middle + found[:3, 3])[0] == pytest.approx(0.02 * (1 - left))


def test_it_reduces_jitter():
    rng = np.random.default_rng(0)
    smooth = PoseFilter(PoseFilterSettings())
    raw = [pose((0, 0, 0.8) + rng.normal(0, 0.002, 3), rng.normal(0, 0.02, 3)) for _ in range(200)]
    calm = [smooth.update(T, i / 30, CORNERS) for i, T in enumerate(raw)]
    before, after = jitter(raw), jitter(calm[20:])
    assert after.step_m < 0.4 * before.step_m
    assert after.step_rad < 0.4 * before.step_rad


def test_outliers_are_kept_out_until_they_stay():
    smooth = PoseFilter(PoseFilterSettings(patience=3))
    far = pose((0.3, 0.0, 0.8))
    smooth.update(pose(), 0.0, CORNERS)
    for i, expected in enumerate([pose(), pose(), far], start=1):
        assert np.array_equal(smooth.update(far, 0.1 * i, CORNERS), expected)


def test_one_good_pose_between_outliers_resets_the_count():
    smooth = PoseFilter(PoseFilterSettings(patience=2))
    for i, x in enumerate([0.0, 0.3, 0.0, 0.3, 0.0]):
        assert abs(smooth.update(pose((x, 0, 0.8)), 0.1 * i, CORNERS)[0, 3]) < 1e-12


def test_the_largest_motion_bounds_every_point_in_the_box():
    rng = np.random.default_rng(1)
    inside = rng.uniform((-0.05, -0.05, 0.0), (0.05, 0.05, 0.1), (500, 3))
    for _ in range(20):
        a, b = (pose(rng.normal(0, 0.02, 3), rng.normal(0, 0.3, 3)) for _ in range(2))
        ways = np.linalg.norm((a - b)[:3, :3] @ inside.T + (a - b)[:3, 3:], axis=0)
        assert ways.max() <= largest_motion(a, b, CORNERS) + 1e-12
