"""An estimator that gets the masks of a segmenter instead of the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crisp_ros.evaluation.frame_estimates import FrameEstimator
from crisp_ros.evaluation.mask_overlap import InstanceOverlap, mask_overlaps
from crisp_ros.observation.frame import Frame
from crisp_ros.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from crisp_ros.geometry.isosurface import TriangleMesh
    from crisp_ros.pipeline import FrameEstimate, ObjectEstimate


class SegmentedEstimator:
    """Segment each frame on its own, and estimate what the masks show.

    A mask gets the label of the true instance that it overlaps best, so that its estimate can be
    measured; the estimator does not see more of the truth.

    Attributes:
        overlaps: of the true instances of all frames so far.
    """

    def __init__(self, estimator: FrameEstimator, segmenter: Segmenter) -> None:
        self._estimator, self._segmenter = estimator, segmenter
        self.overlaps: list[InstanceOverlap] = []

    def estimate(self, frame: Frame) -> FrameEstimate:
        """Estimate the objects of a frame whose labels are the true ones."""
        self._segmenter.reset()
        predicted = self._segmenter.segment(frame.rgb, frame.depth, frame.camera).labels
        overlaps = mask_overlaps(predicted, frame.labels)
        self.overlaps += overlaps
        return self._estimator.estimate(replace(frame, labels=_renamed(predicted, overlaps)))

    def meshes(self, estimates: Sequence[ObjectEstimate]) -> list[TriangleMesh]:
        """Reconstruct the surfaces of estimates."""
        return self._estimator.meshes(estimates)


def _renamed(
    predicted: NDArray[np.int32], overlaps: Sequence[InstanceOverlap]
) -> NDArray[np.int32]:
    """Labels of the true instances where a mask matches one, otherwise labels above all those."""
    above = 1 + max((o.label for o in overlaps), default=0)
    result = np.where(predicted > 0, predicted + above, 0).astype(np.int32)
    for overlap in overlaps:
        if overlap.match:
            result[predicted == overlap.match] = overlap.label
    return result
