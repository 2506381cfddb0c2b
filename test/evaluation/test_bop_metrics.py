"""BOP's errors against naive loops and OpenCV's projection; its recall by hand."""

import cv2
import numpy as np
import pytest
from scipy.spatial import ConvexHull
from scipy.spatial.transform import Rotation
from tiny_bop import INTRINSICS, pose, write_tiny_bop

from crisp_ros.data.bop import BopDataset
from crisp_ros.evaluation.bop_metrics import (
    MSPD_THRESHOLDS_PX,
    MSSD_THRESHOLDS,
    SYMMETRY_STEPS,
    VSD_TOLERANCES,
    PoseError,
    average_recall,
    mspd,
    mssd,
    vsd,
)

POINTS = np.random.default_rng(0).normal(0, 0.05, (60, 3))
TRUTH = pose((20, 30, 10), (-0.1, 0.0, 0.6))
ESTIMATE = pose((25, 120, 0), (-0.08, 0.02, 0.65))
GROUP = np.stack([np.eye(4), pose((0, 0, 180), (0.01, 0.0, 0.0)), pose((180, 0, 0), (0, 0, 0))])


def naive_mssd(symmetries: np.ndarray) -> float:
    return min(
        max(
            np.linalg.norm((ESTIMATE @ [*p, 1])[:3] - (TRUTH @ motion @ [*p, 1])[:3])
            for p in POINTS
        )
        for motion in symmetries
    )


def project(T: np.ndarray) -> np.ndarray:
    rotation = Rotation.from_matrix(T[:3, :3]).as_rotvec()
    return cv2.projectPoints(POINTS, rotation, T[:3, 3], INTRINSICS, None)[0][:, 0]


def test_mssd_is_the_naive_loop_with_and_without_symmetries() -> None:
    for group in (GROUP[:1], GROUP):
        assert mssd(POINTS, ESTIMATE, TRUTH, group) == pytest.approx(naive_mssd(group))
    rotated = TRUTH @ GROUP[2]
    assert mssd(POINTS, rotated, TRUTH, GROUP) < 1e-9 < mssd(POINTS, rotated, TRUTH, GROUP[:1])


def test_mssd_of_the_hull_is_that_of_the_points() -> None:
    corners = POINTS[ConvexHull(POINTS).vertices]
    assert len(corners) < len(POINTS)
    expected = mssd(POINTS, ESTIMATE, TRUTH, GROUP)
    assert mssd(corners, ESTIMATE, TRUTH, GROUP) == pytest.approx(expected)


def test_mspd_is_the_projection_of_opencv() -> None:
    for group in (GROUP[:1], GROUP):
        expected = min(
            np.linalg.norm(project(ESTIMATE) - project(TRUTH @ motion), axis=1).max()
            for motion in group
        )
        assert mspd(POINTS, ESTIMATE, TRUTH, group, INTRINSICS) == pytest.approx(expected)


def test_a_shift_of_a_centimetre_is_an_mssd_of_a_centimetre() -> None:
    moved = TRUTH.copy()
    moved[:3, 3] += (0, 0.006, 0.008)
    assert mssd(POINTS, moved, TRUTH, GROUP[:1]) == pytest.approx(0.01)
    assert mssd(POINTS, TRUTH @ GROUP[1], TRUTH, GROUP) == pytest.approx(0, abs=1e-12)
    assert mspd(POINTS, TRUTH, TRUTH, GROUP, INTRINSICS) == pytest.approx(0, abs=1e-9)


def test_a_point_behind_the_camera_is_no_projection() -> None:
    behind = TRUTH.copy()
    behind[2, 3] = -0.6
    assert mspd(POINTS, behind, TRUTH, GROUP[:1], INTRINSICS) == np.inf


