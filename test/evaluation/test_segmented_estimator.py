"""Masks of the segmenter take the place of the true ones."""

from types import SimpleNamespace

import numpy as np
import pytest
from box_scene import CAMERA, box_scene

from crisp_ros.evaluation.mask_overlap import summarize_overlaps
from crisp_ros.evaluation.segmented_estimator import SegmentedEstimator
from crisp_ros.observation.frame import Frame
from crisp_ros.segmentation.segmenter import Segmenter

BOXES = [((-0.15, 0.0), (0.08, 0.06, 0.12)), ((0.1, 0.05), (0.1, 0.1, 0.05))]


class Recorder:
    """Keeps the frames that it gets instead of estimating them."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def estimate(self, frame: Frame) -> SimpleNamespace:
        self.frames.append(frame)
        return SimpleNamespace(objects=[], rejected={})

    def meshes(self, estimates: list) -> list:
        return estimates


def test_masks_have_the_labels_of_the_true_instances() -> None:
    scene = box_scene(BOXES)
    recorder = Recorder()
    estimator = SegmentedEstimator(recorder, Segmenter())
    swapped = np.array([0, 7, 3], np.int32)[scene.labels]
    estimator.estimate(Frame(scene.rgb, scene.depth, swapped, CAMERA))
    (frame,) = recorder.frames
    for label in (3, 7):
        assert np.bincount(frame.labels[swapped == label]).argmax() == label
    summary = summarize_overlaps(estimator.overlaps)
    assert summary.instances == 2 and summary.overlap_f > 0.92 and summary.above_75 == 1.0


def test_the_true_masks_are_not_seen_by_the_estimator() -> None:
    """A mask that no true instance matches has a label of its own; a missed instance has none."""
    scene = box_scene(BOXES)
    recorder = Recorder()
    estimator = SegmentedEstimator(recorder, Segmenter())
    only = np.where(scene.labels == 1, 1, 0).astype(np.int32)
    only[:20, :20] = 2  # nothing stands there
    estimator.estimate(Frame(scene.rgb, scene.depth, only, CAMERA))
    labels = set(np.unique(recorder.frames[0].labels).tolist())
    assert 1 in labels and 2 not in labels and len(labels) == 3
    assert [o.f for o in estimator.overlaps][1] == 0.0
    assert summarize_overlaps(estimator.overlaps).above_75 == pytest.approx(0.5)
