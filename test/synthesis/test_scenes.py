"""Scenes: cameras that look where they should, objects that rest and do not touch."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from crisp_ros.synthesis.scenes import (
    ScatterSettings,
    Viewpoints,
    load_observed_poses,
    look_at,
    random_lights,
    scattered_scene,
    table_layout,
    viewpoints,
)

UPRIGHT = Viewpoints(np.eye(3)[None], np.ones(1), np.eye(3)[None], np.zeros((0, 3, 3)))


def is_rotation(R: np.ndarray) -> bool:
    return bool(np.allclose(R @ R.T, np.eye(3), atol=1e-9) and np.linalg.det(R) > 0)


@pytest.mark.parametrize("roll", [0.0, 0.3])
def test_a_camera_looks_at_its_target_with_the_world_upright(roll):
    eye, target = np.array([0.8, -0.5, 0.6]), np.array([0.1, 0.0, 0.05])
    T = look_at(eye, target, roll)
    assert is_rotation(T[:3, :3])
    np.testing.assert_allclose(T[:3, :3] @ eye + T[:3, 3], 0.0, atol=1e-12)
    seen = T[:3, :3] @ target + T[:3, 3]
    np.testing.assert_allclose(seen, [0, 0, np.linalg.norm(eye - target)], atol=1e-12)
    up = T[:3, :3] @ [0, 0, 1]
    assert np.arctan2(up[0], -up[1]) == pytest.approx(roll)  # y of the camera runs downwards


def test_a_box_rests_on_its_faces():
    box = trimesh.creation.box((0.10, 0.06, 0.04))
    view = viewpoints(box)
    assert view.resting_probability.sum() == pytest.approx(1.0)
    assert len(view.observed) == 0
    for R in view.resting:
        assert is_rotation(R)
        lowest = (box.vertices @ R.T)[:, 2]
        assert np.count_nonzero(lowest < lowest.min() + 1e-9) == 4
    heights = [np.ptp(box.vertices @ R.T, axis=0)[2] for R in view.resting]
    flattest = np.isclose(heights, 0.04)
    assert view.resting_probability[flattest].sum() > view.resting_probability[~flattest].sum()


def test_observed_orientations_are_those_seen_along_the_ray():
    R = Rotation.from_euler("xyz", [20, 50, -10], degrees=True)
    qx, qy, qz, qw = R.as_quat()
    ahead = viewpoints(
        trimesh.creation.box((0.1, 0.1, 0.1)), np.array([[qw, qx, qy, qz, 0, 0, 1.0]])
    )
    np.testing.assert_allclose(ahead.observed[0], R.as_matrix(), atol=1e-12)
    # The same view of the object, the whole scene rotated about the camera.
    rotation = Rotation.from_rotvec([0.1, 0.3, 0.0])
    qx, qy, qz, qw = (rotation * R).as_quat()
    place = rotation.apply([0, 0, 1.0])
    aside = viewpoints(trimesh.creation.box((0.1, 0.1, 0.1)), np.array([[qw, qx, qy, qz, *place]]))
    np.testing.assert_allclose(aside.observed[0], R.as_matrix(), atol=1e-9)


def test_observed_poses_are_gathered_by_object(tmp_path):
    rows = np.arange(21.0).reshape(3, 7)
    np.savez(tmp_path / "poses.npz", **{"48/1": rows[:1], "50/1": rows[1:2], "50/4": rows[2:]})
    poses = load_observed_poses(tmp_path / "poses.npz")
    np.testing.assert_array_equal(poses[1], rows[:2])
    np.testing.assert_array_equal(poses[4], rows[2:])


def test_objects_stand_on_the_table_apart_from_one_another():
    meshes = [
        trimesh.creation.box((0.10, 0.06, 0.04)),
        trimesh.creation.cylinder(0.04, 0.12),
        trimesh.creation.icosphere(2, 0.05),
    ]
    views = [viewpoints(meshes[0]), UPRIGHT, UPRIGHT]
    for seed in range(5):
        rng = np.random.default_rng(seed)
        layout = table_layout(meshes, views, [2, 0, 1], 0.2, rng).T_table_object
        assert set(layout) == {0, 1, 2}
        circles = []
        for index, T in layout.items():
            assert is_rotation(T[:3, :3])
            points = trimesh.transform_points(meshes[index].vertices, T)
            assert points[:, 2].min() == pytest.approx(0.0, abs=1e-12)
            middle = (points.min(0) + points.max(0))[:2] / 2
            assert np.linalg.norm(middle) <= 0.2 + 1e-9
            circles.append((middle, np.linalg.norm(points[:, :2] - middle, axis=1).max()))
        for i, (a, reach_a) in enumerate(circles):
            for b, reach_b in circles[:i]:
                assert np.linalg.norm(a - b) > reach_a + reach_b


def test_a_table_that_is_too_small_is_refused():
    meshes = [trimesh.creation.box((0.2, 0.2, 0.2))] * 3
    with pytest.raises(ValueError, match="do not fit on a table of radius 0.1 m"):
        table_layout(meshes, [UPRIGHT] * 3, [0, 1, 2], 0.1, np.random.default_rng(0))


def test_scattered_objects_lie_in_view_at_the_asked_distance():
    meshes = [trimesh.creation.box((0.1, 0.06, 0.04 + 0.001 * i)) for i in range(10)]
    views = [viewpoints(mesh) for mesh in meshes[:2]] * 5
    settings = ScatterSettings(objects=(4, 7), distance_m=(0.5, 0.9))
    rng = np.random.default_rng(3)
    counts = set()
    for _ in range(20):
        scene = scattered_scene(views, 320, 240, settings, rng)
        counts.add(len(scene.placements))
        assert len({p.mesh for p in scene.placements}) == len(scene.placements)
        for placement in scene.placements:
            assert is_rotation(placement.T_camera_object[:3, :3])
            place = placement.T_camera_object[:3, 3]
            assert 0.5 <= np.linalg.norm(place) <= 0.9
            u, v, w = scene.camera.matrix @ place
            assert -60 < u / w < 380 and -60 < v / w < 300
    assert counts == {4, 5, 6, 7}


def test_scattered_objects_keep_to_observed_views_where_asked():
    observed = Rotation.from_euler("xyz", [70, 10, 30], degrees=True).as_matrix()
    view = Viewpoints(np.eye(3)[None], np.ones(1), np.zeros((0, 3, 3)), observed[None])
    exact = ScatterSettings(
        objects=(1, 1), observed_share=1.0, resting_share=0.0,
        roll_noise_deg=0.0, tilt_noise_deg=0.0,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for _ in range(5):
        T = scattered_scene([view], 320, 240, exact, rng).placements[0].T_camera_object
        ray = T[:3, 3] / np.linalg.norm(T[:3, 3])
        # Turning the ray onto the optical axis gives the recorded orientation back.
        to_axis, _ = Rotation.align_vectors([[0, 0, 1]], [ray])
        np.testing.assert_allclose(to_axis.as_matrix() @ T[:3, :3], observed, atol=1e-6)


def test_objects_stand_as_often_as_asked():
    """A slender block, which dropped at random would come to rest on a long side."""
    view = viewpoints(trimesh.creation.box((0.05, 0.06, 0.12)))
    assert len(view.standing) == 1 and view.standing[0][2, 2] == pytest.approx(1.0)
    lying = viewpoints(trimesh.creation.box((0.01, 0.01, 0.2)))
    assert len(lying.standing) == 0
    shares = []
    for share in (0.0, 1.0):
        asked = ScatterSettings(
            objects=(1, 1), observed_share=0.0, resting_share=1.0, standing_share=share,
            roll_noise_deg=0.0, tilt_noise_deg=0.0,
        )  # fmt: skip
        rng = np.random.default_rng(0)
        upright = []
        for _ in range(40):
            T = scattered_scene([view], 320, 240, asked, rng).placements[0].T_camera_object
            ray = T[:3, 3] / np.linalg.norm(T[:3, 3])
            to_axis, _ = Rotation.align_vectors([[0, 0, 1]], [ray])
            x, y, _ = (to_axis.as_matrix() @ T[:3, :3])[:, 2]
            upright.append(abs(x) < 1e-6 and y < -0.2)
        shares.append(np.mean(upright))
    assert shares[0] < 0.5 and shares[1] == 1.0


def test_lights_are_at_most_three_and_come_from_above():
    rng = np.random.default_rng(1)
    for _ in range(50):
        ambient, lights = random_lights(rng)
        assert 1 <= len(lights) <= 3
        assert min(ambient) >= 0 and all(min(light.colour) >= 0 for light in lights)
        assert all(light.direction[1] <= 0 and light.direction[2] <= 0 for light in lights)
