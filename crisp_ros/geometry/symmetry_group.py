"""Symmetric objects hold still: of equivalent poses, the one nearest to a reference."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

_SAMPLED_BELOW_RAD = np.deg2rad(15.0)  # no discrete symmetry turns by so little
_SAME_AXIS = np.cos(np.deg2rad(10.0))


class SymmetryGroup(NamedTuple):
    """The symmetries of a shape.

    transforms: (S, 4, 4) object frame, identity included; continuous ones are sampled.
    axes: (A, 3) unit axes of the continuous ones; two or more mean that every turn is one.
    centre: (3,) a point that all of them leave where it is, metres.
    """

    transforms: NDArray[np.float64]
    axes: NDArray[np.float64]
    centre: NDArray[np.float64]


def symmetry_group(transforms: NDArray[np.floating]) -> SymmetryGroup:
    """The group with its continuous axes, which show as turns of at most 15 degrees.

    Args:
        transforms: (S, 4, 4) as `rotational_symmetries` returns them.
    """
    transforms = np.asarray(transforms, np.float64)
    rotations, shifts = transforms[:, :3, :3], transforms[:, :3, 3]
    turns = Rotation.from_matrix(rotations).as_rotvec()
    axes: list[NDArray[np.float64]] = []
    for turn in turns:
        angle = float(np.linalg.norm(turn))
        if 1e-3 < angle < _SAMPLED_BELOW_RAD:
            axis = turn / angle
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
    """The pose T S, S a symmetry, nearest to a reference pose.

    Near means: the mean squared way of the corners of the shape's box. A continuous symmetry is
    stored sampled every 10 degrees; the turn about its axis that remains, up to 5 degrees, cannot
    be observed and is taken out as well, in closed form. So an upright can seems not to turn about
    its axis, whether it does or not. A shape that every turn maps onto itself keeps the reference's
    rotation.

    Args:
        T: (4, 4) object frame to some frame.
        reference: (4, 4) object frame to the same frame.
        group: of the shape.
        lower, upper: (3,) corners of the shape's box, object frame, metres.

    Returns:
        (4, 4), T where the shape has no symmetry.
    """
    if len(group.axes) >= 2:
        still = T.copy()
        still[:3, :3] = reference[:3, :3]
        middle = T[:3, :3] @ group.centre + T[:3, 3]
        still[:3, 3] = middle - still[:3, :3] @ group.centre
        return still
    if len(group.transforms) == 1:
        return T
    corners = box_corners(lower, upper)
    wanted = corners @ reference[:3, :3].T + reference[:3, 3]
    poses = T @ group.transforms
    placed = corners @ poses[:, :3, :3].transpose(0, 2, 1) + poses[:, None, :3, 3]
    nearest = poses[np.square(placed - wanted).sum((1, 2)).argmin()]
    if len(group.axes) == 0:
        return nearest
    # The best turn: with q the corners about the axis' point and w where they should come to lie,
    # the sum of (Rot(angle) q) . w is C cos(angle) + S sin(angle) + const.
    axis, centre = group.axes[0], group.centre
    q = corners - centre
    w = (wanted - nearest[:3, :3] @ centre - nearest[:3, 3]) @ nearest[:3, :3]
    across = q - (q @ axis)[:, None] * axis
    angle = np.arctan2((np.cross(axis, q) * w).sum(), (across * w).sum())
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(angle * axis).as_matrix()
    turn[:3, 3] = centre - turn[:3, :3] @ centre
    return nearest @ turn


def box_corners(lower: NDArray[np.floating], upper: NDArray[np.floating]) -> NDArray[np.float64]:
    """The eight corners (8, 3) of a box."""
    return np.array(list(itertools.product(*zip(lower, upper, strict=True))), np.float64)
