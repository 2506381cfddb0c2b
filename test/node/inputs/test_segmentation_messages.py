"""Every kind of segmentation message, as labels and class names."""

from __future__ import annotations

import math

import numpy as np
import pytest
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from crisp_ros.data.image_messages import ImageError
from crisp_ros.node.inputs.segmentation_messages import from_detections, from_image
from crisp_ros.node.outputs.image_encoding import image_message

NAMES = {1: "mug", 2: "bowl", 300: "can"}
FOCAL = 150.0


def test_each_value_of_a_label_image_is_an_object() -> None:
    pixels = np.array([[0, 1, 2], [2, 2, 255]], np.uint8)
    for dtype, encoding in ((np.uint8, "mono8"), (np.uint16, "16UC1"), (np.int32, "32SC1")):
        found = from_image(image_message(pixels.astype(dtype), encoding, Header()), "labels", NAMES)
        assert found.labels.dtype == np.int32 and found.class_names == NAMES
        np.testing.assert_array_equal(found.labels, pixels)


@pytest.mark.parametrize("format", ["category_instance", "instance_category"])
def test_packed_labels_are_instances_named_by_category(format: str) -> None:
    # category, instance: a mug, another mug, a can, a class without a name, floor, nothing
    pairs = np.array([[(1, 1), (1, 2), (300, 1)], [(9, 1), (2, 0), (0, 0)]], np.int32)
    high, low = (0, 1) if format == "category_instance" else (1, 0)
    packed = (pairs[..., high] << 16) | pairs[..., low]
    found = from_image(image_message(packed, "32SC1", Header()), format, NAMES)
    names = [found.class_names.get(label, "") for label in found.labels.ravel().tolist()]
    assert names == ["mug", "mug", "can", "", "", ""]
    assert len(set(found.labels.ravel().tolist())) == 5
    assert found.labels[1, 1:].tolist() == [0, 0]


def test_packed_labels_need_32_bits() -> None:
    small = image_message(np.ones((2, 2), np.uint16), "16UC1", Header())
    with pytest.raises(ImageError, match="16UC1, but segmentation_format category_instance needs"):
        from_image(small, "category_instance", NAMES)


def test_negative_labels_are_refused() -> None:
    message = image_message(np.full((2, 2), -5, np.int32), "32SC1", Header())
    with pytest.raises(ImageError, match="negative labels, down to -5"):
        from_image(message, "labels", NAMES)


def detection(box: tuple[float, float, float, float], id: str = "", **scores: float) -> Detection2D:
    result = Detection2D(id=id)
    left, top, right, bottom = box
    result.bbox.center.position.x = (left + right - 1) / 2
    result.bbox.center.position.y = (top + bottom - 1) / 2
    result.bbox.size_x, result.bbox.size_y = float(right - left), float(bottom - top)
    for name, score in scores.items():
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = name.removeprefix("n")
        hypothesis.hypothesis.score = score
        result.results.append(hypothesis)
    return result


@pytest.fixture
def depth() -> np.ndarray:
    result = np.full((120, 160), 1.5, np.float32)
    result[30:70, 20:60] = 0.5
    result[40:100, 90:130] = 0.8
    return result


NAN = float("nan")
FIRST, SECOND = (20, 30, 60, 70), (90, 40, 130, 100)


def labels(message: Detection2DArray, depth: np.ndarray, min_score: float = 0.0, most: int = 32):
    return from_detections(message, NAMES, min_score, most, depth, FOCAL)


def test_boxes_become_labels_of_objects_in_the_foreground(depth: np.ndarray) -> None:
    boxes = [detection((10, 20, 70, 80), mug=0.9), detection(SECOND, n1=0.4, bowl=0.6)]
    found = labels(Detection2DArray(detections=boxes), depth)
    assert found.class_names == {1: "mug", 2: "bowl"} and found.warning == ""
    assert ((found.labels == 1) == (depth == 0.5)).mean() > 0.99
    assert ((found.labels == 2) == (depth == np.float32(0.8))).mean() > 0.99


