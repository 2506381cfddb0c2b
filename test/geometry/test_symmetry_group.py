import numpy as np
import pytest
from poses import pose, random_pose, rotations
from scipy.optimize import minimize_scalar
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.symmetry_group import (
    box_corners,
    nearest_symmetric_pose,
    symmetry_group,
)

LOWER, UPPER = np.array([-0.03, -0.03, -0.05]), np.array([0.03, 0.03, 0.05])
BOX = np.concatenate(
    [rotations([0, 0, 1], 2), rotations([1, 0, 0], 2)[1:], rotations([0, 1, 0], 2)[1:]]
)
CAN = np.concatenate(
    [rotations([0, 0, 1], 36), rotations([0, 0, 1], 36) @ rotations([1, 0, 0], 2)[1]]
)


def distance(T, reference, lower=LOWER, upper=UPPER):
    corners = box_corners(lower, upper)
    apart = (T - reference)[:3, :3] @ corners.T + (T - reference)[:3, 3:]
    return np.square(apart).sum()


def shifted(transforms, centre):
    """The same symmetries of a shape whose middle lies elsewhere."""
    move = pose(centre)
    return move @ transforms @ np.linalg.inv(move)


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (0.02, -0.01, 0.04)])
@pytest.mark.parametrize("group", [BOX, rotations([0, 0, 1], 4)])
def test_discrete_symmetries_give_the_nearest_of_all(group, centre):
    rng = np.random.default_rng(1)
    group = shifted(group, centre)
    for _ in range(20):
        T, reference = random_pose(rng), random_pose(rng)
        found = nearest_symmetric_pose(T, reference, symmetry_group(group), LOWER, UPPER)
        assert distance(found, reference) == pytest.approx(
            min(distance(T @ S, reference) for S in group)
        )
        assert min(np.abs(found - T @ S).max() for S in group) < 1e-12


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.0), (0.02, -0.01, 0.04)])
def test_a_continuous_symmetry_gives_the_nearest_rotation(centre):
    rng = np.random.default_rng(2)
    group, move = symmetry_group(shifted(CAN, centre)), pose(centre)
    lower, upper = LOWER + centre, UPPER + centre
    assert np.allclose(np.abs(group.axes), [[0, 0, 1]])
    for _ in range(10):
        T = random_pose(rng)
        reference = T @ move @ pose((0.01, 0.0, 0.01), rng.normal(0, 0.2, 3)) @ np.linalg.inv(move)
        reference = reference @ shifted(CAN, centre)[rng.integers(72)]
        found = nearest_symmetric_pose(T, reference, group, lower, upper)

        def rotated(angle, flip, T=T):
            S = rotations([0, 0, 1], 1)[0]
            S[:3, :3] = Rotation.from_rotvec([0, 0, angle]).as_matrix() @ flip[:3, :3]
            return T @ shifted(S[None], centre)[0]

        best = min(
            minimize_scalar(
                lambda a, f=flip, t=rotated, r=reference: distance(t(a, f), r, lower, upper),
                bounds=(start, start + 0.2),
                method="bounded",
                options={"xatol": 1e-9},
            ).fun
            for flip in rotations([1, 0, 0], 2)
            for start in np.arange(0, 2 * np.pi, 0.2)
        )
        assert distance(found, reference, lower, upper) == pytest.approx(best, rel=1e-6, abs=1e-12)


def test_it_remains_a_pose_of_the_same_can():
    rng = np.random.default_rng(3)
    T, reference = random_pose(rng), random_pose(rng)
    found = nearest_symmetric_pose(T, reference, symmetry_group(CAN), LOWER, UPPER)
    assert np.allclose(found[:3, 3], T[:3, 3])
    assert abs(found[:3, 2] @ T[:3, 2]) == pytest.approx(1.0)
    assert np.allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3))


def test_a_ball_keeps_the_rotation_of_its_reference():
    ball = np.concatenate([rotations([0, 0, 1], 36), rotations([0, 1, 0], 36)])
    centre = np.array([0.01, 0.02, 0.03])
    rng = np.random.default_rng(4)
    T, reference = random_pose(rng), random_pose(rng)
    group = symmetry_group(shifted(ball, centre))
    found = nearest_symmetric_pose(T, reference, group, LOWER + centre, UPPER + centre)
    assert np.allclose(found[:3, :3], reference[:3, :3])
    assert np.allclose(found[:3, :3] @ centre + found[:3, 3], T[:3, :3] @ centre + T[:3, 3])


def test_a_shape_without_symmetry_stays():
    rng = np.random.default_rng(5)
    T, group = random_pose(rng), symmetry_group(np.eye(4)[None])
    assert nearest_symmetric_pose(T, random_pose(rng), group, LOWER, UPPER) is T
