"""Mean average precision of NOCS: of 3D boxes by their overlap, of poses by angle and distance.

    Wang et al., Normalized Object Coordinate Space, CVPR 2019, section 6, and the evaluation script
    that its authors published and all tables since are made with.

Bottle, bowl and can turn freely about their y axis, and so does a mug whose handle is out of sight.
Boxes are compared as they stand, by the exact volume that they share. The published script compares
the boxes around them along the camera's axes, and takes their extents over the coordinates of each
corner in place of over the corners, so that a box far from the camera overlaps with anything beside
it; `published_box_iou` does as it does, for comparison.
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
TURNS = 20  # of a free axis, when boxes are compared
POSE_IOU = 0.1  # boxes that overlap less are not compared in pose
_CORNERS = np.array(list(product((0.0, 1.0), repeat=3)))
_FLUSH = 1e-9  # of an edge: faces this near to one another lie in one plane
_NEXT = (4, 2, 1)  # the corners beside the first one, along x, y and z
_EDGES = tuple((i, i | bit) for i in range(8) for bit in (4, 2, 1) if not i & bit)
_TURNING = ("bottle", "bowl", "can")

Array = NDArray[np.float64]
BoxIou = Callable[[Array, Array], float]


class Box(NamedTuple):
    """An object with the box around it.

    category: one of `CLASSES`. T_camera_object: (4, 4) metres. lower, upper: (3,) corners of the
    box, object frame, metres. score: of an estimate. handle_visible: of a true mug.
    """

    category: str
    T_camera_object: Array
    lower: Array
    upper: Array
    score: float = 1.0
    handle_visible: bool = True

    @property
    def turns_freely(self) -> bool:
        """Whether it looks the same however it is turned about its y axis."""
        return self.category in _TURNING or (self.category == "mug" and not self.handle_visible)

    def corners(self, turn: float = 0.0) -> Array:
        """(8, 3) in the camera frame, metres; the object turned by so much about its y axis."""
        points = self.lower + _CORNERS * (self.upper - self.lower)
        c, s = np.cos(turn), np.sin(turn)
        points = points @ np.array([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
        return transform(self.T_camera_object, points)


class ImageBoxes(NamedTuple):
    """What is in an image and what was estimated there."""

    truths: Sequence[Box]
    estimates: Sequence[Box]


@dataclass(frozen=True)
class NocsPrecision:
    """Average precisions, 0 to 1, by category; NaN for one that is in no image.

    iou: by category and threshold ("25", "50", "75"). pose: by category and thresholds ("5deg5cm").
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
    """Intersection over union of two boxes, however they stand to one another.

    Args:
        corners_a, corners_b: (8, 3), in the order of `Box.corners`.
    """
    common = _common_volume(corners_a, corners_b)
    either = _volume(corners_a) + _volume(corners_b) - common
    return common / either if either > 0.0 else 0.0


def published_box_iou(corners_a: Array, corners_b: Array) -> float:
    """What the published script computes instead: extents over each corner's three coordinates."""
    return _interval_iou(
        corners_a.min(axis=1), corners_a.max(axis=1), corners_b.min(axis=1), corners_b.max(axis=1)
    )


def overlap(truth: Box, estimate: Box, iou: BoxIou = box_iou) -> float:
    """Of two boxes of one category; the largest over the turns of an object that turns freely."""
    turns = np.arange(TURNS) * (2.0 * np.pi / TURNS) if truth.turns_freely else (0.0,)
    corners = truth.corners()
    return max(iou(estimate.corners(turn), corners) for turn in turns)


def pose_difference(truth: Box, estimate: Box) -> tuple[float, float]:
    """Degrees and centimetres; of what turns freely the angle between the y axes."""
    R_truth, R_estimate = truth.T_camera_object[:3, :3], estimate.T_camera_object[:3, :3]
    if truth.turns_freely:
        # The chord keeps small angles, which a cosine loses.
        chord = np.linalg.norm(R_truth[:, 1] - R_estimate[:, 1]) / 2.0
    else:
        chord = np.linalg.norm(R_truth - R_estimate) / np.sqrt(8.0)
    shift = np.linalg.norm(truth.T_camera_object[:3, 3] - estimate.T_camera_object[:3, 3])
    return float(np.degrees(2.0 * np.arcsin(min(chord, 1.0)))), float(100.0 * shift)


def average_precision(hits: ArrayLike, scores: ArrayLike, truths: int) -> float:
    """Area under the precision-recall curve, precision made to fall with recall (PASCAL VOC).

    Args:
        hits: (N,) bool, whether an estimate is of a true object.
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
    """Average precisions over a data set.

    Estimates of an image choose in the order of their scores. By overlap each takes the true object
    of its category that is free and overlaps most, if by more than the threshold. By pose, among
    those that found each other at an overlap of `POSE_IOU`, each takes the free one with the least
    sum of degrees and centimetres within both thresholds; true objects that none found at that
    overlap do not count there, as in the published script. A category of which none was found at
    that overlap has 0 there.
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
    """Estimates and true objects of a category so far: those there are, and those that count."""

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
    """Adds one image of one category."""
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
    """For each row in turn the free column of least cost that is allowed; -1 where none is."""
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
    """Of two boxes: the hull of the parts of the edges of each that lie in the other.

    Every corner of the common body is an end of such a part.
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
    """(N, 3) ends of the parts of a box's edges that lie in another box."""
    to_unit = np.linalg.inv((others[list(_NEXT)] - others[0]).T)
    start, end = (
        (corners[list(side)] - others[0]) @ to_unit.T for side in zip(*_EDGES, strict=True)
    )
    along, low, high = end - start, -_FLUSH, 1.0 + _FLUSH
    # Where each edge passes the two planes of each axis, as a share of the edge.
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.sort(np.stack([(low - start) / along, (high - start) / along]), axis=0)
    beside = np.abs(along) < 1e-12
    within = beside & (start >= low) & (start <= high)
    enter = np.where(beside, np.where(within, -np.inf, np.inf), at[0]).max(axis=1).clip(0.0)
    leave = np.where(beside, np.inf, at[1]).min(axis=1).clip(max=1.0)
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
