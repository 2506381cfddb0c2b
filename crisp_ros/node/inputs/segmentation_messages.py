"""Conversion of segmentation messages to a label image and the class names of its labels."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2D, Detection2DArray

from crisp_ros.data.image_encodings import ImageError, description
from crisp_ros.data.rgbd_messages import read_labels
from crisp_ros.node.inputs.cv_bridge_decoder import CV_BRIDGE
from crisp_ros.observation.boxes import Box, BoxSettings, labels_in_boxes
from crisp_ros.observation.observe import mask_sizes

LABELS, CATEGORY_INSTANCE, INSTANCE_CATEGORY = "labels", "category_instance", "instance_category"
DETECTIONS = "detections"
FORMATS = (LABELS, CATEGORY_INSTANCE, INSTANCE_CATEGORY, DETECTIONS)

_BITS = 16  # of each half of a packed label
_HALF = (1 << _BITS) - 1
_LARGEST_LABEL = 2**31 - 1
_LARGEST_NUMBER = 1e6  # of a box; larger values are neither pixels nor angles
_LONGEST_TEXT = 255  # characters of an id or a class


class Segmentation(NamedTuple):
    """Label image of a frame.

    Attributes:
        labels: (H, W) int32, 0 for the background.
        class_names: class names by label, as far as known.
        warning: what is unusual about it, or "".
    """

    labels: NDArray[np.int32]
    class_names: Mapping[int, str]
    warning: str = ""


def from_image(
    message: Image | CompressedImage, format: str, names: Mapping[int, str]
) -> Segmentation:
    """Convert a label image.

    Args:
        message: the image.
        format: LABELS: each value is an object, and `names` has its class by the value.
            CATEGORY_INSTANCE, 32SC1: (category << 16) | instance; INSTANCE_CATEGORY, 32SC1:
            (instance << 16) | category. There the whole value is the object, `names` has its class
            by the category, and instance 0 is background.
        names: class names.

    Raises:
        ImageError: unreadable image, or negative labels.
    """
    labels = read_labels(message, CV_BRIDGE)
    if format != LABELS and labels.dtype != np.int32:
        raise ImageError(
            f"segmentation is {description(message)[0]}, but segmentation_format "
            f"{format} needs 32SC1: for plain labels set it to {LABELS}"
        )
    labels = labels.astype(np.int32, copy=False)
    if format == LABELS:
        return Segmentation(labels, names)
    instance_first = format == INSTANCE_CATEGORY
    instance = labels >> _BITS if instance_first else labels & _HALF
    labels = np.where(instance > 0, labels, 0)
    categories = {
        label: label & _HALF if instance_first else label >> _BITS for label in mask_sizes(labels)
    }
    return Segmentation(labels, {label: names[c] for label, c in categories.items() if c in names})


def from_detections(
    message: Detection2DArray,
    names: Mapping[int, str],
    min_score: float,
    max_boxes: int,
    depth: NDArray[np.float32],
    focal: float,
) -> Segmentation:
    """Convert a detector's boxes; depth separates the object in each from its background.

    The label of a detection is derived from its id if it has one, so that it stays the same over
    time; otherwise it is its number. The class name is the class_id of the hypothesis with the best
    score, or the name in `names` if that is a number with a name.

    Args:
        message: the boxes, in pixels of the depth image.
        names: class names by number.
        min_score: lower bound of the scores; other detections are ignored.
        max_boxes: upper bound of the detections; those with the best scores are used.
        depth: (H, W) metres.
        focal: length, px.

    Raises:
        ImageError: invalid score, text or box.
    """
    for number, detection in enumerate(message.detections, start=1):
        _check_hypotheses(detection, number)
    detections = [d for d in message.detections if _score(d) >= min_score]
    warnings = []
    if len(detections) > max_boxes:
        warnings.append(
            f"{len(detections)} boxes, of which the {max_boxes} with the best scores are used "
            "(max_objects)"
        )
        detections = _best_scored(detections, max_boxes)
    labels = _labels([d.id for d in detections])
    boxes = [_box(d, label) for d, label in zip(detections, labels, strict=True)]
    image = labels_in_boxes(depth, boxes, focal, BoxSettings())
    empty = sorted(set(labels) - mask_sizes(image).keys())
    if empty:
        warnings.append(f"no depth stands out in the boxes of {', '.join(map(str, empty))}")
    class_names = {
        label: _class_name(d, names)
        for d, label in zip(detections, labels, strict=True)
        if d.results
    }
    return Segmentation(image, class_names, "; ".join(warnings))


def _check_hypotheses(detection: Detection2D, number: int) -> None:
    hypotheses = [r.hypothesis for r in detection.results]
    longest = max(map(len, (detection.id, *(h.class_id for h in hypotheses))))
    if longest > _LONGEST_TEXT:
        raise ImageError(
            f"detection {number} has an id or class_id of {longest} characters: "
            f"expected at most {_LONGEST_TEXT}"
        )
    for h in hypotheses:
        if not math.isfinite(h.score):
            raise ImageError(
                f"detection {detection.id or number} has a score of {h.score:g}: "
                "expected a finite number"
            )


def _best(detection: Detection2D) -> tuple[float, str]:
    hypotheses = (r.hypothesis for r in detection.results)
    return max(((h.score, h.class_id) for h in hypotheses), default=(math.inf, ""))


def _score(detection: Detection2D) -> float:
    """Score of the best hypothesis; infinite without hypotheses, so that the box is used."""
    return _best(detection)[0]


def _best_scored(detections: Sequence[Detection2D], count: int) -> list[Detection2D]:
    """Select the detections with the best scores, in their order."""
    by_score = sorted(range(len(detections)), key=lambda i: _score(detections[i]), reverse=True)
    return [detections[i] for i in sorted(by_score[:count])]


def _class_name(detection: Detection2D, names: Mapping[int, str]) -> str:
    class_id = _best(detection)[1]
    return names.get(int(class_id), class_id) if class_id.isdecimal() else class_id


def _labels(ids: Sequence[str]) -> list[int]:
    """Assign distinct labels > 0; an id always gets the same one, unless two ids collide."""
    labels: list[int] = []
    for number, id in enumerate(ids, start=1):
        label = number
        if id.isdecimal() and 0 < int(id) <= _LARGEST_LABEL:
            label = int(id)
        elif id:
            label = max(zlib.crc32(id.encode()) & _LARGEST_LABEL, 1)
        while label in labels:
            label = label % _LARGEST_LABEL + 1
        labels.append(label)
    return labels


def _box(detection: Detection2D, label: int) -> Box:
    box = detection.bbox
    centre = box.center.position
    numbers = (centre.x, centre.y, box.size_x, box.size_y, box.center.theta)
    if not all(abs(x) <= _LARGEST_NUMBER for x in numbers) or min(box.size_x, box.size_y) <= 0:
        raise ImageError(
            f"detection {detection.id or label} has a box at {centre.x:g}, {centre.y:g} of "
            f"{box.size_x:g} x {box.size_y:g} pixels, rotated by {box.center.theta:g} rad: "
            f"expected a positive size, and no number beyond {_LARGEST_NUMBER:g}"
        )
    return Box(label, *numbers)
