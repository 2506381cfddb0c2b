"""Mean average precision of NOCS: of 3D boxes by their overlap, of poses by angle and distance.

    Wang et al., Normalized Object Coordinate Space, CVPR 2019, section 6, and the evaluation script
    of its authors, which all later tables use.

Bottle, bowl, can, and a mug whose handle is hidden, are symmetric about their y axis. The overlap
of two oriented boxes is exact. The published script compares axis-aligned boxes, and takes their
extents over the coordinates of each corner instead of over the corners, so a box far from the
camera overlaps with any box next to it; `published_box_iou` does the same, for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import ConvexHull, QhullError

from crisp_ros.data.nocs import CLASSES
from crisp_ros.geometry.se3 import transform

IOU_THRESHOLDS = (0.25, 0.5, 0.75)
POSE_THRESHOLDS = ((5.0, 5.0), (5.0, 10.0), (10.0, 5.0), (10.0, 10.0))  # degrees, centimetres
FREE_AXIS_STEPS = 20  # rotations about a free axis for the overlap of boxes
POSE_IOU = 0.1  # least overlap of boxes whose poses are compared
_CORNERS = np.array(list(product((0.0, 1.0), repeat=3)))
_FLUSH = 1e-9  # share of an edge: distance of faces that count as coplanar
_NEXT = (4, 2, 1)  # the neighbours of the first corner along x, y and z
_EDGES = tuple((i, i | bit) for i in range(8) for bit in (4, 2, 1) if not i & bit)
_ROUND = ("bottle", "bowl", "can")

Array = NDArray[np.float64]
BoxIou = Callable[[Array, Array], float]


class Box(NamedTuple):
    """The oriented bounding box of an object.

    Attributes:
        category: one of `CLASSES`.
        T_camera_object: (4, 4) metres.
        lower: (3,) corner of the box, object frame, metres.
        upper: (3,) opposite corner.
        score: of an estimate.
        handle_visible: of a true mug.
    """

    category: str
    T_camera_object: Array
    lower: Array
    upper: Array
    score: float = 1.0
    handle_visible: bool = True

    @property
    def has_free_axis(self) -> bool:
        """Whether it is symmetric about its y axis."""
        return self.category in _ROUND or (self.category == "mug" and not self.handle_visible)

    def corners(self, angle: float = 0.0) -> Array:
        """Compute the corners (8, 3), camera frame, metres.

        Args:
            angle: of a rotation of the object about its y axis, radians.
        """
        points = self.lower + _CORNERS * (self.upper - self.lower)
        c, s = np.cos(angle), np.sin(angle)
        points = points @ np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
        return transform(self.T_camera_object, points)


class ImageBoxes(NamedTuple):
    """The boxes of an image.

    Attributes:
        truths: of the annotated objects.
        estimates: of the estimated ones.
    """

    truths: Sequence[Box]
    estimates: Sequence[Box]


@dataclass(frozen=True)
class NocsPrecision:
    """Average precisions, 0 to 1, by category; NaN for a category that is in no image.

    Attributes:
        iou: by category and threshold ("25", "50", "75").
        pose: by category and thresholds ("5deg5cm").
    """

    iou: dict[str, dict[str, float]]
    pose: dict[str, dict[str, float]]

    @property
    def mean_iou(self) -> dict[str, float]:
        """Mean over the categories by threshold."""
        return _mean(self.iou)

    @property
    def mean_pose(self) -> dict[str, float]:
        """Mean over the categories by thresholds."""
        return _mean(self.pose)


def box_iou(corners_a: Array, corners_b: Array) -> float:
    """Compute the intersection over union of two oriented boxes.

    Args:
        corners_a, corners_b: (8, 3), in the order of `Box.corners`.
    """
    common = _common_volume(corners_a, corners_b)
    either = _volume(corners_a) + _volume(corners_b) - common
    return common / either if either > 0.0 else 0.0


def published_box_iou(corners_a: Array, corners_b: Array) -> float:
    """Compute the overlap as the published script does, over each corner's three coordinates."""
    return _interval_iou(
        corners_a.min(axis=1), corners_a.max(axis=1), corners_b.min(axis=1), corners_b.max(axis=1)
    )


