import math

import numpy as np
import pytest
import torch
from analytic import box, sphere
from analytic_scene import AnalyticDecoder
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from poses import pose
from tracking.scenes import looking_from, seen_points

from crisp_ros.correction.correspondences import ObjectPoints, Shapes
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.geometry.se3 import transform
from crisp_ros.tracking.view_buffer import (
    Insertion,
    ViewBuffer,
    ViewBufferSettings,
    stack_views,
    viewpoint_distances,
)

MIDDLE = np.array([0.0, 0.0, 0.02])
POINTS, VALID = torch.rand(200, 3), torch.ones(200, dtype=torch.bool)
cameras = arrays(float, (3,), elements=st.floats(-1, 1)).filter(lambda c: np.linalg.norm(c) > 0.1)
offers = st.lists(st.tuples(cameras, st.booleans(), st.floats(0.1, 1.0)), min_size=1, max_size=20)


def at(camera) -> np.ndarray:
    """T_object_camera (4, 4) of a camera there, about the middle."""
    return pose(MIDDLE + np.asarray(camera))


def small(**changes) -> ViewBuffer:
    values = {"max_views": 6, "points_per_view": 16, "min_angle_rad": 0.5} | changes
    return ViewBuffer(ViewBufferSettings(**values), MIDDLE, "cpu")


def apart(found, angle=0.5, ratio=1.25) -> float:
    """The least distance of two different viewpoints."""
    distances = viewpoint_distances(found, found, angle, ratio)
    return float((distances + np.where(np.eye(len(found)), np.inf, 0)).min(initial=np.inf))


@settings(deadline=None, max_examples=40)
@given(offers)
def test_views_differ_are_certified_and_take_no_more_memory(given_views):
    buffer = small()
    memory = buffer.element_count
    for camera, certified, score in given_views:
        count = len(buffer)
        added = buffer.add(POINTS, VALID, at(camera), certified, score)
        assert certified or added is Insertion.REFUSED
        assert len(buffer) <= 6
        assert added is not Insertion.REFUSED or len(buffer) == count
        assert apart(buffer.cameras) >= 1.0
    assert buffer.element_count == memory
    assert buffer.pooled().points.shape == (1, 16 * len(buffer), 3)


@settings(deadline=None, max_examples=40)
@given(offers)
def test_every_certified_direction_is_covered_if_there_is_room(given_views):
    buffer = small(max_views=50)
    for camera, certified, score in given_views:
        buffer.add(POINTS, VALID, at(camera), certified, score)
    seen = np.array([c for c, certified, _ in given_views if certified]).reshape(-1, 3)
    # A better view may have replaced one whose side it shares; so sides drift, but one at a time.
    nearest = viewpoint_distances(seen, buffer.cameras, 0.5, 1.25).min(1, initial=np.inf)
    assert (nearest < len(given_views)).all()
    assert len(buffer) > 0 or len(seen) == 0


@settings(deadline=None, max_examples=40)
@given(offers)
def test_a_full_buffer_spreads_its_views_ever_better(given_views):
    buffer = small(max_views=3, min_angle_rad=0.01, min_distance_ratio=100.0)
    least = 0.0
    for camera, _, score in given_views:
        added = buffer.add(POINTS, VALID, at(camera), True, score)
        if len(buffer) == 3:
            now = apart(buffer.cameras, 0.01, 100.0)
            assert now >= least - 1e-9 or added is Insertion.BETTER
            least = now


def test_the_distance_of_viewpoints_is_angle_or_ratio():
    a = np.array([[1.0, 0.0, 0.0]])
    b = np.array([[0.0, 2.0, 0.0], [1.1, 0.0, 0.0], [1.0, 1e-9, 0.0], [-1.0, 0.0, 0.0]])
    found = viewpoint_distances(a, b, math.pi / 8, 2.0)[0]
    assert np.allclose(found, [4.0, math.log2(1.1), 1e-9 / (math.pi / 8), 8.0], rtol=1e-9)


def test_of_two_views_from_one_side_the_better_stays():
    buffer = small(certified_only=False)
    assert buffer.add(POINTS, VALID, at((0, 0, 1)), False, 0.4) is Insertion.NEW
    assert buffer.add(POINTS, VALID, at((0.1, 0, 1)), False, 0.3) is Insertion.REFUSED
    assert buffer.add(POINTS, VALID, at((0.2, 0, 1)), True, 0.6) is Insertion.BETTER
    assert buffer.add(POINTS, VALID, at((0.0, 0, 1)), False, 0.9) is Insertion.REFUSED
    assert buffer.add(POINTS, VALID, at((0.1, 0, 1)), True, 0.6) is Insertion.BETTER  # newer
    assert np.allclose(buffer.cameras, [[0.1, 0, 1]])


