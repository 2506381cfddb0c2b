"""The pose errors of the BOP benchmark and its average recall.

Hodan et al., BOP Challenge 2020 on 6D Object Localization, section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

SYMMETRY_STEPS = 315  # per revolution: none moves a point by more than 1 % of the diameter
MSSD_THRESHOLDS = np.arange(0.05, 0.51, 0.05)  # shares of the object's diameter
MSPD_THRESHOLDS_PX = np.arange(5.0, 51.0, 5.0)  # in an image of 640 pixels width

VSD_TOLERANCES = np.arange(0.05, 0.51, 0.05)  # shares of the object's diameter
VSD_THRESHOLDS = np.arange(0.05, 0.51, 0.05)  # shares of the visible pixels
VSD_DELTA_M = 0.015  # how far behind the measured surface still counts as visible

_CHUNK = 2_000_000  # numbers in memory at a time


class PoseError(NamedTuple):
    """Errors of one instance, infinite where it was missed.

    Attributes:
        mssd_m: metres.
        mspd_px: pixels.
        diameter_m: of the object.
        width_px: of the image.
        vsd: one per tolerance of VSD_TOLERANCES, 0 to 1; None if it was not measured.
    """

    mssd_m: float
    mspd_px: float
    diameter_m: float
    width_px: int
    vsd: tuple[float, ...] | None = None


def mssd(
    points: ArrayLike, T_estimate: ArrayLike, T_truth: ArrayLike, symmetries: ArrayLike
) -> float:
    """Compute the maximum symmetry-aware surface distance, metres.

    The smallest over the symmetries of the largest distance between a point at the estimated pose
    and the same point of the object, moved by the symmetry, at the true pose.

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
    """Compute the maximum symmetry-aware projection distance, pixels: as `mssd`, in the image.

    Infinite where a point is behind the camera.

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


def vsd(
    depth_estimate: ArrayLike,
    depth_truth: ArrayLike,
    depth_measured: ArrayLike,
    intrinsics: ArrayLike,
    diameter_m: float,
) -> tuple[float, ...]:
    """Compute the visible surface discrepancy, 0 to 1, for each of VSD_TOLERANCES.

    Of the pixels where the object is visible at either pose, the share where it is not visible at
    both or where the distance of the two surfaces is the tolerance or more. A surface is visible
    where it is at most VSD_DELTA_M farther from the camera than the measured depth, or where there
    is no measured depth; the estimated one also where the true one is visible.

    Args:
        depth_estimate, depth_truth: (H, W) of the model rendered at both poses, metres, 0 off the
            object.
        depth_measured: (H, W) metres, 0 where unknown.
        intrinsics: (3, 3) pixels.
    """
    images = [np.asarray(d, np.float64) for d in (depth_estimate, depth_truth, depth_measured)]
    height, width = images[0].shape
    u, v = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(np.asarray(intrinsics)).T
    # Distances from the camera, not along its axis.
    estimate, truth, measured = (d * np.linalg.norm(rays, axis=-1) for d in images)
    visible_truth = _visible(truth, measured)
    visible_estimate = _visible(estimate, measured) | (visible_truth & (estimate > 0.0))
    both = visible_truth & visible_estimate
    either = np.count_nonzero(visible_truth | visible_estimate)
    if either == 0:
        return (1.0,) * len(VSD_TOLERANCES)
    apart = np.abs(estimate - truth)[both] / diameter_m
    far = (apart[:, None] >= VSD_TOLERANCES).sum(axis=0)
    return tuple(((far + either - np.count_nonzero(both)) / either).tolist())


def _visible(model: NDArray[np.float64], measured: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (model > 0.0) & ((measured == 0.0) | (model - measured <= VSD_DELTA_M))


def average_recall(errors: Sequence[PoseError]) -> dict[str, float]:
    """Compute the average recall of each error: the mean over ten thresholds of the share of
    instances below the threshold.

    MSSD: 5 % to 50 % of the diameter; MSPD: 5 to 50 pixels in an image of 640 pixels width; VSD, if
    all instances have it: 5 % to 50 % of the pixels, and also the mean over its tolerances.

    Raises:
        ValueError: no instance.
    """
    if not errors:
        raise ValueError("expected at least one instance")
    surface = np.array([e.mssd_m / e.diameter_m for e in errors])
    projection = np.array([e.mspd_px * 640.0 / e.width_px for e in errors])
    recall = {
        "mssd": float(np.mean(surface[:, None] < MSSD_THRESHOLDS)),
        "mspd": float(np.mean(projection[:, None] < MSPD_THRESHOLDS_PX)),
    }
    if all(e.vsd is not None for e in errors):
        visible = np.array([e.vsd for e in errors])
        recall["vsd"] = float(np.mean(visible[..., None] < VSD_THRESHOLDS))
    return recall


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
