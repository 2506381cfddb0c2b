"""Poses of geometry_msgs messages to and from matrices, by tf_transformations."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from numpy.typing import NDArray
from tf_transformations import quaternion_from_matrix, quaternion_matrix


def pose_matrix(position: Point | Vector3, orientation: Quaternion) -> NDArray[np.float64]:
    """Return a pose or transform as a matrix (4, 4), metres; the quaternion is normalised.

    Raises:
        ValueError: the quaternion is zero or not finite.
    """
    xyzw = (orientation.x, orientation.y, orientation.z, orientation.w)
    if not np.isfinite(xyzw).all() or not any(xyzw):
        # tf_transformations takes it for no rotation.
        raise ValueError(f"the orientation x, y, z, w is {xyzw}: expected a quaternion of length 1")
    T = np.array(quaternion_matrix(xyzw))
    T[:3, 3] = position.x, position.y, position.z
    return T


def pose_message(T: NDArray[np.float64]) -> Pose:
    """Convert a transform (4, 4), metres, to a pose with a unit quaternion x, y, z, w."""
    x, y, z, w = map(float, quaternion_from_matrix(T))
    position = dict(zip("xyz", T[:3, 3].tolist(), strict=True))
    return Pose(position=Point(**position), orientation=Quaternion(x=x, y=y, z=z, w=w))
