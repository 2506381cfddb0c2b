"""Points of a recording: where they are, how dense they are, and which frame shows them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.reports.scene_points import scene_points

HEIGHT, WIDTH = 60, 80
K = np.array([[100.0, 0, 39.5], [0, 100.0, 29.5], [0, 0, 1]])
NEAR_MM, WALL_MM = 500, 600


def frame(T_world_camera: np.ndarray | None = None) -> RecordedFrame:
    """A red object of 10 x 10 cm, 10 cm before a wall, with a hole in its depth."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[20:40, 30:50] = 1
    depth = np.where(labels > 0, NEAR_MM, WALL_MM).astype(np.uint16)
    depth[28:31, 38:41] = 0
    rgb = np.where(labels[..., None] > 0, [200, 0, 0], [90, 90, 90]).astype(np.uint8)
    return RecordedFrame(
        stamp_ns=0, frame_id="camera", rgb=rgb, depth=depth, labels=labels, intrinsics=K,
        T_world_camera=T_world_camera,
    )  # fmt: skip


def looking(degrees: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    T[:3, 3] = 0.3, -0.2, 1.0
    return T


@pytest.mark.parametrize("metres", [False, True])
def test_points_lie_where_the_depth_says(metres: bool) -> None:
    source = frame()
    if metres:
        depth = np.where(source.depth > 0, source.depth / 1000, np.nan).astype(np.float32)
        source = replace(source, depth=depth)
    points = scene_points([source], [0])
    assert not points.in_world and points.cloud_of_frame == [0]
    np.testing.assert_allclose(points.field, (0.4, 0.3))
    (cloud,) = points.clouds
    z = cloud.points[:, 2]
    np.testing.assert_allclose(z[cloud.on_object], 0.5, atol=1e-6)
    np.testing.assert_allclose(z[~cloud.on_object], 0.6, atol=1e-6)
    assert (cloud.colours[cloud.on_object] == [200, 0, 0]).all()
    # Of the object's 5 cm to each side, the rim is left out.
    reach = np.abs(cloud.points[cloud.on_object, :2]).max()
    assert 0.03 < reach < 0.05


def test_views_of_a_known_camera_are_one_thinned_cloud() -> None:
    still = scene_points([frame(looking(30))] * 5, range(5))
    (cloud,) = still.clouds
    assert still.in_world and still.cloud_of_frame == [0] * 5
    alone = scene_points([frame(looking(30))], [0]).clouds[0]
    assert len(cloud.points) == len(alone.points)  # the same places, seen again
    cells = np.floor(cloud.points / cloud.spacing_m)
    assert len(np.unique(cells, axis=0)) == len(cells)
    (expected,) = scene_points([frame()], [0]).clouds
    T = looking(30)
    centre = T[:3, :3] @ expected.points[expected.on_object].mean(axis=0) + T[:3, 3]
    found = cloud.points[cloud.on_object].mean(axis=0)
    np.testing.assert_allclose(found, centre, atol=0.004)


def test_a_frame_without_a_place_in_the_world_shows_no_points() -> None:
    frames = [frame(looking(0)), frame(None), frame(looking(10))]
    assert scene_points(frames, range(3)).cloud_of_frame == [0, None, 0]
    first_unknown = scene_points([frame(None), frame(looking(0))], range(2))
    assert not first_unknown.in_world and first_unknown.cloud_of_frame == [0, 1]


def test_only_the_frames_that_are_asked_for_count() -> None:
    far = replace(frame(), depth=np.full((HEIGHT, WIDTH), 900, np.uint16))
    points = scene_points(iter([far, frame(), far, frame(), far]), [1, 3])
    assert points.cloud_of_frame == [0, 1]
    assert all(cloud.points[:, 2].max() < 0.7 for cloud in points.clouds)


def test_many_frames_share_the_points() -> None:
    points = scene_points([frame()] * 100, range(100))
    shown = [cloud for cloud in points.cloud_of_frame if cloud is not None]
    assert len(shown) == len(points.clouds) < 100 and shown == list(range(len(shown)))
    large = np.kron(np.eye(300, dtype=np.uint8), np.ones((2, 2), np.uint8))
    noisy = RecordedFrame(
        0, "camera", np.zeros((600, 600, 3), np.uint8),
        np.random.default_rng(0).integers(980, 1020, (600, 600)).astype(np.uint16), large, K,
    )  # fmt: skip
    dense = scene_points([noisy] * 4, range(4))
    assert sum(len(cloud.points) for cloud in dense.clouds) <= 250_000
    assert dense.clouds[0].spacing_m > 0.004
