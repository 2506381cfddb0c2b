"""Agreement of predicted instance masks with true ones: overlap and boundary F measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.segmentation.overlap import best_pairs, overlaps

_BOUNDARY_SHARE = 0.0075  # of the image's diagonal: tolerance of a boundary's place


class InstanceOverlap(NamedTuple):
    """A true instance and the predicted mask that matches it best.

    Attributes:
        label: of the true instance.
        match: label of the prediction, 0 where none overlaps.
        f: F measure of the overlap: 2 |A and B| / (|A| + |B|), 0 to 1.
        boundary_f: F measure of the boundaries, 0 to 1.
    """

    label: int
    match: int
    f: float
    boundary_f: float


class OverlapSummary(NamedTuple):
    """Means over true instances.

    Attributes:
        instances: number of true instances.
        overlap_f: mean of their F measures; a missed instance counts as 0.
        boundary_f: mean of the F measures of their boundaries.
        above_75: share of the instances whose F measure is above 0.75.
    """

    instances: int
    overlap_f: float
    boundary_f: float
    above_75: float


def summarize_overlaps(overlaps: Sequence[InstanceOverlap]) -> OverlapSummary:
    """Average the overlaps of instances; NaN where there are none."""
    if not overlaps:
        return OverlapSummary(0, math.nan, math.nan, math.nan)
    return OverlapSummary(
        len(overlaps),
        float(np.mean([o.f for o in overlaps])),
        float(np.mean([o.boundary_f for o in overlaps])),
        float(np.mean([o.f > 0.75 for o in overlaps])),
    )


def mask_overlaps(
    predicted: NDArray[np.integer], true: NDArray[np.integer], min_pixels: int = 1
) -> list[InstanceOverlap]:
    """Match every true instance with the predicted one of largest F; a prediction serves once.

    Pairs are formed greedily, the largest F first.

    Args:
        predicted, true: (H, W) labels, 0 for the background.
        min_pixels: smaller true instances are left out.

    Raises:
        ValueError: the sizes differ.
    """
    if predicted.shape != true.shape:
        raise ValueError(f"labels are {predicted.shape} and {true.shape}: expected one size")
    matched = {
        pair.first: pair
        for pair in best_pairs(overlaps(true, predicted), lambda pair: pair.f)
        if pair.first_pixels >= min_pixels
    }
    results = []
    for label, pixels in zip(*np.unique(true, return_counts=True), strict=True):
        if label == 0 or pixels < min_pixels:
            continue
        pair = matched.get(int(label))
        if pair is None:
            results.append(InstanceOverlap(int(label), 0, 0.0, 0.0))
            continue
        boundary = boundary_f(predicted == pair.second, true == label)
        results.append(InstanceOverlap(int(label), pair.second, pair.f, boundary))
    return results


def boundary_f(predicted: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """F measure of two masks' boundaries, which agree within a small share of the diagonal."""
    reach = max(1, round(_BOUNDARY_SHARE * float(np.hypot(*true.shape))))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)
    rows, columns = (np.flatnonzero((predicted | true).any(axis)) for axis in (1, 0))
    if len(rows) == 0:
        return 0.0
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    edges = [_boundary(np.pad(mask[window], reach + 1)) for mask in (predicted, true)]
    if not (edges[0].any() and edges[1].any()):
        return 0.0
    near = [cv2.dilate(edge.astype(np.uint8), disc) > 0 for edge in edges]
    precision = near[1][edges[0]].mean()
    recall = near[0][edges[1]].mean()
    if precision + recall == 0.0:
        return 0.0
    return float(2.0 * precision * recall / (precision + recall))


def touching_labels(labels: NDArray[np.integer], depth: NDArray[np.floating]) -> set[int]:
    """Labels of instances that touch another one: neighbours in the image less than 2 cm apart.

    Args:
        labels: (H, W), 0 for the background.
        depth: (H, W) metres, 0 where unknown.
    """
    touching: set[int] = set()
    near_px, near_m = 3, 0.02
    for axis in (0, 1):
        a = [slice(None)] * 2
        b = [slice(None)] * 2
        a[axis], b[axis] = slice(None, -near_px), slice(near_px, None)
        first, second = labels[tuple(a)], labels[tuple(b)]
        z, other = depth[tuple(a)], depth[tuple(b)]
        meet = (first != second) & (first > 0) & (second > 0) & (z > 0) & (other > 0)
        meet &= np.abs(z - other) < near_m
        touching.update(np.unique(first[meet]).tolist(), np.unique(second[meet]).tolist())
    return touching


def _boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    whole = mask.astype(np.uint8)
    return (whole - cv2.erode(whole, np.ones((3, 3), np.uint8))) > 0
