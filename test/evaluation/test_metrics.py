"""Error metrics against naive loops, SciPy and values computed by hand."""

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from poses import random_pose
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from crisp_ros.data.meshes import surface_samples
from crisp_ros.evaluation.metrics import (
    add,
    add_s,
    auc,
    diameter,
    l1_chamfer,
    one_sided_normalised_chamfer,
    reconstructed_points,
    rotation_error,
    squared_chamfer,
    translation_error,
)

RNG = np.random.default_rng(0)
POINTS = RNG.normal(0, 0.05, (300, 3))
A, B = RNG.normal(0, 0.05, (300, 3)), RNG.normal(0.02, 0.08, (200, 3))


def shifted(pose: np.ndarray, *by: float) -> np.ndarray:
    moved = pose.copy()
    moved[:3, 3] += by
    return moved


def test_add_is_the_mean_over_a_naive_loop() -> None:
    a, b = random_pose(1), random_pose(2)
    expected = np.mean(
        [np.linalg.norm((a[:3, :3] @ p + a[:3, 3]) - (b[:3, :3] @ p + b[:3, 3])) for p in POINTS]
    )
    assert add(POINTS, a, b) == pytest.approx(expected)
    both = add(POINTS, np.stack([a, b]), b)
    assert both.shape == (2,) and both[1] == 0.0


def test_a_shift_of_a_centimetre_is_an_add_of_a_centimetre() -> None:
    pose = random_pose(3)
    assert add(POINTS, shifted(pose, 0, 0.006, 0.008), pose) == pytest.approx(0.01)
    assert translation_error(shifted(pose, 0.02, 0, 0)[:3, 3], pose[:3, 3]) == pytest.approx(0.02)


def test_add_s_goes_from_truth_to_estimate() -> None:
    """The other direction gives another number: a far outlier of the model weighs on one side."""
    a, b = random_pose(1), random_pose(2)
    points = np.vstack([POINTS, [[0.5, 0, 0]]])
    distances = cdist(trimesh.transform_points(points, b), trimesh.transform_points(points, a))
    assert add_s(points, a, b) == pytest.approx(distances.min(axis=1).mean())
    assert add_s(points, a, b) != pytest.approx(distances.min(axis=0).mean(), rel=1e-3)


@pytest.mark.parametrize("count", [1_500, 5_000])
def test_add_s_of_a_can_that_spins_is_the_spacing_of_its_points(count: int) -> None:
    can = trimesh.creation.cylinder(radius=0.05, height=0.14, sections=128)
    points = surface_samples(can, count, np.random.default_rng(0)).points
    rotated = trimesh.transformations.rotation_matrix(1.7, (0, 0, 1))
    expected = 0.5 * np.sqrt(can.area / count)
    assert add_s(points, rotated, np.eye(4)) == pytest.approx(expected, rel=0.05)


def test_add_s_ignores_a_symmetry_and_add_does_not() -> None:
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 6)] * 3), axis=-1).reshape(-1, 3)
    box = grid * (0.05, 0.03, 0.02)
    pose, rotation = random_pose(4), np.diag([-1.0, -1.0, 1.0, 1.0])
    assert add_s(box, pose @ rotation, pose) == pytest.approx(0, abs=1e-9)
    assert add(box, pose @ rotation, pose) > 0.02


@pytest.mark.parametrize("angle", [0.0, 1e-7, 0.3, 3.0, np.pi])
def test_the_angle_of_a_rotation_is_kept_also_when_tiny(angle: float) -> None:
    axis = np.array([1.0, 2.0, -2.0]) / 3.0
    R = random_pose(5)[:3, :3]
    rotated = R @ Rotation.from_rotvec(angle * axis).as_matrix()
    assert rotation_error(rotated, R) == pytest.approx(angle, abs=1e-9 if angle < 3 else 1e-6)


def test_rotations_agree_with_scipy_in_batches() -> None:
    a, b = Rotation.random(20, random_state=0), Rotation.random(20, random_state=1)
    expected = (a.inv() * b).magnitude()
    np.testing.assert_allclose(rotation_error(a.as_matrix(), b.as_matrix()), expected, atol=1e-7)


def test_symmetries_act_in_the_object_frame() -> None:
    R = random_pose(6)[:3, :3]
    group = Rotation.from_euler("z", [[0], [90], [180], [270]], degrees=True).as_matrix()
    rotation = Rotation.from_euler("z", 95, degrees=True).as_matrix()
    assert np.degrees(rotation_error(R @ rotation, R, group)) == pytest.approx(5)
    assert np.degrees(rotation_error(R @ rotation, R)) == pytest.approx(95)
    assert np.degrees(rotation_error(rotation @ R, R, group)) > 6  # about the camera's axis


