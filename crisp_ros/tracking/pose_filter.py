"""Optional smoothing of a track's pose: exponential on SE(3), with an outlier gate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from crisp_ros.geometry.se3 import rotation_about, transform_point
from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class PoseFilterSettings:
    """Settings of `PoseFilter`.

    Attributes:
        time_constant_s: after this time the filter has followed a step to 63 %; it lags a steady
            motion by as much.
        gate_m: a pose that moves a corner of the object's box by more is an outlier, metres.
        patience: after so many consecutive outliers the filter restarts from the last one.
    """

    time_constant_s: float = ranged(0.1, 0.001, 10.0)
    gate_m: float = ranged(0.1, 0.001, 10.0)
    patience: int = ranged(3, 1, 1000)

    def __post_init__(self) -> None:
        check_ranges(self)


class PoseFilter:
    """Smooths the pose of one object."""

    def __init__(self, settings: PoseFilterSettings) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget the measurements so far."""
        self._T: NDArray[np.float64] | None = None
        self._stamp_s = 0.0
        self._refused = 0

    def update(
        self, T: NDArray[np.float64], stamp_s: float, corners: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Add a measurement and return the smoothed pose (4, 4).

        The centre of the corners moves on a line and the rotation on a geodesic, both by the share
        1 - exp(-dt / time_constant) of the way.

        Args:
            T: (4, 4) measured, object frame to a fixed frame.
            stamp_s: of the measurement, seconds, never decreasing.
            corners: (M, 3) of the object's box, object frame.
        """
        if self._T is None:
            return self._restart(T, stamp_s)
        if largest_motion(self._T, T, corners) > self._settings.gate_m:
            self._refused += 1
            if self._refused >= self._settings.patience:
                return self._restart(T, stamp_s)
            return self._T
        self._refused = 0
        share = 1.0 - math.exp(-(stamp_s - self._stamp_s) / self._settings.time_constant_s)
        centre = corners.mean(0)
        before, after = transform_point(np.stack((self._T, T)), centre)
        ends = Rotation.from_matrix(np.stack((self._T[:3, :3], T[:3, :3])))
        rotation = Slerp([0.0, 1.0], ends)(share).as_matrix()
        self._T = rotation_about(rotation, centre, before + share * (after - before))
        self._stamp_s = stamp_s
        return self._T

    def _restart(self, T: NDArray[np.float64], stamp_s: float) -> NDArray[np.float64]:
        self._T, self._stamp_s, self._refused = T, stamp_s, 0
        return T


def largest_motion(
    a: NDArray[np.float64], b: NDArray[np.float64], points: NDArray[np.float64]
) -> float:
    """Find the largest distance of any of the points (M, 3) between two poses (4, 4), metres.

    For the corners of a box this bounds the motion of every point inside it.
    """
    change = a - b
    return float(np.linalg.norm(points @ change[:3, :3].T + change[:3, 3], axis=-1).max())