def test_many_points_and_symmetries_are_taken_in_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    can = BopDataset(write_tiny_bop(tmp_path_factory.mktemp("tiny"))).models[2]
    group = can.symmetries(SYMMETRY_STEPS)
    assert len(group) == 2 * 315
    rotated = TRUTH @ pose((0, 0, 77.7), (0, 0, 0))
    whole = mssd(POINTS, rotated, TRUTH, group), mspd(POINTS, rotated, TRUTH, group, INTRINSICS)
    assert whole[0] < 0.01 * can.diameter_m  # what the steps of a continuous symmetry leave
    monkeypatch.setattr("crisp_ros.evaluation.bop_metrics._CHUNK", 1000)
    parts = mssd(POINTS, rotated, TRUTH, group), mspd(POINTS, rotated, TRUTH, group, INTRINSICS)
    assert parts == pytest.approx(whole)


def test_recall_is_the_mean_over_ten_thresholds() -> None:
    """By hand: 12 % of the diameter is below 8 of 10 thresholds, 22 px below 6 of 10."""
    np.testing.assert_allclose(MSSD_THRESHOLDS, np.linspace(0.05, 0.5, 10))
    np.testing.assert_allclose(MSPD_THRESHOLDS_PX, np.linspace(5, 50, 10))
    one = PoseError(0.024, 22.0, 0.2, 640)
    assert average_recall([one]) == pytest.approx({"mssd": 0.8, "mspd": 0.6})
    wide = PoseError(0.024, 22.0, 0.2, 1280)
    assert average_recall([wide])["mspd"] == pytest.approx(0.8)
    missed = PoseError(np.inf, np.inf, 0.2, 640)
    assert average_recall([one, missed]) == pytest.approx({"mssd": 0.4, "mspd": 0.3})
    with pytest.raises(ValueError, match="at least one"):
        average_recall([])


def naive_vsd(
    estimate: np.ndarray, truth: np.ndarray, measured: np.ndarray, diameter: float, tolerance: float
) -> float:
    """The rule pixel by pixel."""
    inverse, cost, either = np.linalg.inv(INTRINSICS), 0, 0
    for v, u in np.ndindex(estimate.shape):
        length = np.linalg.norm(inverse @ [u, v, 1])
        e, t, m = (length * image[v, u] for image in (estimate, truth, measured))
        t_seen = t > 0 and (m == 0 or t - m <= 0.015)
        e_seen = e > 0 and (m == 0 or e - m <= 0.015 or t_seen)
        if t_seen and e_seen:
            either, cost = either + 1, cost + (abs(e - t) >= tolerance * diameter)
        elif t_seen or e_seen:
            either, cost = either + 1, cost + 1
    return cost / either


@pytest.mark.parametrize("seed", range(4))
def test_vsd_is_the_naive_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (12, 15)

    def image(spread: float, missing: float) -> np.ndarray:
        depth = 0.6 + spread * rng.standard_normal(shape)
        return np.where(rng.random(shape) < missing, 0.0, depth)

    images = image(0.02, 0.4), image(0.02, 0.4), image(0.02, 0.2)
    found = vsd(*images, INTRINSICS, 0.1)
    expected = [naive_vsd(*images, 0.1, tolerance) for tolerance in VSD_TOLERANCES]
    assert found == pytest.approx(expected) and 0.0 < min(found) < max(found)


def test_vsd_of_what_is_nowhere_visible_is_one() -> None:
    nothing, wall, behind = (np.full((4, 4), d) for d in (0.0, 0.5, 0.8))
    assert set(vsd(nothing, nothing, wall, INTRINSICS, 0.1)) == {1.0}
    assert set(vsd(behind, behind, wall, INTRINSICS, 0.1)) == {1.0}
    assert set(vsd(wall, wall, wall, INTRINSICS, 0.1)) == {0.0}


def test_recall_of_vsd_by_hand() -> None:
    one = PoseError(0.024, 22.0, 0.2, 640, (0.6, 0.32) + (0.0,) * 8)
    assert average_recall([one])["vsd"] == pytest.approx((0.0 + 0.4 + 8.0) / 10)
    missed = PoseError(np.inf, np.inf, 0.2, 640, (np.inf,) * 10)
    assert average_recall([one, missed])["vsd"] == pytest.approx(0.42)
    assert "vsd" not in average_recall([one, PoseError(0.024, 22.0, 0.2, 640)])
