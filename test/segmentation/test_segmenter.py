"""The segmenter on analytic scenes, and on images that hold nothing to find."""

import cv2
import numpy as np
import pytest
from box_scene import CAMERA, BoxScene, box_scene

from crisp_ros.evaluation.mask_overlap import mask_overlaps
from crisp_ros.geometry.camera import Camera, FrameError
from crisp_ros.segmentation import planes
from crisp_ros.segmentation.geometric import GeometricSettings, of_object_size, scene_geometry
from crisp_ros.segmentation.segmenter import Segmentation, Segmenter

THREE = [
    ((-0.2, 0.0), (0.08, 0.06, 0.12)),
    ((0.0, 0.05), (0.1, 0.1, 0.05)),
    ((0.2, -0.05), (0.05, 0.05, 0.2)),
]


def segmented(scene: BoxScene) -> Segmentation:
    return Segmenter().segment(scene.rgb, scene.depth, CAMERA)


def least_f(scene: BoxScene, result: Segmentation) -> float:
    return min(o.f for o in mask_overlaps(result.labels, scene.labels))


def test_objects_on_a_table_have_a_mask_each() -> None:
    scene = box_scene(THREE)
    result = segmented(scene)
    assert result.count == 3
    assert least_f(scene, result) > 0.92


def test_the_support_plane_is_the_table() -> None:
    scene = box_scene(THREE)
    support = segmented(scene).support
    assert support is not None
    assert support.normal @ scene.plane[:3] > np.cos(np.deg2rad(0.3))
    assert support.offset == pytest.approx(scene.plane[3], abs=0.003)


def test_an_object_before_another_is_split_at_the_depth_edge() -> None:
    scene = box_scene([((0.0, -0.1), (0.1, 0.04, 0.1)), ((0.03, 0.06), (0.1, 0.06, 0.22))])
    result = segmented(scene)
    assert result.count == 2
    assert least_f(scene, result) > 0.9


def test_an_upside_down_camera_finds_the_same() -> None:
    scene = box_scene(THREE)
    camera = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)
    result = Segmenter().segment(
        scene.rgb[::-1, ::-1].copy(), scene.depth[::-1, ::-1].copy(), camera
    )
    assert result.count == 3
    overlaps = mask_overlaps(result.labels[::-1, ::-1], scene.labels)
    assert min(o.f for o in overlaps) > 0.9


def test_sixty_objects_are_found() -> None:
    boxes = [
        ((0.1 * (i % 10) - 0.45, 0.11 * (i // 10) - 0.2), (0.04, 0.04, 0.05)) for i in range(60)
    ]
    scene = box_scene(boxes, camera=CAMERA, height_m=0.85)
    result = Segmenter().segment(scene.rgb, scene.depth, CAMERA)
    visible = np.unique(scene.labels[scene.labels > 0])
    assert result.count == len(visible) == 60


def test_without_a_plane_objects_are_found_and_it_is_said() -> None:
    scene = box_scene(THREE, table=False)
    result = segmented(scene)
    assert result.count == 3
    assert result.support is None
    assert "no plane" in result.reasons[0]


def test_a_hole_in_the_depth_of_an_object_is_filled() -> None:
    scene = box_scene(THREE)
    v, u = np.argwhere(scene.labels == 2).mean(0).astype(int)
    depth = scene.depth.copy()
    depth[v - 4 : v + 4, u - 4 : u + 4] = 0.0
    result = Segmenter().segment(scene.rgb, depth, CAMERA)
    assert (result.labels[v - 4 : v + 4, u - 4 : u + 4] > 0).all()


def test_an_object_too_long_is_refused_with_the_reason() -> None:
    result = segmented(box_scene([((0.0, 0.0), (0.55, 0.03, 0.05))]))
    assert result.count == 0
    assert "longer than 0.5 m" in result.reasons[0]


@pytest.mark.parametrize(
    ("depth", "reason"),
    [
        (np.zeros((480, 640), np.float32), "no depth"),
        (np.full((480, 640), np.nan, np.float32), "no depth"),
        (np.full((480, 640), np.inf, np.float32), "no depth"),
        (np.full((480, 640), -1.0, np.float32), "no depth"),
        (np.full((480, 640), 50.0, np.float32), "no depth"),
        (np.full((480, 640), 1.0, np.float32), "nothing rises"),
    ],
    ids=["black", "nan", "inf", "negative", "far", "wall"],
)
def test_an_image_without_objects_has_a_reason(depth: np.ndarray, reason: str) -> None:
    rgb = np.zeros((480, 640, 3), np.uint8)
    result = Segmenter().segment(rgb, depth, CAMERA)
    assert result.count == 0
    assert reason in result.reasons[0]


def test_noise_for_depth_ends_after_a_bounded_search(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    best = planes._best
    monkeypatch.setattr(planes, "_best", lambda *args: calls.append(1) or best(*args))
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.3, 2.5, (480, 640)).astype(np.float32)
    result = Segmenter().segment(np.zeros((480, 640, 3), np.uint8), depth, CAMERA)
    assert len(calls) <= 2 * planes.PlaneSettings().max_planes
    assert result.count < 100


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 9)])
def test_tiny_images_do_not_fail(size: tuple[int, int]) -> None:
    camera = Camera(5.0, 5.0, 1.0, 1.0, size[1], size[0])
    result = Segmenter().segment(np.zeros((*size, 3), np.uint8), np.ones(size, np.float32), camera)
    assert result.labels.shape == size


def test_labels_stay_while_the_objects_move_in_the_image() -> None:
    segmenter = Segmenter()
    first = box_scene(THREE)
    second = box_scene([((x + 0.01, y), edges) for (x, y), edges in reversed(THREE)])
    before = segmenter.segment(first.rgb, first.depth, CAMERA).labels
    after = segmenter.segment(second.rgb, second.depth, CAMERA).labels
    for number in (1, 2, 3):
        here = np.bincount(before[first.labels == number]).argmax()
        there = np.bincount(after[second.labels == 4 - number]).argmax()
        assert here == there > 0


def test_sizes_and_types_that_do_not_fit_are_refused() -> None:
    scene = box_scene([])
    with pytest.raises(FrameError, match="rgb"):
        Segmenter().segment(scene.rgb[:10], scene.depth, CAMERA)
    with pytest.raises(FrameError, match="metres"):
        Segmenter().segment(scene.rgb, scene.depth.astype(np.uint16), CAMERA)


def test_a_mask_that_reaches_into_the_background_is_kept() -> None:
    """Pixels at its edge see a floor far behind: they do not make the object too long."""
    scene, settings = box_scene(THREE[:1]), GeometricSettings()
    own = np.ascontiguousarray(scene.labels[::2, ::2] == 1)
    wide = cv2.dilate(own.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    edge = np.repeat(np.repeat(wide & ~own, 2, axis=0), 2, axis=1)
    depth = np.where(edge, np.float32(2.5), scene.depth)
    geometry = scene_geometry(depth, CAMERA, settings)
    labels = wide.astype(np.int32)
    masks = of_object_size(labels, geometry.image, geometry.foreground, settings)
    assert (masks.labels == labels).all() and not masks.reasons
