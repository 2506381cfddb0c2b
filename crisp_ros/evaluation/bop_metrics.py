"""The pose errors of the BOP benchmark that need no rendering, and its average recall.

Hodan et al., BOP Challenge 2020 on 6D Object Localization, section 2.2. The third error of the
benchmark, VSD, is not computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

SYMMETRY_STEPS = 315  # of a full turn: none moves a point by more than 1 % of the diameter
MSSD_THRESHOLDS = np.arange(0.05, 0.51, 0.05)  # shares of the object's diameter
MSPD_THRESHOLDS_PX = np.arange(5.0, 51.0, 5.0)  # in an image of 640 pixels width

_CHUNK = 2_000_000  # numbers in memory at a time


class PoseError(NamedTuple):
    """Errors of one instance, infinite where nothing was estimated.

    mssd_m: metres. mspd_px: pixels. diameter_m: of the object. width_px: of the image.
    """

    mssd_m: float
    mspd_px: float
    diameter_m: float
    width_px: int


def mssd(
    points: ArrayLike, T_estimate: ArrayLike, T_truth: ArrayLike, symmetries: ArrayLike
) -> float:
    """Maximum symmetry-aware surface distance, metres.

    The least over the symmetries of the largest distance between a point at the estimated pose
    and the same point of the turned object at the true pose.

    Args:
        points: (N, 3) model points, metres; the corners of the convex hull give the same.
        T_estimate, T_truth: (4, 4) object to camera, metres.
        symmetries: (S, 4, 4) motions of the object onto itself.
    """
    points = np.asarray(points, np.float64)
    truths = np.asarray(T_truth, np.float64) @ np.asarray(symmetries, np.float64)
    # Only the difference of the poses moves a point, so it alone is applied.
    differences = np.asarray(T_estimate, np.float64) - truths
    worst = [
        np.linalg.norm(_applied(part, points), axis=-1).max(axis=-1)
        for part in _parts(differences, len(points))
    ]
    return float(np.concatenate(worst).min())


def mspd(
    points: ArrayLike,
    T_estimate: ArrayLike,
    T_truth: ArrayLike,
    symmetries: ArrayLike,
    intrinsics: ArrayLike,
) -> float:
    """Maximum symmetry-aware projection distance, pixels: as `mssd`, but in the image.

    Infinite where a point lies behind the camera.

    Args:
        intrinsics: (3, 3) pixels.
    """
    points = np.asarray(points, np.float64)
    K = np.asarray(intrinsics, np.float64)
    estimated = _projected(np.asarray(T_estimate, np.float64)[None], points, K)
    truths = np.asarray(T_truth, np.float64) @ np.asarray(symmetries, np.float64)
    worst = [
        np.linalg.norm(_projected(part, points, K) - estimated, axis=-1).max(axis=-1)
        for part in _parts(truths, len(points))
    ]
    least = float(np.concatenate(worst).min())
    return least if np.isfinite(least) else float("inf")


def average_recall(errors: Sequence[PoseError]) -> dict[str, float]:
    """Of each error the share of instances below a threshold, mean over its ten thresholds.

    MSSD: 5 % to 50 % of the diameter; MSPD: 5 to 50 pixels where the image is 640 wide.

    Raises:
        ValueError: no instance.
    """
    if not errors:
        raise ValueError("expected at least one instance")
    surface = np.array([e.mssd_m / e.diameter_m for e in errors])
    projection = np.array([e.mspd_px * 640.0 / e.width_px for e in errors])
    return {
        "mssd": float(np.mean(surface[:, None] < MSSD_THRESHOLDS)),
        "mspd": float(np.mean(projection[:, None] < MSPD_THRESHOLDS_PX)),
    }


def _applied(motions: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, N, 3)."""
    return points @ motions[:, :3, :3].swapaxes(-1, -2) + motions[:, None, :3, 3]


def _projected(
    motions: NDArray[np.float64], points: NDArray[np.float64], K: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(S, N, 2) pixels, NaN behind the camera."""
    homogeneous = _applied(motions, points) @ K.T
    depth = homogeneous[..., 2:]
    return homogeneous[..., :2] / np.where(depth > 0.0, depth, np.nan)


def _parts(motions: NDArray[np.float64], points: int) -> list[NDArray[np.float64]]:
    count = max(1, _CHUNK // max(3 * points, 1))
    return [motions[i : i + count] for i in range(0, len(motions), count)]
