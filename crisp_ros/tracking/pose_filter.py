"""An optional temporal filter of a track's pose: exponential smoothing on SE(3) with a gate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class PoseFilterSettings:
    """Settings of `PoseFilter`.

    Attributes:
        time_constant_s: the filter has followed a jump to 63 % after this time, and lags a steady
            motion by it.
        gate_m: a pose that would move a corner of the object's box by more is an outlier ...
        patience: ... until so many have come in a row; then the filter starts anew from the last.
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
        self._T: NDArray[np.float64] | None = None
        self._stamp_s = 0.0
        self._refused = 0

    def filtered(
        self, T: NDArray[np.float64], stamp_s: float, corners: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The smoothed pose after one more measurement.

        The middle of the corners moves on a line and the rotation on a geodesic, both by the share
        1 - exp(-dt / time_constant) of the way.

        Args:
            T: (4, 4) measured, object frame to a fixed frame.
            stamp_s: of the measurement, seconds, never decreasing.
            corners: (M, 3) of the object's box, object frame.
        """
        if self._T is None:
            return self._started(T, stamp_s)
        if largest_motion(self._T, T, corners) > self._settings.gate_m:
            self._refused += 1
            if self._refused >= self._settings.patience:
                return self._started(T, stamp_s)
            return self._T
        self._refused = 0
        share = 1.0 - math.exp(-(stamp_s - self._stamp_s) / self._settings.time_constant_s)
        middle = corners.mean(0)
        before, after = (pose[:3, :3] @ middle + pose[:3, 3] for pose in (self._T, T))
        ends = Rotation.from_matrix(np.stack((self._T[:3, :3], T[:3, :3])))
        smooth = np.eye(4)
        smooth[:3, :3] = Slerp([0.0, 1.0], ends)(share).as_matrix()
        smooth[:3, 3] = before + share * (after - before) - smooth[:3, :3] @ middle
        self._T, self._stamp_s = smooth, stamp_s
        return smooth

    def _started(self, T: NDArray[np.float64], stamp_s: float) -> NDArray[np.float64]:
        self._T, self._stamp_s, self._refused = T, stamp_s, 0
        return T


def largest_motion(
    a: NDArray[np.float64], b: NDArray[np.float64], points: NDArray[np.float64]
) -> float:
    """The farthest that any of the points (M, 3) lies apart at two poses (4, 4), metres.

    For the corners of a box this bounds the way of every point inside it.
    """
    change = a - b
    return float(np.linalg.norm(points @ change[:3, :3].T + change[:3, 3], axis=-1).max())
