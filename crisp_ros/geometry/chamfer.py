"""Distances between point sets, exact wherever the sets are in space.

`torch.cdist` multiplies matrices above 25 points: its squared distances are differences of squared
norms, and two identical sets 30 m from the origin come out a millimetre apart in float32. Sets in
camera coordinates are therefore compared here alone.
"""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree
from torch import Tensor


def nearest_distances(a: Tensor, b: Tensor, b_valid: Tensor | None = None) -> Tensor:
    """Compute the distance from each point of one set to the nearest point of another.

    Args:
        a: (..., N, 3) metres.
        b: (..., M, 3) metres; leading dimensions broadcast against those of `a`.
        b_valid: (..., M) bool, points of b that count; all by default.

    Returns:
        (..., N) metres, infinite where no point of b counts.
    """
    distances = pairwise_distances(a, b)
    if b_valid is not None:
        distances = distances.masked_fill(~b_valid[..., None, :], torch.inf)
    return distances.amin(-1)


def pairwise_distances(a: Tensor, b: Tensor) -> Tensor:
    """Compute Euclidean distances from differences of coordinates, never by matrix products.

    Args:
        a: (..., N, C).
        b: (..., M, C); leading dimensions broadcast.

    Returns:
        (..., N, M).
    """
    batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (part.expand(*batch, *part.shape[-2:]) for part in (a, b))
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def sampled_chamfer(points_a: ArrayLike, points_b: ArrayLike) -> float:
    """Compute the Chamfer distance between large point sets (N, 3) and (M, 3), by KD-trees.

    Returns:
        Mean of both directions' mean nearest Euclidean distance, in the unit of the points.
    """
    a_to_b = cKDTree(points_b).query(points_a)[0].mean()
    b_to_a = cKDTree(points_a).query(points_b)[0].mean()
    return float((a_to_b + b_to_a) / 2.0)
