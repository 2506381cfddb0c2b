"""How much a track trembles."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation


class Jitter(NamedTuple):
    """Root mean squares over a track, metres and radians; NaN where it is too short.

    step_m, step_rad: from each frame to the next. They are the jitter of an object at rest.
    noise_m, noise_rad: standard deviation of independent errors that would explain how far each
    pose lies off the middle of its neighbours. They are the jitter of a moving object too: steady
    motion and rotation do not count.
    """

    step_m: float
    step_rad: float
    noise_m: float
    noise_rad: float


def jitter(poses: ArrayLike, centre: ArrayLike = (0.0, 0.0, 0.0)) -> Jitter:
    """The jitter of a track's poses in a fixed frame.

    Args:
        poses: (F, 4, 4) in the order of time, evenly spaced.
        centre: (3,) the object's middle in its own frame, metres, whose position is judged.

    Raises:
        ValueError: the poses do not have the shape (F, 4, 4).
    """
    T = np.asarray(poses, np.float64)
    if T.ndim != 3 or T.shape[1:] != (4, 4):
        raise ValueError(f"poses have shape {T.shape}: expected (F, 4, 4)")
    positions = T[:, :3, :3] @ np.asarray(centre, np.float64) + T[:, :3, 3]
    steps = np.diff(positions, axis=0)
    relative = T[:-1, :3, :3].transpose(0, 2, 1) @ T[1:, :3, :3]
    turns = Rotation.from_matrix(relative).as_rotvec() if len(relative) else np.zeros((0, 3))
    # A second difference adds one error, twice another and a third: its variance is six times one.
    return Jitter(
        _rms(steps),
        _rms(turns),
        _rms(np.diff(steps, axis=0)) / 6.0**0.5,
        _rms(np.diff(turns, axis=0)) / 6.0**0.5,
    )


def _rms(vectors: np.ndarray) -> float:
    return float(np.sqrt(np.square(vectors).sum(-1).mean())) if len(vectors) else float("nan")
