"""Rigid transforms as arrays: input of the tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


def rotations(axis: Sequence[float], count: int) -> NDArray[np.float64]:
    """Rotations (count, 4, 4) about an axis through the origin, evenly spaced, identity first."""
    T = np.tile(np.eye(4), (count, 1, 1))
    angles = 2 * np.pi * np.arange(count) / count
    T[:, :3, :3] = Rotation.from_rotvec(angles[:, None] * np.asarray(axis)).as_matrix()
    return T


def pose(
    position: Sequence[float] = (0.0, 0.0, 0.8), rotvec: Sequence[float] = (0.0, 0.0, 0.0)
) -> NDArray[np.float64]:
    """A pose (4, 4)."""
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(rotvec).as_matrix()
    T[:3, 3] = position
    return T


def random_pose(seed: int | np.random.Generator, spread: float = 0.5) -> NDArray[np.float64]:
    """A random pose (4, 4) within `spread` metres of (0, 0, 1)."""
    rng, T = np.random.default_rng(seed), np.eye(4)
    T[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    T[:3, 3] = rng.uniform(-spread, spread, 3) + (0.0, 0.0, 1.0)
    return T
