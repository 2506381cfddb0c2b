"""Labels from boxes, on scenes whose true masks are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crisp_ros.data.bop import BopDataset
from crisp_ros.observation.boxes import Box, BoxSettings, labels_in_boxes

YCBV = Path(__file__).parents[3] / "shared" / "data" / "bop" / "ycbv"
WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
CX, CY = 159.5, 119.5


def table(height_m: float = 0.35, tilt: float = 0.7) -> np.ndarray:
    """Depth (H, W) of a plane in front of and below the camera, which looks down by `tilt` rad."""
    v = (np.arange(HEIGHT) - CY) / FOCAL
    down = np.cos(tilt) * v + np.sin(tilt)
    return np.repeat((height_m / down)[:, None], WIDTH, 1).astype(np.float32)


def sphere(depth: np.ndarray, centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """Put a sphere into a depth image; its visible pixels."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([(u - CX) / FOCAL, (v - CY) / FOCAL, np.ones_like(u, float)], -1)
    c = np.array(centre)
    a, b = (rays * rays).sum(-1), rays @ c
    inside = b * b - a * (c @ c - radius**2)
    z = (b - np.sqrt(np.maximum(inside, 0))) / a
    hit = (inside > 0) & (z < depth)
    depth[hit] = z[hit]
    return hit


def box_around(mask: np.ndarray, label: int) -> Box:
    v, u = np.nonzero(mask)
    left, right, top, bottom = u.min(), u.max(), v.min(), v.max()
    return Box(
        label, (left + right) / 2, (top + bottom) / 2, right - left + 1.0, bottom - top + 1.0
    )


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def found(depth: np.ndarray, *boxes: Box) -> np.ndarray:
    return labels_in_boxes(depth, boxes, FOCAL, BoxSettings())


def test_a_ball_is_separated_from_its_table() -> None:
    rng = np.random.default_rng(0)
    depth = table()
    mask = sphere(depth, (0.02, 0.0, 0.45), 0.05)
    noisy = depth + rng.normal(0, 0.001, depth.shape).astype(np.float32)
    noisy[rng.random(depth.shape) < 0.05] = rng.choice([0.0, np.nan, np.inf])
    labels = found(noisy, box_around(mask, 7))
    assert set(np.unique(labels)) == {0, 7}
    assert overlap(labels == 7, mask) > 0.85


def test_a_loose_box_finds_the_same_object() -> None:
    depth = table()
    mask = sphere(depth, (0.02, 0.0, 0.45), 0.05)
    tight = box_around(mask, 1)
    loose = tight._replace(u=tight.u + 4, width=1.3 * tight.width, height=1.3 * tight.height)
    assert overlap(found(depth, loose) > 0, mask) > 0.85


def test_what_stands_in_front_and_behind_is_left_out() -> None:
    depth = np.full((HEIGHT, WIDTH), 1.5, np.float32)
    mask = sphere(depth, (0.0, 0.0, 0.6), 0.08)
    box = box_around(mask, 1)
    depth[150:, :] = 0.3  # something near covers the lower part
    visible = mask.copy()
    visible[150:, :] = False
    assert overlap(found(depth, box) > 0, visible) > 0.9


def test_the_nearer_object_has_the_pixels_of_both_boxes() -> None:
    depth = np.full((HEIGHT, WIDTH), 1.5, np.float32)
    behind = sphere(depth, (0.05, 0.0, 0.8), 0.08)
    front = sphere(depth, (-0.03, 0.0, 0.6), 0.06)
    behind &= ~front
    labels = found(depth, box_around(front, 1), box_around(behind, 2))
    assert overlap(labels == 1, front) > 0.9 and overlap(labels == 2, behind) > 0.9


def test_a_box_at_the_image_border_and_one_outside() -> None:
    depth = np.full((HEIGHT, WIDTH), 1.5, np.float32)
    mask = sphere(depth, (-0.3, 0.0, 0.6), 0.08)
    assert mask[:, 0].any()
    labels = found(depth, Box(1, 0.0, 119.5, 84.0, 82.0), Box(2, -200.0, 100.0, 50.0, 50.0))
    assert overlap(labels == 1, mask) > 0.85 and not (labels == 2).any()


def test_a_rotated_box_takes_only_its_own_pixels() -> None:
    depth = np.full((HEIGHT, WIDTH), 0.6, np.float32)
    labels = found(depth, Box(1, 160.0, 120.0, 100.0, 10.0, np.pi / 4))
    v, u = np.nonzero(labels)
    if len(u):  # a flat wall has nothing that stands out
        assert np.abs((u - 160.0) - (v - 120.0)).max() < 12


def test_without_depth_there_is_nothing() -> None:
    for value in (0.0, np.nan, np.inf, -1.0):
        depth = np.full((HEIGHT, WIDTH), value, np.float32)
        assert not found(depth, Box(1, 160.0, 120.0, 60.0, 60.0)).any()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    u=st.floats(-400, 700),
    v=st.floats(-400, 700),
    width=st.floats(0.01, 1000),
    height=st.floats(0.01, 1000),
    angle=st.floats(-10, 10),
)
def test_any_box_on_any_depth_stays_inside_itself(seed, u, v, width, height, angle) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.choice([0.0, np.nan, np.inf, 1e-6, 0.5, 0.7, 1.0, 1e3], (24, 32)).astype("f4")
    labels = found(depth, Box(3, u, v, width, height, angle))
    assert set(np.unique(labels)) <= {0, 3}
    rows, columns = np.nonzero(labels)
    c, s = np.cos(angle), np.sin(angle)
    du, dv = columns - u, rows - v
    assert (np.abs(c * du + s * dv) <= width / 2 + 2).all()
    assert (np.abs(c * dv - s * du) <= height / 2 + 2).all()


@pytest.mark.skipif(not YCBV.is_dir(), reason="no real frames here")
def test_real_objects_in_their_boxes() -> None:
    overlaps, precisions = [], []
    for frame in BopDataset(YCBV).frames():
        masks = {i.label: frame.labels == i.label for i in frame.instances}
        boxes = [box_around(mask, label) for label, mask in masks.items()]
        labels = labels_in_boxes(frame.depth, boxes, frame.intrinsics[0, 0], BoxSettings())
        for label, mask in masks.items():
            overlaps.append(overlap(labels == label, mask))
            precisions.append((mask & (labels == label)).sum() / (labels == label).sum())
    assert len(overlaps) == 13
    assert np.mean(overlaps) > 0.74 and np.mean(precisions) > 0.93 and min(precisions) > 0.75
