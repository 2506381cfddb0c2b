"""Parts of known objects are merged; other masks are left alone."""

import numpy as np
import pytest
import trimesh
from box_scene import CAMERA, BoxScene, box_scene

from crisp_ros.evaluation.mask_overlap import mask_overlaps
from crisp_ros.segmentation.known_surfaces import (
    KnownObject,
    MergeSettings,
    Surface,
    merged_parts,
)
from crisp_ros.segmentation.point_image import point_image
from crisp_ros.segmentation.segmenter import Segmenter

BOX = ((0.0, 0.0), (0.2, 0.08, 0.1))
NEXT = ((0.16, 0.0), (0.1, 0.08, 0.1))  # touches nothing: a gap of 1 cm
HEIGHT_M = 0.7


def known_box(x: float = 0.0, edges: tuple[float, float, float] = BOX[1]) -> KnownObject:
    """The box of a `box_scene`, standing on the table at (x, 0)."""
    box = trimesh.creation.box(extents=edges)
    points, _ = trimesh.sample.sample_surface(box, 3000, seed=0)
    forward = np.array([0.0, 1.0, -1.0]) / np.sqrt(2.0)
    right = np.array([1.0, 0.0, 0.0])
    T = np.eye(4)
    T[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    T[:3, 3] = T[:3, :3] @ (np.array([x, 0.0, edges[2] / 2]) - [0.0, -HEIGHT_M, HEIGHT_M])
    return KnownObject(Surface(points), T)


def with_stripe(scene: BoxScene) -> np.ndarray:
    """Depth without that of a stripe across box 1, as tape that mirrors has none."""
    depth = scene.depth.copy()
    columns = np.flatnonzero((scene.labels == 1).any(0))
    middle = int(columns.mean())
    depth[:, middle - 12 : middle + 12][scene.labels[:, middle - 12 : middle + 12] == 1] = 0.0
    return depth


def masks_of(labels: np.ndarray, scene: BoxScene, number: int) -> set[int]:
    """Labels of at least 5 % of an object's pixels."""
    values, counts = np.unique(labels[scene.labels == number], return_counts=True)
    share = counts / counts.sum()
    return {int(v) for v, s in zip(values, share, strict=True) if v > 0 and s > 0.05}


def test_a_split_object_is_merged_where_its_surface_is_known() -> None:
    scene = box_scene([BOX, NEXT])
    depth = with_stripe(scene)
    apart = Segmenter().segment(scene.rgb, depth, CAMERA).labels
    assert len(masks_of(apart, scene, 1)) == 2
    merged = Segmenter().segment(scene.rgb, depth, CAMERA, lambda: [known_box()]).labels
    assert len(masks_of(merged, scene, 1)) == 1
    assert len(masks_of(merged, scene, 2)) == 1
    assert masks_of(merged, scene, 1).isdisjoint(masks_of(merged, scene, 2))


@pytest.mark.parametrize("x", [-0.03, 0.06], ids=["3 cm", "6 cm"])
def test_an_object_that_moved_away_merges_nothing(x: float) -> None:
    scene = box_scene([BOX])
    depth = with_stripe(scene)
    labels = Segmenter().segment(scene.rgb, depth, CAMERA, lambda: [known_box(x)]).labels
    assert len(masks_of(labels, scene, 1)) == 2


def test_two_known_objects_that_touch_stay_two() -> None:
    scene = box_scene([((-0.05, 0.0), (0.1, 0.08, 0.1)), ((0.05, 0.0), (0.1, 0.08, 0.1))])
    image = point_image(scene.depth, CAMERA, 320, (0.1, 3.0))
    known = [known_box(x, (0.1, 0.08, 0.1)) for x in (-0.05, 0.05)]
    true = np.ascontiguousarray(scene.labels[::2, ::2])
    assert (merged_parts(true, image, known, MergeSettings()) == true).all()
    halves = np.where((true == 2) & (np.arange(320) > 340 / 2 + 20), 3, true).astype(np.int32)
    assert (halves == 3).any()
    assert (merged_parts(halves, image, known, MergeSettings()) > 0).sum() == (true > 0).sum()
    overlaps = mask_overlaps(merged_parts(halves, image, known, MergeSettings()), true)
    assert min(o.f for o in overlaps) == 1.0


def test_masks_without_depth_are_left_alone() -> None:
    scene = box_scene([BOX])
    image = point_image(np.zeros_like(scene.depth), CAMERA, 320, (0.1, 3.0))
    labels = np.ascontiguousarray(scene.labels[::2, ::2])
    result = merged_parts(labels, image, [known_box()], MergeSettings())
    assert (result == labels).all()


def test_labels_stay_while_an_object_is_split_and_merged() -> None:
    """The made sequence: whole, split, split and known, another object enters, one leaves."""
    alone, both = box_scene([BOX]), box_scene([BOX, NEXT])
    segmenter, nothing = Segmenter(), list
    known = [known_box()]
    (label,) = masks_of(segmenter.segment(alone.rgb, alone.depth, CAMERA).labels, alone, 1)
    split = segmenter.segment(alone.rgb, with_stripe(alone), CAMERA, nothing).labels
    assert len(masks_of(split, alone, 1)) == 2 and label in masks_of(split, alone, 1)
    for _ in range(2):
        merged = segmenter.segment(alone.rgb, with_stripe(alone), CAMERA, lambda: known).labels
        assert masks_of(merged, alone, 1) == {label}
    entered = segmenter.segment(both.rgb, with_stripe(both), CAMERA, lambda: known).labels
    assert masks_of(entered, both, 1) == {label}
    (other,) = masks_of(entered, both, 2)
    assert other not in (0, label)
    left = segmenter.segment(both.rgb, np.where(both.labels == 1, 0.0, both.depth), CAMERA).labels
    assert masks_of(left, both, 2) == {other}
    assert not (left == label).any()