def test_farther_away_is_another_view():
    buffer = small()
    assert buffer.add(POINTS, VALID, at((0, 0, 1)), True, 0.9) is Insertion.NEW
    assert buffer.add(POINTS, VALID, at((0, 0, 1.2)), True, 0.5) is Insertion.REFUSED
    assert buffer.add(POINTS, VALID, at((0, 0, 1.3)), True, 0.5) is Insertion.NEW


@pytest.mark.parametrize("camera", [(0.0, 0.0, 0.0), (np.nan, 0.0, 1.0), (np.inf, 0.0, 1.0)])
def test_poses_without_a_viewing_ray_are_refused(camera):
    assert small().add(POINTS, VALID, at(camera), True, 0.9) is Insertion.REFUSED


def test_pooled_points_are_the_views_in_the_object_frame():
    buffer = small(points_per_view=64)
    valid = torch.rand(200) < 0.2
    points = POINTS.clone()
    points[valid.nonzero()[0]] = torch.nan
    poses = [np.linalg.inv(looking_from(d)) for d in ([0, 0, 1], [0, 1, 0], [1, 0, 0.2])]
    for T, score in zip(poses, (0.5, 0.7, 0.9), strict=True):
        buffer.add(points, valid, T, True, score)
    pooled = buffer.pooled()
    assert pooled.valid.all()
    for i, (T, score) in enumerate(zip(poses, (0.5, 0.7, 0.9), strict=True)):
        part = slice(64 * i, 64 * i + 64)
        kept = transform(torch.from_numpy(T).float(), points[valid])
        kept = kept[kept.isfinite().all(-1)]
        distance = (pooled.points[0, part, None] - kept).norm(dim=-1)
        assert distance.min(1).values.max() < 1e-5
        assert (distance.min(0).values < 1e-5).all()  # fewer than 64, so every one is there
        assert pooled.weights[0, part].sum() == pytest.approx(score)


def test_views_without_points_have_no_weight():
    buffer = small()
    buffer.add(POINTS, torch.zeros_like(VALID), at((0, 0, 1)), True, 0.9)
    pooled = buffer.pooled()
    assert not pooled.valid.any()
    assert (pooled.weights == 0).all()
    assert pooled.points.isfinite().all()


def test_a_cleared_buffer_is_empty():
    buffer = small()
    buffer.add(POINTS, VALID, at((0, 0, 1)), True, 0.9)
    buffer.clear()
    assert len(buffer) == 0
    assert buffer.pooled().points.shape == (1, 0, 3)


def test_refitted_views_touch_the_shape_or_are_dropped():
    shape = box((0.04, 0.025, 0.055))
    field = DecoderField(AnalyticDecoder((shape, sphere(0.3))))
    boxes = Shapes.of_codes(torch.tensor([1.0, 0.0]))
    buffer = small(points_per_view=96)
    for i, direction in enumerate(([1, 0.5, 0.5], [-1, 0.6, 0.4], [0.5, -0.8, -0.7])):
        T = looking_from(direction)
        points = seen_points(shape, T, seed=i, noise_m=0.0)
        moved = pose((0.003, -0.002, 0.002), (0.02, -0.05, 0.03))
        buffer.add(points, torch.ones(len(points)).bool(), moved @ np.linalg.inv(T), True, 0.8)
    T = looking_from([0.7, 0.7, -0.6])
    other = seen_points(sphere(0.1), T, seed=9)
    buffer.add(other, torch.ones(len(other)).bool(), np.linalg.inv(T), True, 0.8)
    before = field.sdf(buffer.pooled().points[:, : 3 * 96], boxes).abs().mean()
    assert buffer.refit_poses(field, boxes) == 1
    assert len(buffer) == 3
    after = field.sdf(buffer.pooled().points, boxes).abs().mean()
    assert before > 2e-3
    assert after < 2e-4


def test_stacked_views_are_padded_with_invalid_points():
    def views(count):
        return ObjectPoints(torch.rand(1, count, 3), torch.rand(1, count) + 0.1)

    few, many = views(2), views(5)
    batch = stack_views([few, many])
    assert batch.points.shape == (2, 5, 3)
    assert torch.equal(batch.points[:1, :2], few.points)
    assert torch.equal(batch.weights[1:], many.weights)
    assert batch.valid.sum(-1).tolist() == [2, 5]
    assert (batch.weights[0, 2:] == 0).all()
