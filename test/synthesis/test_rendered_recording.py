"""Rendered recordings: what is seen, what is said to be seen, and where it stands agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from crisp_ros.data.recorded_frame import RecordedFrame, RecordingError
from crisp_ros.synthesis.rendered_recording import RecordingSettings, table_recording

MODELS = {
    "box": trimesh.creation.box((0.10, 0.06, 0.14)),
    "can": trimesh.creation.cylinder(radius=0.04, height=0.11, sections=48),
    "ball": trimesh.creation.icosphere(3, radius=0.04),
}
SETTINGS = RecordingSettings(frames=3, width=160, height=120, focal_px=230.0)


@pytest.fixture(scope="module")
def frames() -> list[RecordedFrame]:
    done: list[tuple[int, int]] = []
    made = list(table_recording(MODELS, SETTINGS, 0, lambda *count: done.append(count)))
    assert done == [(1, 3), (2, 3), (3, 3)]
    return made


def points_of(frame: RecordedFrame, label: int) -> np.ndarray:
    """Depth points (N, 3) of a label, metres, camera frame."""
    v, u = np.nonzero((frame.labels == label) & (frame.depth > 0))
    z, K = frame.depth[v, u] * 1e-3, frame.intrinsics
    return np.stack([(u - K[0, 2]) / K[0, 0] * z, (v - K[1, 2]) / K[1, 1] * z, z], axis=1)


def test_depth_of_a_label_lies_on_its_object(frames: list[RecordedFrame]) -> None:
    for frame in frames:
        assert frame.depth.dtype == np.uint16 and frame.rgb.shape == (120, 160, 3)
        for true in frame.truth:
            surface = trimesh.sample.sample_surface_even(MODELS[true.name], 20_000, seed=0)[0]
            surface = trimesh.transform_points(surface, true.T_camera_object)
            distance = cKDTree(surface).query(points_of(frame, true.label))[0]
            assert len(distance) > 100 and np.median(distance) < 0.003


def test_the_world_stands_still_and_the_camera_moves(frames: list[RecordedFrame]) -> None:
    worlds = [
        {true.name: frame.T_world_camera @ true.T_camera_object for true in frame.truth}
        for frame in frames
    ]
    assert set(worlds[0]) == set(MODELS)
    for name, T in worlds[0].items():
        lowest = trimesh.transform_points(MODELS[name].vertices, T)[:, 2].min()
        assert lowest == pytest.approx(0.0, abs=1e-6)  # on the table
    for name, T in (item for world in worlds[1:] for item in world.items()):
        np.testing.assert_allclose(T, worlds[0][name], atol=1e-9)
    eyes = np.array([frame.T_world_camera[:3, 3] for frame in frames])
    assert np.linalg.norm(np.diff(eyes, axis=0), axis=1).min() > 0.2
    low, high = SETTINGS.distance_m
    reach = np.linalg.norm(eyes - [0, 0, 0.06], axis=1)
    assert (reach > low - 0.03).all() and (reach < high + 0.03).all()
    stamps = [frame.stamp_ns for frame in frames]
    assert np.diff(stamps).tolist() == [250_000_000, 250_000_000]


def test_objects_do_not_touch(frames: list[RecordedFrame]) -> None:
    placed = [
        trimesh.transform_points(
            trimesh.sample.sample_surface_even(MODELS[true.name], 3000, seed=0)[0],
            true.T_camera_object,
        )
        for true in frames[0].truth
    ]
    for i, points in enumerate(placed):
        for others in placed[:i]:
            assert cKDTree(points).query(others)[0].min() > 0.005


def test_an_object_behind_another_is_less_visible() -> None:
    crowded = replace(SETTINGS, frames=8, spread_m=0.12, elevation_deg=(4.0, 8.0))
    shares = {}
    for frame in table_recording(MODELS, crowded, 1):
        for true in frame.truth:
            pixels = int((frame.labels == true.label).sum())
            shares.setdefault(true.name, []).append((true.visible_share, pixels))
            assert 0.0 < true.visible_share <= 1.0
    hidden = min((share, pixels, name) for name, seen in shares.items() for share, pixels in seen)
    most = max(pixels for share, pixels in shares[hidden[2]] if share > 0.95)
    assert hidden[0] < 0.6 and hidden[1] < 0.8 * most


def test_the_same_seed_gives_the_same_recording(frames: list[RecordedFrame]) -> None:
    again = next(table_recording(MODELS, SETTINGS, 0))
    np.testing.assert_array_equal(again.rgb, frames[0].rgb)
    np.testing.assert_array_equal(again.depth, frames[0].depth)
    np.testing.assert_array_equal(again.labels, frames[0].labels)


def test_objects_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RecordingError, match="objects do not fit"):
        table_recording(MODELS, replace(SETTINGS, spread_m=0.03), 0)