def test_a_numeric_class_id_is_looked_up(depth: np.ndarray) -> None:
    boxes = [detection(FIRST, n300=0.9), detection(SECOND, n7=0.9)]
    assert labels(Detection2DArray(detections=boxes), depth).class_names == {1: "can", 2: "7"}


def test_labels_are_derived_from_the_ids_of_boxes(depth: np.ndarray) -> None:
    one, two = detection(FIRST, "12", mug=1.0), detection(SECOND, "track_b", mug=1.0)
    before = labels(Detection2DArray(detections=[one, two]), depth)
    after = labels(Detection2DArray(detections=[two, one]), depth)
    np.testing.assert_array_equal(before.labels, after.labels)
    assert before.labels[50, 40] == 12 and before.labels[70, 110] > 0
    same = labels(Detection2DArray(detections=[one, detection(SECOND, "12")]), depth)
    assert len(np.unique(same.labels)) == 3


def test_boxes_with_low_scores_are_ignored(depth: np.ndarray) -> None:
    boxes = Detection2DArray(detections=[detection(FIRST, mug=0.2), detection(SECOND)])
    assert np.unique(labels(boxes, depth, 0.5).labels).tolist() == [0, 1]
    assert labels(boxes, depth, 0.5).class_names == {}
    assert np.unique(labels(boxes, depth).labels).tolist() == [0, 1, 2]


def test_of_too_many_boxes_the_best_scores_are_used(depth: np.ndarray) -> None:
    boxes = [detection((0, 0, 10, 10), "9", mug=0.1)] * 5000
    boxes[1000:1000] = [detection(SECOND, "2", bowl=0.6), detection(FIRST, "1", mug=0.9)]
    found = labels(Detection2DArray(detections=boxes), depth, most=2)
    assert found.class_names == {1: "mug", 2: "bowl"}
    assert found.warning == "5002 boxes, of which the 2 with the best scores are used (max_objects)"
    assert np.unique(found.labels).tolist() == [0, 1, 2]


def test_a_box_without_depth_is_a_warning(depth: np.ndarray) -> None:
    depth[:, :80] = 0
    boxes = Detection2DArray(detections=[detection(FIRST), detection(SECOND)])
    assert labels(boxes, depth).warning == "no depth stands out in the boxes of 1"
    assert not labels(Detection2DArray(), depth).labels.any()


@pytest.mark.parametrize(
    "box",
    [
        (0, 0, 0, 5),
        (0, 0, NAN, 5),
        (0, 0, 1e300, 1e300),
        (1e300, 5, 1e300, 9),
        (1e7, 5, 1e7 + 9, 9),
    ],
)
def test_invalid_boxes_are_refused(depth: np.ndarray, box: tuple) -> None:
    with pytest.raises(ImageError, match="detection 1 has a box .*expected a positive size"):
        labels(Detection2DArray(detections=[detection(box)]), depth)


@pytest.mark.parametrize("angle", [NAN, 1e300])
def test_invalid_angles_are_refused(depth: np.ndarray, angle: float) -> None:
    rotated = detection(FIRST)
    rotated.bbox.center.theta = angle
    with pytest.raises(ImageError, match=f"rotated by {angle:g}".replace("+", r"\+")):
        labels(Detection2DArray(detections=[rotated]), depth)


def test_large_boxes_are_clipped_to_the_image(depth: np.ndarray) -> None:
    large = detection((-4e5, -4e5, 5e5, 5e5), "7")
    assert 7 in labels(Detection2DArray(detections=[large]), depth).labels


@pytest.mark.parametrize("score", [NAN, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(depth: np.ndarray, score: float) -> None:
    boxes = [detection(FIRST, mug=0.9), detection(SECOND, "b", bowl=0.4, mug=score)]
    with pytest.raises(ImageError, match=f"detection b has a score of {score:g}"):
        labels(Detection2DArray(detections=boxes), depth)


def test_long_texts_are_refused(depth: np.ndarray) -> None:
    digits = "9" * 5000
    for endless in (detection(SECOND, digits), detection(SECOND, **{f"n{digits}": 0.9})):
        boxes = Detection2DArray(detections=[detection(FIRST), endless])
        with pytest.raises(ImageError, match="detection 2 has an id or class_id of 5000 char"):
            labels(boxes, depth)
