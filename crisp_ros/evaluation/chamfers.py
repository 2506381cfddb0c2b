"""Other Chamfer distances than `metrics.chamfer`: those of the tables that ours stand beside."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import ConvexHull, QhullError, cKDTree


def l1_chamfer(points_a: ArrayLike, points_b: ArrayLike) -> float:
    """Of SPE3R: nearest |dx| + |dy| + |dz|, mean over each set, both directions added.

    Args:
        points_a, points_b: (N, 3), (M, 3).

    Returns:
        In the unit of the points; for two sets a shift apart up to twice the shift.
    """
    a_to_b = cKDTree(points_b).query(points_a, p=1)[0].mean()
    b_to_a = cKDTree(points_a).query(points_b, p=1)[0].mean()
    return float(a_to_b + b_to_a)


def squared_chamfer(points_a: ArrayLike, points_b: ArrayLike) -> float:
    """Of NOCS: nearest squared Euclidean distances, mean over each set, both directions added.

    Args:
        points_a, points_b: (N, 3), (M, 3).

    Returns:
        In the squared unit of the points.
    """
    a_to_b = np.square(cKDTree(points_b).query(points_a)[0]).mean()
    b_to_a = np.square(cKDTree(points_a).query(points_b)[0]).mean()
    return float(a_to_b + b_to_a)


def one_sided_normalised_chamfer(estimate: ArrayLike, truth: ArrayLike) -> float:
    """Of the authors' code on YCB-Video: in units of each shape's own diameter, truth to estimate.

    Blind to a wrong size and to whatever the estimate has too much. Their diameter is that of a
    few random points; here it is exact.

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
    """Largest distance between two of the points (N, 3)."""
    points = np.asarray(points, np.float64)
    if len(points) > 4:
        try:
            points = points[ConvexHull(points).vertices]
        except QhullError:  # flat: any of them may be a corner
            pass
    return float(max((np.linalg.norm(points - p, axis=1).max() for p in points), default=0.0))
