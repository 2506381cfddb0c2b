"""tf_transformations against products of elementary rotations."""

import math

import numpy as np
import pytest
from tf_transformations import (
    euler_from_quaternion,
    quaternion_from_euler,
    quaternion_from_matrix,
    quaternion_matrix,
)


def about(axis: int, angle: float) -> np.ndarray:
    matrix = np.eye(4)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[j, i], matrix[i, j] = math.sin(angle), -math.sin(angle)
    return matrix


ANGLES = [(0.3, -0.7, 2.0), (-2.5, 1.2, -0.1), (0.0, 0.0, 3.0)]


@pytest.mark.parametrize("angles", ANGLES)
def test_euler_angles_turn_about_fixed_axes(angles: tuple[float, float, float]) -> None:
    roll, pitch, yaw = angles
    quaternion = quaternion_from_euler(roll, pitch, yaw)
    expected = about(2, yaw) @ about(1, pitch) @ about(0, roll)
    np.testing.assert_allclose(quaternion_matrix(quaternion), expected, atol=1e-12)
    np.testing.assert_allclose(euler_from_quaternion(quaternion), angles, atol=1e-12)


@pytest.mark.parametrize("angles", ANGLES)
def test_matrix_and_quaternion_are_inverse(angles: tuple[float, float, float]) -> None:
    matrix = about(0, angles[0]) @ about(1, angles[1]) @ about(2, angles[2])
    quaternion = quaternion_from_matrix(matrix)
    assert np.linalg.norm(quaternion) == pytest.approx(1.0)
    np.testing.assert_allclose(quaternion_matrix(quaternion), matrix, atol=1e-12)


def test_the_real_part_comes_last() -> None:
    half = math.sqrt(0.5)
    quaternion = quaternion_from_matrix(about(2, math.pi / 2))
    np.testing.assert_allclose(quaternion, [0, 0, half, half], atol=1e-12)
