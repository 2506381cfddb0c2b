"""Estimates of a segmenter's masks, reported for the true objects that the masks show."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crisp_ros.msg import ObjectEstimateArray
from crisp_ros.node.outputs.message_conversion import NOT_SEEN
from crisp_ros.segmentation.overlap import best_pairs, overlaps


def name_by_truth(
    message: ObjectEstimateArray, masks: NDArray[np.integer], true: NDArray[np.integer]
) -> None:
    """Give each estimate the label of the true object that its mask overlaps most.

    Each true object is given to one mask, the largest F measure first. Other estimates get labels
    above all true ones.

    Args:
        message: estimates by labels of the masks; changed in place.
        masks: (H, W) labels of the segmenter.
        true: (H, W) labels of the recording.
    """
    pairs = best_pairs(overlaps(masks, true), lambda pair: pair.f)
    named = {pair.first: pair.second for pair in pairs}
    above = int(true.max(initial=0)) + 1
    for estimate in message.estimates:
        if estimate.label != NOT_SEEN:
            label = int(estimate.label)
            estimate.label = named.get(label, above + label)
