import math

import numpy as np
import pytest
import torch

from crisp_ros.observation.crop_channels import (
    crop_points,
    dequantise_crops,
    geometry_channels,
    nearest_pixels,
    quantise_crops,
    rotate_coordinates,
)
from crisp_ros.observation.frame import Camera, Frame
from crisp_ros.observation.observe import ObservationSettings, observe

CAMERA = Camera(300.0, 310.0, 101.5, 77.0, 200, 150)


def sphere_frame(centre: tuple[float, float, float], radius: float = 0.08) -> Frame:
    """A sphere before a wall at 2 m, with a hole in its depth."""
    v, u = np.mgrid[:150, :200]
    ray = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], -1)
    a, b = (ray**2).sum(-1), ray @ np.array(centre)
    under = b**2 - a * (np.dot(centre, centre) - radius**2)
    seen = under > 0
    depth = np.where(seen, (b - np.sqrt(under.clip(0))) / a, 2.0).astype(np.float32)
    depth[70:74, 90:96] = 0
    rgb = np.full((150, 200, 3), 90, np.uint8)
    return Frame(rgb, depth, seen.astype(np.int32), CAMERA)


def naive_channels(frame: Frame, box: np.ndarray, size: int) -> np.ndarray:
    """The channels of label 1, pixel by pixel."""
    left, top, side, _ = (int(value) for value in box)
    mask, points = np.zeros((size, size), bool), {}
    for row in range(size):
        for column in range(size):
            u = left + math.floor((column + 0.5) * side / size)
            v = top + math.floor((row + 0.5) * side / size)
            if not (0 <= u < 200 and 0 <= v < 150) or frame.labels[v, u] != 1:
                continue
            mask[row, column] = True
            z = float(frame.depth[v, u])
            if z > 0:
                x, y = (u - CAMERA.cx) / CAMERA.fx * z, (v - CAMERA.cy) / CAMERA.fy * z
                points[row, column] = np.array([x, y, z])
    ordered = np.sort(np.array(list(points.values())), axis=0)
    median = ordered[(len(ordered) - 1) // 2]
    ray = median / np.linalg.norm(median)
    axis = np.cross(ray, [0.0, 0.0, 1.0])
    sine, cosine = np.linalg.norm(axis), ray[2]
    k = axis / max(sine, 1e-12)
    K = np.array([[0, -k[2], k[1]], [k[2], 0, -k[0]], [-k[1], k[0], 0]])
    R = np.eye(3) + sine * K + (1 - cosine) * K @ K
    channels = np.zeros((5, size, size))
    channels[0] = np.where(mask, 1, -1)
    channels[4] = -1
    for at, point in points.items():
        local = R @ (point - median)
        if np.abs(local).max() <= 0.3:
            channels[(slice(1, 4), *at)] = local / 0.1
            channels[(4, *at)] = 1
    return channels


@pytest.mark.parametrize("centre", [(0.0, 0.0, 0.6), (-0.15, 0.08, 0.7), (0.24, 0.0, 0.7)])
def test_channels_agree_with_a_naive_loop(centre):
    frame = sphere_frame(centre)
    seen = observe(frame, ObservationSettings(), 32, geometry=True)
    expected = naive_channels(frame, seen.boxes[0].numpy(), 32)
    assert (expected[4] > 0).sum() > 200
    np.testing.assert_allclose(seen.crops[0, 3:].numpy(), expected, atol=2e-5)


def test_colour_is_the_same_with_and_without_geometry():
    frame = sphere_frame((0.0, 0.0, 0.6))
    plain = observe(frame, ObservationSettings(), 32)
    seen = observe(frame, ObservationSettings(), 32, geometry=True)
    assert plain.crops.shape == (1, 3, 32, 32) and seen.crops.shape == (1, 8, 32, 32)
    assert torch.equal(seen.crops[:, :3], plain.crops)
    for name in ("labels", "boxes", "points", "pixels", "valid"):
        assert torch.equal(getattr(seen, name), getattr(plain, name))


def test_a_frame_without_objects_has_no_crops():
    frame = sphere_frame((0.0, 0.0, 0.6))
    empty = Frame(frame.rgb, frame.depth, np.zeros_like(frame.labels), CAMERA)
    assert observe(empty, ObservationSettings(), 32, geometry=True).crops.shape == (0, 8, 32, 32)


def test_a_rotated_image_has_rotated_coordinates():
    camera = Camera(300.0, 300.0, 63.5, 63.5, 128, 128)
    rng = np.random.default_rng(0)
    depth = (0.6 + 0.05 * rng.random((128, 128))).astype(np.float32)
    mask = np.zeros((128, 128), bool)
    mask[40:91, 50:81] = True  # an odd number of pixels: their median is one of them
    # np.rot90 by -1 takes what was to the right of the centre to below it: x becomes y.
    channels = [
        geometry_channels(
            torch.from_numpy(crop_points(d, (0, 0, 128), 128, camera))[None],
            torch.from_numpy(m.copy())[None],
        )
        for d, m in ((depth, mask), (np.rot90(depth, -1).copy(), np.rot90(mask, -1)))
    ]
    rotated = torch.rot90(channels[0], -1, (2, 3))
    expected = rotate_coordinates(rotated, torch.tensor([math.pi / 2]))
    assert torch.allclose(channels[1], expected, atol=1e-4)


def test_equal_views_look_alike_all_over_the_image():
    """Rotated about the camera, an object keeps its coordinates, though not those in the camera."""
    rng = torch.Generator().manual_seed(1)
    points = (
        torch.rand(1, 3, 24, 24, generator=rng) * 0.1
        + torch.tensor([-0.05, -0.05, 0.7])[None, :, None, None]
    )
    mask = torch.ones(1, 24, 24, dtype=torch.bool)
    angle = math.radians(20)
    R = torch.tensor(
        [[math.cos(angle), 0, math.sin(angle)], [0, 1, 0], [-math.sin(angle), 0, math.cos(angle)]]
    )
    moved = (R @ points.flatten(2)).view_as(points)
    difference = geometry_channels(moved, mask) - geometry_channels(points, mask)
    # The median of each coordinate depends a little on the axes.
    assert difference[:, 1:4].abs().max() < 0.06
    assert (moved - points)[:, 0].abs().min() > 0.2


def test_without_depth_only_the_mask_is_left():
    mask = torch.zeros(2, 16, 16, dtype=torch.bool)
    mask[:, 4:9, 3:12] = True
    points = torch.full((2, 3, 16, 16), torch.nan)
    points[1] = 0
    channels = geometry_channels(points, mask)
    assert torch.equal(channels[:, 0], mask.float() * 2 - 1)
    assert (channels[:, 1:4] == 0).all() and (channels[:, 4] == -1).all()


def test_what_is_behind_a_grown_mask_is_not_the_object():
    points = torch.tensor([0.0, 0.0, 0.7])[:, None, None].repeat(1, 16, 16)[None]
    points[..., :3] = torch.tensor([0.0, 0.0, 1.9])[:, None, None]
    channels = geometry_channels(points, torch.ones(1, 16, 16, dtype=torch.bool))
    assert (channels[0, 4, :, :3] == -1).all() and (channels[0, 4, :, 3:] == 1).all()
    assert (channels[0, 1:4] == 0).all()


def test_pixels_outside_the_image_are_marked():
    (v, u), inside = nearest_pixels((-10, 140, 20), (150, 200), 10)
    assert inside.tolist() == [[False] * 5 + [True] * 5] * 5 + [[False] * 10] * 5
    assert v.min() >= 0 and v.max() == 149 and u.min() == 0


@pytest.mark.parametrize("geometry", [False, True])
def test_quantised_crops_keep_pixels_and_millimetres(geometry):
    seen = observe(sphere_frame((0.1, 0.0, 0.6)), ObservationSettings(), 32, geometry)
    stored = quantise_crops(seen.crops)
    assert stored.dtype == (torch.int16 if geometry else torch.uint8)
    again = dequantise_crops(stored)
    error = (again - seen.crops).abs().amax((0, 2, 3))
    assert (error[:3] <= 0.5 / 255 + 1e-6).all()
    if geometry:
        assert error[[3, 7]].max() == 0 and error[4:7].max() <= 0.0005 / 0.1 + 1e-6
        assert (seen.crops[:, 4:7].abs() > 0.3).any()
    assert torch.equal(quantise_crops(again), stored)
