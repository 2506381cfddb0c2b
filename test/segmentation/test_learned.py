"""The network of the package on analytic scenes, and on images that hold nothing to find."""

import numpy as np
import pytest
from box_scene import CAMERA, box_scene

from crisp_ros.evaluation.mask_overlap import mask_overlaps
from crisp_ros.segmentation.network_input import network_input
from crisp_ros.segmentation.segmenter import Segmenter, builtin_segmenter


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return builtin_segmenter()


def test_touching_boxes_without_a_depth_edge_are_separated(segmenter: Segmenter) -> None:
    """Side by side with their fronts in one plane, of different height."""
    scene = box_scene([((-0.05, 0.0), (0.1, 0.08, 0.15)), ((0.05, 0.0), (0.1, 0.08, 0.06))])
    segmenter.reset()
    learned = segmenter.segment(scene.rgb, scene.depth, CAMERA).labels
    geometric = Segmenter().segment(scene.rgb, scene.depth, CAMERA).labels
    f = [np.mean([o.f for o in mask_overlaps(p, scene.labels)]) for p in (learned, geometric)]
    assert f[0] > 0.8 > f[1]


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0, 1.0], ids=str)
def test_images_without_objects_have_a_reason(segmenter: Segmenter, value: float) -> None:
    depth = np.full((480, 640), value, np.float32)
    segmenter.reset()
    result = segmenter.segment(np.zeros((480, 640, 3), np.uint8), depth, CAMERA)
    assert result.count == 0 and result.reasons


def test_noise_does_not_fail(segmenter: Segmenter) -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.3, 2.5, (480, 640)).astype(np.float32)
    rgb = rng.integers(0, 255, (480, 640, 3)).astype(np.uint8)
    segmenter.reset()
    assert segmenter.segment(rgb, depth, CAMERA).labels.shape == depth.shape


def test_the_input_has_centred_points_and_zeros_without_depth() -> None:
    rgb = np.full((4, 6, 3), 255, np.uint8)
    points = np.zeros((4, 6, 3), np.float32)
    points[..., 2] = 2.0
    points[0, 0] = (0.5, -0.5, 2.5)
    valid = np.ones((4, 6), bool)
    valid[3, 5] = False
    inputs = network_input(rgb, points, np.full((4, 6), 0.1, np.float32), valid)
    assert inputs[:3] == pytest.approx(1.0)
    assert inputs[3:6, 0, 0] == pytest.approx([1.0, -1.0, 1.0])
    assert inputs[6, 0, 0] == pytest.approx(2.0) and inputs[7].sum() == 23
    assert not inputs[3:, 3, 5].any()
