"""Error metrics of poses and shapes, and the area under their accuracy curve."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull, QhullError, cKDTree

from crisp_ros.data.meshes import surface_samples

ADD_S_POINTS = 5_000
CHAMFER_SAMPLES = 10_000

Array = NDArray[np.float64]


def add(points: ArrayLike, T_estimate: ArrayLike, T_truth: ArrayLike) -> Array:
    """Compute ADD, the mean distance between corresponding model points at both poses.

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
    """Compute ADD-S, the mean distance from true model points to the nearest estimated ones.

    Args:
        points: (N, 3) model points, object frame, metres.
        T_estimate, T_truth: (4, 4) object to camera.

    Returns:
        Metres; 0 at the true pose. For a surface that slides along itself, such as a can that
        rotates about its axis, it is about 0.5 sqrt(area / N) with random points.
    """
    estimated = trimesh.transform_points(points, T_estimate)
    true = trimesh.transform_points(points, T_truth)
    return float(cKDTree(estimated).query(true)[0].mean())


def rotation_error(
    R_estimate: ArrayLike, R_truth: ArrayLike, symmetries: ArrayLike | None = None
) -> Array:
    """Compute the geodesic distance of two rotations, the smallest over the symmetries.

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
    """Compute the distance (...) between estimated and true object origins (..., 3), metres."""
    return np.linalg.norm(
        np.asarray(t_estimate, np.float64) - np.asarray(t_truth, np.float64), axis=-1
    )


def l1_chamfer(points_a: ArrayLike, points_b: ArrayLike) -> float:
    """Compute the Chamfer distance of SPE3R: nearest |dx| + |dy| + |dz|, both directions added.

    Args:
        points_a, points_b: (N, 3), (M, 3).

    Returns:
        In the unit of the points; for two sets a shift apart up to twice the shift.
    """
    a_to_b = cKDTree(points_b).query(points_a, p=1)[0].mean()
    b_to_a = cKDTree(points_a).query(points_b, p=1)[0].mean()
    return float(a_to_b + b_to_a)


def squared_chamfer(points_a: ArrayLike, points_b: ArrayLike) -> float:
    """Compute the Chamfer distance of NOCS: nearest squared distances, both directions added.

    Args:
        points_a, points_b: (N, 3), (M, 3).

    Returns:
        In the squared unit of the points.
    """
    a_to_b = np.square(cKDTree(points_b).query(points_a)[0]).mean()
    b_to_a = np.square(cKDTree(points_a).query(points_b)[0]).mean()
    return float(a_to_b + b_to_a)


def one_sided_normalised_chamfer(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Compute the Chamfer distance of the authors' code on YCB-Video, from truth to estimate.

    Each shape is divided by its own diameter, so a wrong size is not seen, nor are surplus parts
    of the estimate. Their diameter is that of a few random points; here it is exact.

    Args:
        estimate, truth: (N, 3), (M, 3) samples, object frame.

    Returns:
        Mean Euclidean distance from true points to the nearest of the estimate, in diameters.
    """
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    sizes = diameter(estimate), diameter(truth)
    if min(sizes) == 0.0:
        return float("inf")
    return float(cKDTree(estimate / sizes[0]).query(truth / sizes[1])[0].mean())


def diameter(points: ArrayLike) -> float:
    """Compute the largest distance between two of the points (N, 3)."""
    points = np.asarray(points, np.float64)
    if len(points) > 4:
        try:
            points = points[ConvexHull(points).vertices]
        except QhullError:  # flat: any of them may be a corner
            pass
    return float(max((np.linalg.norm(points - p, axis=1).max() for p in points), default=0.0))


class Surface(Protocol):
    """A triangulated surface, perhaps empty.

    Attributes:
        vertices: (V, 3) metres, object frame.
        faces: (F, 3) vertex indices.
    """

    @property
    def vertices(self) -> NDArray[np.floating]: ...

    @property
    def faces(self) -> NDArray[np.integer]: ...


def reconstructed_points(surface: Surface, samples: int, rng: np.random.Generator) -> Array:
    """Sample a reconstructed surface uniformly by area.

    Returns:
        (N, 3) metres, object frame; N is 0 for a surface without area.
    """
    mesh = trimesh.Trimesh(surface.vertices, surface.faces, process=False)
    if len(mesh.faces) == 0 or not mesh.area > 0.0:
        return np.zeros((0, 3))
    return surface_samples(mesh, samples, rng).points


def auc(errors: ArrayLike, threshold: float) -> float:
    """Compute the exact area under the accuracy-threshold curve, as a share of the threshold.

    The accuracy at t is the share of errors up to t; one error e adds max(0, 1 - e / threshold).

    Args:
        errors: one per instance, in the unit of the threshold; infinite for a missed one.
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


def pose_at_depth_centroid(
    mask: NDArray[np.bool_], depth: NDArray[np.floating], intrinsics: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Baseline pose T_camera_object (4, 4): the mean of an object's depth points, not rotated.

    Args:
        mask: (H, W) the object's pixels, all with depth; at least one.
        depth: (H, W) metres.
        intrinsics: (3, 3).
    """
    v, u = np.nonzero(mask)
    rays = np.stack([u, v, np.ones_like(u)], axis=1) @ np.linalg.inv(intrinsics).T
    T = np.eye(4)
    T[:3, 3] = (depth[v, u, None] * rays).mean(axis=0)
    return T
