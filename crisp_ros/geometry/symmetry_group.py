"""Symmetry groups of shapes, and the pose nearest to a reference among equivalent ones."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.se3 import (
    from_rotation_translation,
    rotation_about,
    transform,
    transform_point,
)

_SAMPLED_BELOW_RAD = np.deg2rad(15.0)  # no discrete symmetry rotates by so little
_SAME_AXIS = np.cos(np.deg2rad(10.0))


class SymmetryGroup(NamedTuple):
    """The symmetries of a shape.

    Attributes:
        transforms: (S, 4, 4) object frame, identity included; continuous ones are sampled.
        axes: (A, 3) unit axes of the continuous ones; with two or more, every rotation is one.
        centre: (3,) metres, a point that all of them leave in place.
    """

    transforms: NDArray[np.float64]
    axes: NDArray[np.float64]
    centre: NDArray[np.float64]


def symmetry_group(transforms: NDArray[np.floating]) -> SymmetryGroup:
    """Find the continuous axes of a group, whose rotations are sampled by at most 15 degrees.

    Args:
        transforms: (S, 4, 4) as `rotational_symmetries` returns them.
    """
    rotation = Rotation.from_matrix(transforms[:, :3, :3])  # exact, of single precision too
    rotations, shifts = rotation.as_matrix(), np.asarray(transforms[:, :3, 3], np.float64)
    transforms = from_rotation_translation(rotations, shifts)
    axes: list[NDArray[np.float64]] = []
    for rotvec in rotation.as_rotvec():
        angle = float(np.linalg.norm(rotvec))
        if 1e-3 < angle < _SAMPLED_BELOW_RAD:
            axis = rotvec / angle
            if all(abs(axis @ other) < _SAME_AXIS for other in axes):
                axes.append(axis)
    system = (np.eye(3) - rotations).reshape(-1, 3)
    centre = np.linalg.lstsq(system, shifts.reshape(-1), rcond=1e-6)[0]
    return SymmetryGroup(transforms, np.array(axes).reshape(-1, 3), centre)


def nearest_symmetric_pose(
    T: NDArray[np.float64],
    reference: NDArray[np.float64],
    group: SymmetryGroup,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Choose the pose T S, S a symmetry, nearest to a reference pose.

    The distance of two poses is the mean squared distance of the corners of the shape's box. A
    continuous symmetry is sampled every 10 degrees; the remaining rotation about its axis, up to 5
    degrees, cannot be observed and is removed as well, in closed form. An upright can therefore
    appears not to rotate about its axis, whether it does or not. A shape with every rotation as a
    symmetry keeps the rotation of the reference.

    Args:
        T: (4, 4) object frame to some frame.
        reference: (4, 4) object frame to the same frame.
        group: of the shape.
        lower: (3,) corner of the shape's box, object frame, metres.
        upper: (3,) opposite corner.

    Returns:
        (4, 4), T where the shape has no symmetry.
    """
    if len(group.axes) >= 2:
        return rotation_about(reference[:3, :3], group.centre, transform_point(T, group.centre))
    if len(group.transforms) == 1:
        return T
    corners = box_corners(lower, upper)
    wanted = transform(reference, corners)
    poses = T @ group.transforms
    nearest = poses[np.square(transform(poses, corners) - wanted).sum((1, 2)).argmin()]
    if len(group.axes) == 0:
        return nearest
    # The best rotation about the axis: with q the corners relative to its centre and w their wanted
    # positions, the sum of (Rot(angle) q) . w is C cos(angle) + S sin(angle) + const.
    axis, centre = group.axes[0], group.centre
    q = corners - centre
    w = (wanted - transform_point(nearest, centre)) @ nearest[:3, :3]
    across = q - (q @ axis)[:, None] * axis
    angle = np.arctan2((np.cross(axis, q) * w).sum(), (across * w).sum())
    return nearest @ rotation_about(Rotation.from_rotvec(angle * axis).as_matrix(), centre)


def box_corners(lower: NDArray[np.floating], upper: NDArray[np.floating]) -> NDArray[np.float64]:
    """The eight corners (8, 3) of a box."""
    return np.array(list(itertools.product(*zip(lower, upper, strict=True))), np.float64)
