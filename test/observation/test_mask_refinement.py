"""Borders of masks are moved to edges of depth and colour."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.observation.mask_refinement import MaskRefinementSettings, refine_labels

CAMERA = Camera(500.0, 500.0, 159.5, 119.5, 320, 240)


def ball(centre: tuple[int, int], radius: int) -> NDArray[np.bool_]:
    v, u = np.indices((240, 320))
    return (u - centre[0]) ** 2 + (v - centre[1]) ** 2 <= radius**2


def moved(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(pixels) + 1,) * 2)
    change = cv2.dilate if pixels > 0 else cv2.erode
    return change(mask.astype(np.uint8), element) > 0


def frame_of(
    surfaces: list[tuple[NDArray[np.bool_], float, int]], labels: NDArray[np.bool_]
) -> Frame:
    """A grey floor at 1.2 m with surfaces on it: their pixels, depth and brightness."""
    rng = np.random.default_rng(0)
    depth = np.full((240, 320), 1.2)
    rgb = np.full((240, 320, 3), 120, np.uint8)
    for mask, metres, brightness in surfaces:
        depth[mask], rgb[mask] = metres, brightness
    depth += rng.normal(0.0, 0.001, depth.shape)
    return Frame(rgb, depth.astype(np.float32), labels.astype(np.int32), CAMERA)


def overlap(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize("pixels", [-5, 4, 6])
@pytest.mark.parametrize(("metres", "brightness"), [(0.9, 120), (1.2, 220)])
def test_border_moves_to_an_edge(pixels: int, metres: float, brightness: int) -> None:
    """By depth alone, and by colour alone."""
    true = ball((150, 120), 40)
    given = moved(true, pixels)
    refined = refine_labels(frame_of([(true, metres, brightness)], given)) == 1
    assert overlap(refined, true) > 0.93
    assert overlap(refined, true) > overlap(given, true) + 0.1


def test_border_stays_where_there_is_no_edge() -> None:
    given = ball((150, 120), 40)
    refined = refine_labels(frame_of([], given)) == 1
    assert overlap(refined, given) > 0.9


@pytest.mark.parametrize("metres", [0.75, 1.2])
def test_piece_of_another_surface_is_dropped(metres: float) -> None:
    """Of an occluder in front and of the background, larger than the band."""
    true, piece = ball((130, 120), 40), ball((178, 120), 16)
    wall = ball((230, 120), 62)
    true &= ~wall
    frame = frame_of([(true, 0.9, 120), (wall, metres, 120)], true | piece)
    refined = refine_labels(frame) == 1
    assert np.count_nonzero(refined & wall) < 0.1 * np.count_nonzero(piece & wall)
    assert overlap(refined, true) > 0.93


def test_handle_of_an_object_is_kept() -> None:
    """It is a surface of its own in the depth image, and ends where the mask does."""
    body, handle = ball((130, 120), 35), ball((172, 120), 14) & ~ball((130, 120), 38)
    frame = frame_of([(body, 0.9, 120), (handle, 0.93, 120)], body | handle)
    refined = refine_labels(frame) == 1
    assert np.count_nonzero(refined & handle) > 0.7 * np.count_nonzero(handle)


def test_neighbours_keep_their_own_pixels() -> None:
    """A grown mask covers a neighbour, whose pixels the neighbour gets back."""
    left, right = ball((110, 120), 35), ball((180, 120), 35)
    labels = np.where(moved(left, 6), 1, np.where(right, 2, 0))
    frame = frame_of([(left, 0.9, 80), (right, 0.95, 200)], labels)
    refined = refine_labels(frame)
    assert overlap(refined == 1, left) > 0.93
    assert overlap(refined == 2, right) > overlap(labels == 2, right)


def test_no_object_vanishes() -> None:
    """Masks without depth, of a few pixels, thin, or on the image's border."""
    labels = np.zeros((240, 320), np.int32)
    labels[10:13, 10:13], labels[50:52, 20:200], labels[200:, 280:], labels[100:140, :40] = (
        1,
        2,
        3,
        7,
    )
    frame = frame_of([], labels)
    frame.depth[100:140, :40] = 0.0
    refined = refine_labels(frame)
    assert np.unique(refined).tolist() == [0, 1, 2, 3, 7]


@pytest.mark.parametrize("label", [0, 1])
def test_images_of_one_label_stay(label: int) -> None:
    frame = frame_of([], np.full((240, 320), label))
    assert np.array_equal(refine_labels(frame), frame.labels)


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (1, 4), (2, 2), (3, 5)])
def test_images_of_a_few_pixels_are_taken(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.int32)
    labels[0, 0] = 3
    camera = Camera(50.0, 50.0, 0.5, 0.5, shape[1], shape[0])
    frame = Frame(np.zeros((*shape, 3), np.uint8), np.ones(shape, np.float32), labels, camera)
    assert refine_labels(frame)[0, 0] == 3


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="band_px 0"):
        MaskRefinementSettings(band_px=0)
    with pytest.raises(ValueError, match="depth_edge -1"):
        MaskRefinementSettings(depth_edge=-1)


def test_what_is_far_from_all_masks_changes_nothing() -> None:
    """Edges and surfaces far away, and where the masks are in the image."""
    rng = np.random.default_rng(1)
    true = ball((150, 120), 25)
    given = moved(true, 4) | ball((185, 120), 9)
    frame = frame_of([(true, 0.9, 120)], given)
    refined = refine_labels(frame)
    v, u = np.nonzero(given)
    far = np.ones(given.shape, bool)
    far[v.min() - 40 : v.max() + 41, u.min() - 40 : u.max() + 41] = False
    rgb, depth = frame.rgb.copy(), frame.depth.copy()
    rgb[far] = rng.integers(0, 255, (far.sum(), 3))
    depth[far] = rng.uniform(0.0, 2.0, far.sum())
    np.testing.assert_array_equal(refine_labels(Frame(rgb, depth, frame.labels, CAMERA)), refined)
    large = [cv2.copyMakeBorder(x, 300, 50, 10, 500, cv2.BORDER_REPLICATE) for x in (rgb, depth)]
    labels = cv2.copyMakeBorder(frame.labels, 300, 50, 10, 500, cv2.BORDER_CONSTANT)
    camera = Camera(500.0, 500.0, 169.5, 419.5, 830, 590)
    found = refine_labels(Frame(*large, labels, camera))
    np.testing.assert_array_equal(found[300:540, 10:330], refined)
    assert found.astype(bool).sum() == refined.astype(bool).sum() > 0
