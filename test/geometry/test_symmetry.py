import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from crisp_ros.data.meshes import distance_to
from crisp_ros.geometry.symmetry import rotational_symmetries


def found(mesh: trimesh.Trimesh) -> np.ndarray:
    points = trimesh.sample.sample_surface_even(mesh, 8000, seed=0)[0]
    return rotational_symmetries(points, distance_to(mesh), 0.0015)


@pytest.mark.parametrize(
    ("mesh", "order"),
    [
        (trimesh.creation.box((0.05, 0.08, 0.11)), 4),
        (trimesh.creation.box((0.08, 0.08, 0.11)), 8),
        (trimesh.creation.cylinder(0.03, 0.1), 72),
        (trimesh.creation.cone(0.04, 0.1), 36),
    ],
)
def test_groups_of_known_shapes(mesh, order):
    assert len(found(mesh)) == order


def test_every_symmetry_maps_an_off_centre_surface_onto_itself():
    box = trimesh.creation.box((0.05, 0.08, 0.11))
    box.apply_translation([0.02, -0.01, 0.03])
    group = found(box)
    assert np.allclose(group[0], np.eye(4))
    for T in group:
        moved = trimesh.transform_points(box.vertices, T)
        assert np.allclose(np.sort(moved, 0), np.sort(box.vertices, 0), atol=5e-4)


def test_axes_need_not_be_those_of_the_frame():
    box = trimesh.creation.box((0.05, 0.08, 0.12))
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec([0.3, -0.5, 0.4]).as_matrix()
    box.apply_transform(T)
    assert len(found(box)) == 4


def test_a_shape_without_symmetry_has_the_identity_alone():
    block = trimesh.creation.box((0.05, 0.08, 0.11))
    knob = trimesh.creation.box((0.03, 0.03, 0.03))
    knob.apply_translation([0.035, 0.05, 0.06])
    assert len(found(trimesh.util.concatenate([block, knob]))) == 1


def test_a_ball_gets_a_finite_group_that_contains_its_products():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.04)
    ball.apply_translation((0.1, 0.0, -0.02))
    points = trimesh.sample.sample_surface(ball, 4000, seed=0)[0]
    group = rotational_symmetries(points, distance_to(ball), 0.0015)
    assert len(group) == 60 and np.allclose(group[0], np.eye(4))
    products = (group[:, None] @ group).reshape(-1, 1, 4, 4)
    assert np.abs(products - group).max(axis=(2, 3)).min(axis=1).max() < 1e-6
    moved = trimesh.transform_points(points, group[17])
    assert abs(np.linalg.norm(moved - (0.1, 0.0, -0.02), axis=1) - 0.04).max() < 2e-3
