"""Labels from image to image."""

import numpy as np

from crisp_ros.segmentation.label_tracker import (
    MAX_LABEL,
    LabelTracker,
    LabelTrackerSettings,
)


def image(**masks: tuple[int, int]) -> np.ndarray:
    """Labels by columns: label_1=(4, 9) marks columns 4 to 8."""
    labels = np.zeros((4, 40), np.int32)
    for name, (start, stop) in masks.items():
        labels[:, start:stop] = int(name.removeprefix("label_"))
    return labels


def test_a_mask_keeps_the_label_of_the_one_it_overlaps() -> None:
    tracker = LabelTracker(LabelTrackerSettings())
    tracker.update(image(label_1=(0, 10), label_2=(20, 30)))
    result = tracker.update(image(label_1=(21, 31), label_2=(1, 11), label_3=(32, 38)))
    assert np.unique(result[:, 21:31]) == 2
    assert np.unique(result[:, 1:11]) == 1
    assert np.unique(result[:, 32:38]) == 3


def test_the_larger_overlap_keeps_the_label_of_a_split_mask() -> None:
    tracker = LabelTracker(LabelTrackerSettings())
    tracker.update(image(label_1=(0, 20)))
    result = tracker.update(image(label_1=(0, 8), label_2=(8, 20)))
    assert np.unique(result[:, 8:20]) == 1
    assert np.unique(result[:, 0:8]) == 2


def test_an_object_seen_again_soon_has_its_label() -> None:
    tracker = LabelTracker(LabelTrackerSettings(memory=2))
    tracker.update(image(label_1=(0, 10)))
    for _ in range(2):
        tracker.update(image())
    assert tracker.update(image(label_1=(0, 10))).max() == 1
    for _ in range(3):
        tracker.update(image())
    assert tracker.update(image(label_1=(0, 10))).max() == 2


def test_labels_fit_into_16_bits_and_are_not_given_twice() -> None:
    tracker = LabelTracker(LabelTrackerSettings(memory=0))
    tracker._next = MAX_LABEL
    assert tracker.update(image(label_1=(0, 10), label_2=(20, 30))).max() == MAX_LABEL
    result = tracker.update(image(label_1=(0, 10), label_2=(20, 30), label_3=(31, 39)))
    assert sorted(np.unique(result)) == [0, 1, 2, MAX_LABEL]


def test_an_image_of_another_size_starts_again() -> None:
    tracker = LabelTracker(LabelTrackerSettings())
    tracker.update(image(label_1=(0, 10)))
    assert tracker.update(np.ones((2, 2), np.int32)).max() == 2
