"""Jitter of a track's poses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from crisp_ros.geometry.se3 import transform_point


class Jitter(NamedTuple):
    """Root mean squares over a track; NaN where it is too short.

    Attributes:
        step_m: translation from each frame to the next, metres; the jitter of an object at rest.
        step_rad: rotation from each frame to the next, radians.
        noise_m: standard deviation of independent errors that would explain the distance of each
            pose from the middle of its neighbours, metres; the jitter of a moving object too, as
            steady motion does not count.
        noise_rad: the same of rotations, radians.
    """

    step_m: float
    step_rad: float
    noise_m: float
    noise_rad: float


def jitter(poses: ArrayLike, centre: ArrayLike = (0.0, 0.0, 0.0)) -> Jitter:
    """Measure the jitter of a track's poses in a fixed frame.

    Args:
        poses: (F, 4, 4) in the order of time, evenly spaced.
        centre: (3,) the object's centre in its own frame, metres, whose position is measured.

    Raises:
        ValueError: the poses do not have the shape (F, 4, 4).
    """
    T = np.asarray(poses, np.float64)
    if T.ndim != 3 or T.shape[1:] != (4, 4):
        raise ValueError(f"poses have shape {T.shape}: expected (F, 4, 4)")
    steps = np.diff(transform_point(T, np.asarray(centre, np.float64)), axis=0)
    relative = T[:-1, :3, :3].swapaxes(-1, -2) @ T[1:, :3, :3]
    rotations = Rotation.from_matrix(relative).as_rotvec() if len(relative) else np.zeros((0, 3))
    # A second difference adds one error, twice another and a third: its variance is six times one.
    return Jitter(
        _rms(steps),
        _rms(rotations),
        _rms(np.diff(steps, axis=0)) / 6.0**0.5,
        _rms(np.diff(rotations, axis=0)) / 6.0**0.5,
    )


def _rms(vectors: np.ndarray) -> float:
    return float(np.sqrt(np.square(vectors).sum(-1).mean())) if len(vectors) else float("nan")
