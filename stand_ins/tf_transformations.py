"""Stand-in for tf_transformations: rotations as quaternions x, y, z, w; angles in radians."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation


def quaternion_matrix(quaternion: ArrayLike) -> NDArray[np.float64]:
    """Return the homogeneous matrix (4, 4) of a quaternion, which is normalised first."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    return matrix


def quaternion_from_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """Return the unit quaternion (4,) of the rotation in a matrix (4, 4), with w not negative."""
    return Rotation.from_matrix(np.asarray(matrix)[:3, :3]).as_quat(canonical=True)


def quaternion_from_euler(ai: float, aj: float, ak: float) -> NDArray[np.float64]:
    """Return the unit quaternion (4,) of rotations about the fixed axes x, y, z, in this order."""
    return Rotation.from_euler("xyz", [ai, aj, ak]).as_quat()


def euler_from_quaternion(quaternion: ArrayLike) -> tuple[float, float, float]:
    """Return the angles about the fixed axes x, y, z, applied in this order."""
    roll, pitch, yaw = Rotation.from_quat(quaternion).as_euler("xyz")
    return float(roll), float(pitch), float(yaw)
