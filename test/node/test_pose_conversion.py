"""Poses of messages against rotations of SciPy, and quaternions that are none."""

import math

import numpy as np
import pytest
import tf_transformations
from geometry_msgs.msg import Point, Quaternion
from scipy.spatial.transform import Rotation

from crisp_ros.data import pose_messages
from crisp_ros.node import pose_conversion
from crisp_ros.node.pose_conversion import pose_matrix, pose_message


def test_matrix_and_message_are_inverse() -> None:
    for rotation in Rotation.random(20, rng=np.random.default_rng(3)):
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = rotation.as_matrix(), (0.1, -0.2, 0.7)
        message = pose_message(T)
        q = message.orientation
        assert math.hypot(q.x, q.y, q.z, q.w) == pytest.approx(1.0)
        np.testing.assert_allclose(pose_matrix(message.position, q), T, atol=1e-12)


def test_node_and_recording_agree() -> None:
    position, orientation = Point(x=1.0, y=2.0, z=3.0), Quaternion(x=0.2, y=-0.4, z=1.0, w=-2.0)
    expected = pose_messages.pose_matrix(position, orientation)
    np.testing.assert_allclose(pose_matrix(position, orientation), expected, atol=1e-12)


@pytest.mark.parametrize("w", [0.0, math.nan, math.inf])
def test_quaternions_without_rotation_are_refused(w: float) -> None:
    with pytest.raises(ValueError, match="expected a quaternion of length 1"):
        pose_matrix(Point(), Quaternion(x=0.0, y=0.0, z=0.0, w=w))


def test_tf_transformations_converts() -> None:
    assert pose_conversion.quaternion_matrix is tf_transformations.quaternion_matrix
    assert pose_conversion.quaternion_from_matrix is tf_transformations.quaternion_from_matrix
