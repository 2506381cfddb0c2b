"""Rotational symmetries of a shape, found from points on its surface."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.se3 import rotation_about

_CONTINUOUS_STEPS = 36
_PROBES = 1500


def rotational_symmetries(
    points: NDArray[np.float64],
    distance: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    tolerance_m: float,
    max_order: int = 4,
) -> NDArray[np.float64]:
    """Find the rotations that map a surface onto itself, identity first.

    Candidate axes are those of the object frame and the principal axes of the surface, through the
    centre of its box. A rotation is accepted if the mean distance of the rotated points to the
    surface is at most `tolerance_m`. An axis about which every rotation is accepted is continuous
    and is sampled every 10 degrees. A ball has two such axes, and gets the 60 rotations of the
    icosahedron.

    Args:
        points: (N, 3) evenly spread surface samples, metres, object frame.
        distance: of points (M, 3), object frame, to the surface, (M,) metres.
        tolerance_m: largest mean distance that counts as the same shape, metres.
        max_order: highest order of a discrete axis.

    Returns:
        (S, 4, 4) object-frame transforms, a group up to the tolerance.
    """
    points = np.asarray(points, np.float64)
    centre = (points.min(0) + points.max(0)) / 2.0
    centred = points - centre
    probes = centred[:: max(1, len(centred) // _PROBES)]

    def fits(rotation: NDArray[np.float64]) -> bool:
        return bool(distance(probes @ rotation.T + centre).mean() <= tolerance_m)

    group = [np.eye(3)]
    continuous = 0
    for axis in _candidate_axes(centred):
        if (np.abs(_axes(group) @ axis) > np.cos(np.deg2rad(10.0))).any():
            continue  # an axis that the group has already, less accurate
        if fits(_rotation(axis, 2.0 * np.pi * 0.137)) and fits(
            _rotation(axis, 2.0 * np.pi * 0.291)
        ):
            steps = _CONTINUOUS_STEPS
            continuous += 1
            if continuous == 2:
                group = list(_ball())
                break
        else:
            orders = [n for n in range(max_order, 1, -1) if fits(_rotation(axis, 2.0 * np.pi / n))]
            steps = orders[0] if orders else 1
        rotations = [_rotation(axis, 2.0 * np.pi * i / steps) for i in range(steps)]
        group = _distinct([a @ b for a in rotations for b in group])
    return rotation_about(np.array(group), centre)


def _candidate_axes(centred: NDArray[np.float64]) -> NDArray[np.float64]:
    # Object frames are usually aligned with the shape, so their axes come first; the principal
    # axes serve other shapes.
    _, _, principal = np.linalg.svd(centred - centred.mean(0), full_matrices=False)
    axes = list(np.eye(3)[::-1])
    axes += [a for a in principal if max(abs(a)) < np.cos(np.deg2rad(1.0))]
    return np.array(axes)


def _ball() -> NDArray[np.float64]:
    """The icosahedron's rotations (60, 3, 3), identity first."""
    rotations = Rotation.create_group("I").as_matrix()
    return rotations[np.argsort(-np.trace(rotations, axis1=1, axis2=2), kind="stable")]


def _rotation(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    return Rotation.from_rotvec(axis * angle).as_matrix()


def _axes(rotations: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Unit axes (A, 3) of the rotations other than the identity."""
    rotvecs = Rotation.from_matrix(np.array(rotations)).as_rotvec()
    angles = np.linalg.norm(rotvecs, axis=1)
    return rotvecs[angles > 1e-3] / angles[angles > 1e-3, None]


def _distinct(rotations: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    kept: list[NDArray[np.float64]] = []
    for rotation in rotations:
        if all(
            np.trace(rotation.T @ other) < 1.0 + 2.0 * np.cos(np.deg2rad(3.0)) for other in kept
        ):
            kept.append(rotation)
    return kept
