"""Poses of geometry_msgs messages as matrices."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


def pose_matrix(position: Any, orientation: Any) -> NDArray[np.float64]:
    """Return a pose or transform as a matrix (4, 4), metres.

    Args:
        position: geometry_msgs Point or Vector3.
        orientation: geometry_msgs Quaternion.

    Raises:
        ValueError: the quaternion is zero.
    """
    q = orientation
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    T[:3, 3] = position.x, position.y, position.z
    return T
