"""Error measures of poses and shapes, and the area under their accuracy curve."""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from crisp_ros.data.meshes import surface_samples

ADD_S_POINTS = 5_000
CHAMFER_SAMPLES = 10_000

Array = NDArray[np.float64]


def add(points: ArrayLike, T_estimate: ArrayLike, T_truth: ArrayLike) -> Array:
    """ADD: mean distance between corresponding model points at both poses.

    Args:
        points: (N, 3) model points, object frame, metres.
        T_estimate, T_truth: (..., 4, 4) object to camera; leading dimensions broadcast.

    Returns:
        (...) metres.
    """
    # Only the difference of the poses moves a point, so it alone is applied.
    difference = np.asarray(T_estimate, np.float64) - np.asarray(T_truth, np.float64)
    points = np.asarray(points, np.float64)
    moved = points @ np.swapaxes(difference[..., :3, :3], -1, -2) + difference[..., None, :3, 3]
    return np.linalg.norm(moved, axis=-1).mean(axis=-1)


def add_s(points: ArrayLike, T_estimate: ArrayLike, T_truth: ArrayLike) -> float:
    """ADD-S: mean distance from each model point at the true pose to the nearest at the estimate.

    Args:
        points: (N, 3) model points, object frame, metres.
        T_estimate, T_truth: (4, 4) object to camera.

    Returns:
        Metres; 0 at the true pose. A surface that slid along itself, as a can that turns, is about
        0.5 sqrt(area / N) from itself where its points are random.
    """
    estimated = trimesh.transform_points(points, T_estimate)
    true = trimesh.transform_points(points, T_truth)
    return float(cKDTree(estimated).query(true)[0].mean())


def rotation_error(
    R_estimate: ArrayLike, R_truth: ArrayLike, symmetries: ArrayLike | None = None
) -> Array:
    """Smallest angle between the estimated rotation and one that looks like the true rotation.

    Args:
        R_estimate, R_truth: (..., 3, 3) object to camera; leading dimensions broadcast.
        symmetries: (S, 3, 3) rotations that map the object onto itself; None: only the identity.

    Returns:
        (...) radians, 0 to pi.
    """
    group = np.eye(3)[None] if symmetries is None else np.asarray(symmetries, np.float64)
    truths = np.asarray(R_truth, np.float64)[..., None, :, :] @ group
    difference = np.asarray(R_estimate, np.float64)[..., None, :, :] - truths
    # The chord ||A - B||_F = 2 sqrt(2) sin(angle / 2) keeps small angles, which a trace loses.
    chord = np.linalg.norm(difference, axis=(-2, -1)).min(axis=-1)
    return 2.0 * np.arcsin(np.minimum(chord / np.sqrt(8.0), 1.0))


def translation_error(t_estimate: ArrayLike, t_truth: ArrayLike) -> Array:
    """Distance (...) between estimated and true object origins (..., 3), metres."""
    return np.linalg.norm(
        np.asarray(t_estimate, np.float64) - np.asarray(t_truth, np.float64), axis=-1
    )


def chamfer(points_a: ArrayLike, points_b: ArrayLike) -> float:
    """Chamfer distance: nearest Euclidean distances (N, 3) to (M, 3), mean of both directions."""
    a_to_b = cKDTree(points_b).query(points_a)[0].mean()
    b_to_a = cKDTree(points_a).query(points_b)[0].mean()
    return float((a_to_b + b_to_a) / 2.0)


def shape_error(
    estimate: trimesh.Trimesh,
    truth: trimesh.Trimesh,
    rng: np.random.Generator,
    samples: int = CHAMFER_SAMPLES,
) -> float:
    """Chamfer distance in metres between uniform samples of two surfaces in the object frame.

    Two drawings of one surface of area A stay about 0.5 sqrt(A / samples) apart: 0.7 mm for a
    soup can. Raises MeshError for a surface without area.
    """
    return chamfer(
        surface_samples(estimate, samples, rng).points, surface_samples(truth, samples, rng).points
    )


def auc(errors: ArrayLike, threshold: float) -> float:
    """Exact area under the accuracy-threshold curve from 0 to `threshold`, over `threshold`.

    The accuracy at t is the share of errors up to t; one error e adds max(0, 1 - e / threshold).

    Args:
        errors: one an instance, in the unit of the threshold; infinite where it was missed.
        threshold: positive.

    Returns:
        0 (all beyond the threshold) to 1 (all zero).

    Raises:
        ValueError: no error, a negative one or NaN, or a threshold that is not positive.
    """
    errors = np.asarray(errors, np.float64)
    if errors.size == 0 or not np.all(errors >= 0.0):
        raise ValueError("expected at least one error, none negative; a missed one is infinite")
    if not threshold > 0.0:
        raise ValueError(f"expected a positive threshold, got {threshold}")
    return float(np.maximum(0.0, 1.0 - errors / threshold).mean())