def overlap(truth: Box, estimate: Box, iou: BoxIou = box_iou) -> float:
    """Compute the overlap of two boxes of one category, the largest over a free axis."""
    steps = FREE_AXIS_STEPS if truth.has_free_axis else 1
    angles = np.arange(steps) * (2.0 * np.pi / steps)
    corners = truth.corners()
    return max(iou(estimate.corners(angle), corners) for angle in angles)


def pose_difference(truth: Box, estimate: Box) -> tuple[float, float]:
    """Compute rotation (degrees) and translation (centimetres) of one pose from the other.

    For an object with a free axis the rotation is the angle between the y axes.
    """
    R_truth, R_estimate = truth.T_camera_object[:3, :3], estimate.T_camera_object[:3, :3]
    if truth.has_free_axis:
        # The chord keeps small angles, which a cosine loses.
        chord = np.linalg.norm(R_truth[:, 1] - R_estimate[:, 1]) / 2.0
    else:
        chord = np.linalg.norm(R_truth - R_estimate) / np.sqrt(8.0)
    shift = np.linalg.norm(truth.T_camera_object[:3, 3] - estimate.T_camera_object[:3, 3])
    return float(np.degrees(2.0 * np.arcsin(min(chord, 1.0)))), float(100.0 * shift)


def average_precision(hits: ArrayLike, scores: ArrayLike, truths: int) -> float:
    """Compute the area under the precision-recall curve, made monotonic as in PASCAL VOC.

    Args:
        hits: (N,) bool, whether an estimate matches a true object.
        scores: (N,) of the estimates.
        truths: number of true objects.

    Returns:
        0 to 1; NaN where there is no true object.
    """
    if truths == 0:
        return float("nan")
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    found = np.cumsum(np.asarray(hits, bool)[order])
    precision = found / (np.arange(len(found)) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(found, prepend=0) / truths
    return float((steps * falling).sum())


def nocs_precision(images: Sequence[ImageBoxes], iou: BoxIou = box_iou) -> NocsPrecision:
    """Compute the average precisions over a data set.

    Estimates of an image are matched in the order of their scores. By overlap, each is matched to
    the unmatched true object of its category with the largest overlap, if above the threshold. By
    pose, among the pairs that match at an overlap of `POSE_IOU`, each is matched to the unmatched
    object with the smallest sum of degrees and centimetres within both thresholds; as in the
    published script, true objects without a match at that overlap do not count. A category without
    any match at that overlap has precision 0.
    """
    by_iou: dict[str, dict[str, float]] = {}
    by_pose: dict[str, dict[str, float]] = {}
    for category in CLASSES:
        tallies = {key: _Tally() for key in (*IOU_THRESHOLDS, *POSE_THRESHOLDS)}
        for image in images:
            truths = [box for box in image.truths if box.category == category]
            estimates = [box for box in image.estimates if box.category == category]
            _count(tallies, truths, estimates, iou)
        by_iou[category] = {f"{100 * t:.0f}": tallies[t].precision for t in IOU_THRESHOLDS}
        by_pose[category] = {
            f"{d:.0f}deg{c:.0f}cm": tallies[d, c].precision for d, c in POSE_THRESHOLDS
        }
    return NocsPrecision(by_iou, by_pose)


class _Tally:
    """Matches of a category so far, and numbers of true objects: present, and counted."""

    def __init__(self) -> None:
        self.hits: list[bool] = []
        self.scores: list[float] = []
        self.present = 0
        self.counted = 0

    def add(
        self, matched: Sequence[int], estimates: Sequence[Box], present: int, counted: int
    ) -> None:
        self.hits += [index >= 0 for index in matched]
        self.scores += [estimate.score for estimate in estimates]
        self.present += present
        self.counted += counted

    @property
    def precision(self) -> float:
        if self.present and not self.counted:
            return 0.0
        return average_precision(self.hits, self.scores, self.counted)


def _count(
    tallies: dict[float | tuple[float, float], _Tally],
    truths: list[Box],
    estimates: list[Box],
    iou: BoxIou,
) -> None:
    """Add one image of one category."""
    estimates = sorted(estimates, key=lambda box: -box.score)
    overlaps = np.array([[overlap(t, e, iou) for t in truths] for e in estimates])
    present = len(truths)
    overlaps = overlaps.reshape(len(estimates), present)
    for threshold in IOU_THRESHOLDS:
        matched = _matches(-overlaps, overlaps > threshold)
        tallies[threshold].add(matched, estimates, present, present)
    pairs = _matches(-overlaps, overlaps > POSE_IOU)
    estimates = [estimates[i] for i, j in enumerate(pairs) if j >= 0]
    truths = [truths[j] for j in sorted(j for j in pairs if j >= 0)]
    differences = np.array([[pose_difference(t, e) for t in truths] for e in estimates])
    differences = differences.reshape(len(estimates), len(truths), 2)
    for limits in POSE_THRESHOLDS:
        within = (differences <= limits).all(axis=-1)
        matched = _matches(differences.sum(axis=-1), within)
        tallies[limits].add(matched, estimates, present, len(truths))


def _matches(cost: Array, allowed: NDArray[np.bool_]) -> list[int]:
    """Match each row, in order, to the free allowed column of least cost; -1 where none is."""
    free = np.ones(cost.shape[1], bool)
    matched = []
    for row, possible in zip(cost, allowed, strict=True):
        open_columns = np.flatnonzero(possible & free)
        column = int(open_columns[np.argmin(row[open_columns])]) if len(open_columns) else -1
        if column >= 0:
            free[column] = False
        matched.append(column)
    return matched


def _volume(corners: Array) -> float:
    return float(abs(np.linalg.det(corners[list(_NEXT)] - corners[0])))


def _common_volume(corners_a: Array, corners_b: Array) -> float:
    """The volume of the hull of the parts of each box's edges that are inside the other.

    Every corner of the intersection is an end of such a part.
    """
    if (corners_a.min(0) >= corners_b.max(0)).any() or (corners_b.min(0) >= corners_a.max(0)).any():
        return 0.0
    if min(_volume(corners_a), _volume(corners_b)) <= 0.0:
        return 0.0
    points = np.concatenate(
        [_edges_within(corners_a, corners_b), _edges_within(corners_b, corners_a)]
    )
    if len(points) < 4:
        return 0.0
    try:
        return float(ConvexHull(points).volume)
    except QhullError:
        return 0.0  # they share a face, an edge or a corner


def _edges_within(corners: Array, others: Array) -> Array:
    """(N, 3) ends of the parts of a box's edges that are inside another box."""
    to_unit = np.linalg.inv((others[list(_NEXT)] - others[0]).T)
    start, end = (
        (corners[list(side)] - others[0]) @ to_unit.T for side in zip(*_EDGES, strict=True)
    )
    along, low, high = end - start, -_FLUSH, 1.0 + _FLUSH
    # The intersections of each edge with the two planes of each axis, as shares of the edge.
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.sort(np.stack([(low - start) / along, (high - start) / along]), axis=0)
    parallel = np.abs(along) < 1e-12
    within = parallel & (start >= low) & (start <= high)
    enter = np.where(parallel, np.where(within, -np.inf, np.inf), at[0]).max(axis=1).clip(0.0)
    leave = np.where(parallel, np.inf, at[1]).min(axis=1).clip(max=1.0)
    some = enter <= leave
    shares = np.concatenate([enter[some], leave[some]])[:, None]
    first, last = (corners[list(side)][some] for side in zip(*_EDGES, strict=True))
    return (1.0 - shares) * np.tile(first, (2, 1)) + shares * np.tile(last, (2, 1))


def _interval_iou(lower_a: Array, upper_a: Array, lower_b: Array, upper_b: Array) -> float:
    edges = np.minimum(upper_a, upper_b) - np.maximum(lower_a, lower_b)
    common = 0.0 if edges.min() < 0.0 else float(np.prod(edges))
    either = float(np.prod(upper_a - lower_a) + np.prod(upper_b - lower_b)) - common
    return common / either if either > 0.0 else 0.0


def _mean(by_category: dict[str, dict[str, float]]) -> dict[str, float]:
    keys = next(iter(by_category.values()))
    values = {key: [row[key] for row in by_category.values()] for key in keys}
    return {
        key: float(np.nanmean(column)) if not np.isnan(column).all() else float("nan")
        for key, column in values.items()
    }