@pytest.mark.parametrize(
    "errors_mm, expected",
    [
        ([10], 0.5),
        ([0], 1.0),
        ([20], 0.0),
        ([np.inf], 0.0),
        ([10, np.inf], 0.25),
        ([2, 5, 8, 30], (0.9 + 0.75 + 0.6) / 4),
        (np.linspace(0, 40, 401), 201 * 0.5 / 401),
    ],
)
def test_auc_at_two_centimetres_by_hand(errors_mm: list[float], expected: float) -> None:
    assert auc(np.asarray(errors_mm) * 1e-3, 0.02) == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.floats(0, 0.1) | st.just(float("inf")), min_size=1, max_size=30),
    st.sampled_from([0.01, 0.03, 0.1]),
)
def test_auc_is_the_integral_of_the_accuracy_curve(errors: list[float], threshold: float) -> None:
    """Integrate the step function exactly, between the places where it jumps."""
    errors = np.asarray(errors)
    jumps = np.unique([0.0, *errors[errors < threshold], threshold])
    area = sum(
        np.mean(errors <= start) * (end - start)
        for start, end in zip(jumps, jumps[1:], strict=False)
    )
    assert auc(errors, threshold) == pytest.approx(area / threshold, abs=1e-9)


@pytest.mark.parametrize("errors", [[], [np.nan], [-0.1]])
def test_auc_refuses_what_is_no_error(errors: list[float]) -> None:
    with pytest.raises(ValueError, match="at least one error"):
        auc(errors, 0.02)


def test_auc_refuses_a_threshold_of_zero() -> None:
    with pytest.raises(ValueError, match="positive threshold"):
        auc([0.1], 0.0)


def test_l1_chamfer_uses_city_block_distance_in_both_directions() -> None:
    blocks = cdist(A, B, "cityblock")
    assert l1_chamfer(A, B) == pytest.approx(blocks.min(1).mean() + blocks.min(0).mean())
    # (3, 3, 0) is nearer than (5, 0, 0) to the origin by straight lines, not by blocks.
    assert l1_chamfer([[0, 0, 0]], [[3, 3, 0], [5, 0, 0]]) == pytest.approx(5 + (6 + 5) / 2)


def test_squared_adds_both_directions() -> None:
    squares = cdist(A, B, "sqeuclidean")
    assert squared_chamfer(A, B) == pytest.approx(squares.min(1).mean() + squares.min(0).mean())
    assert squared_chamfer([[0, 0, 0]], [[3, 4, 0], [0, 0, 1]]) == pytest.approx(1 + (25 + 1) / 2)


def test_one_sided_goes_from_truth_to_estimate_in_diameters() -> None:
    a, b = A / cdist(A, A).max(), B / cdist(B, B).max()
    assert one_sided_normalised_chamfer(A, B) == pytest.approx(cdist(b, a).min(1).mean())
    assert one_sided_normalised_chamfer(3 * A, A) == pytest.approx(0, abs=1e-9)  # blind to size
    more = np.vstack([A, A[:50] * 0.3])
    assert one_sided_normalised_chamfer(more, A) == pytest.approx(0, abs=1e-9)  # and to more
    assert one_sided_normalised_chamfer(np.zeros((3, 3)), A) == np.inf


@pytest.mark.parametrize("points", [A, A[:3], A * (1, 1, 0), A * (1, 0, 0), A[:1], A[:0]])
def test_the_diameter_is_the_largest_distance(points: np.ndarray) -> None:
    assert diameter(points) == pytest.approx(cdist(points, points).max(initial=0.0))


def test_a_reconstruction_without_area_has_no_points() -> None:
    rng = np.random.default_rng(0)
    assert reconstructed_points(trimesh.Trimesh(), 10, rng).shape == (0, 3)
    line = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False)
    assert reconstructed_points(line, 10, rng).shape == (0, 3)
    box = trimesh.creation.box((0.1, 0.2, 0.3))
    points = reconstructed_points(box, 500, rng)
    on_a_side = np.abs(np.abs(points) - [0.05, 0.1, 0.15]).min(axis=1)
    assert points.shape == (500, 3) and on_a_side.max() < 1e-9
