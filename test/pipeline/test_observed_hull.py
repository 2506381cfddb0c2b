"""Hulls of unknown objects: they hold what was seen and keep out of space seen to be empty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from box_scene import CAMERA, box_scene
from numpy.typing import NDArray
from table_depth import CAMERA as SMALL_CAMERA
from table_depth import LABEL, T_CAMERA_TABLE, table_images, table_plane

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.pipeline.observed_hull import (
    SeenScene,
    SupportPlane,
    grown_hull,
    observed_hull,
)

EDGES = (0.12, 0.08, 0.15)


def placed(hull) -> trimesh.Trimesh:
    """The hull in the camera frame."""
    vertices = transform(hull.T_camera_hull, hull.mesh.vertices.astype(np.float64))
    return trimesh.Trimesh(vertices, hull.mesh.faces, process=False)


def depth_inside(hull: trimesh.Trimesh, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances of points to the nearest face's plane of a convex hull, negative outside."""
    offsets = (hull.face_normals * hull.triangles[:, 0]).sum(axis=1)
    return (offsets - points @ hull.face_normals.T).min(axis=1)


def free_share(mesh: trimesh.Trimesh, scene: SeenScene, tolerance_m: float) -> float:
    """Share of points inside a mesh that the camera saw to be empty."""
    rng = np.random.default_rng(0)
    inside = rng.uniform(*mesh.bounds, (20_000, 3))
    inside = inside[depth_inside(mesh, inside) > 0]
    return float(scene.is_free(inside, tolerance_m).mean())


@pytest.fixture(scope="module")
def box() -> tuple[SeenScene, SupportPlane]:
    made = box_scene([((0.03, 0.0), EDGES), ((-0.25, 0.1), (0.1, 0.1, 0.1))])
    plane = SupportPlane(made.plane[:3], float(made.plane[3]))
    return SeenScene(made.depth, made.labels, CAMERA), plane


def visible_points(scene: SeenScene, label: int) -> NDArray[np.float64]:
    v, u = np.nonzero(scene.labels == label)
    return scene.camera.back_project(u, v, scene.depth[v, u]).astype(np.float64)


def test_a_box_is_held_and_closed_to_its_table(box: tuple[SeenScene, SupportPlane]) -> None:
    scene, plane = box
    hull = placed(observed_hull(scene, 1, plane))
    seen = visible_points(scene, 1)
    depth = depth_inside(hull, seen)
    assert depth.min() > -0.004 and np.quantile(depth, 0.02) > -0.002
    heights = plane.heights(hull.vertices)
    assert abs(heights.min()) < 0.004 and heights.max() == pytest.approx(EDGES[2], abs=0.004)
    # The box itself, its hidden sides as well, but for a border of a pixel or two.
    volume = np.prod(EDGES)
    assert hull.volume > 0.95 * volume
    assert hull.volume < 2.5 * volume  # and what it hides behind it, no deeper than it is wide


def test_it_keeps_out_of_free_space(box: tuple[SeenScene, SupportPlane]) -> None:
    scene, plane = box
    assert free_share(placed(observed_hull(scene, 1, plane)), scene, 0.005) < 0.01


def test_columns_end_where_space_is_seen_to_be_empty() -> None:
    """A ball above a table, which is seen under it: without a stop, the hull would reach it."""
    radius, height = 0.05, 0.2
    T_table_object = torch.eye(4, dtype=torch.double)
    T_table_object[2, 3] = height
    T_object_camera = invert(T_CAMERA_TABLE @ T_table_object)
    depth, labels = table_images(lambda x: x.norm(dim=-1) - radius, T_object_camera)
    normal, offset = table_plane()
    scene = SeenScene(depth.numpy(), labels.numpy(), SMALL_CAMERA)
    hull = placed(observed_hull(scene, LABEL, SupportPlane(normal.numpy(), float(offset))))
    lowest = (hull.vertices @ normal.numpy() + float(offset)).min()
    # What the ball hides is a cone that falls with the rays, as deep as the ball is wide.
    assert height - radius - 0.1 < lowest < height
    assert lowest > 0.04
    assert free_share(hull, scene, 0.01) < 0.02


def test_without_a_support_it_is_as_deep_as_wide(box: tuple[SeenScene, SupportPlane]) -> None:
    scene, plane = box
    seen = visible_points(scene, 1)
    distance = np.linalg.norm(seen, axis=1)
    hull = placed(observed_hull(scene, 1, SupportPlane(plane.normal, None)))
    reach = np.linalg.norm(hull.vertices, axis=1).max() - np.quantile(distance, 0.02)
    assert 0.1 < reach < 0.24
    assert free_share(hull, scene, 0.005) < 0.01


def test_its_frame_is_central_upright_and_along_it(box: tuple[SeenScene, SupportPlane]) -> None:
    scene, plane = box
    hull = observed_hull(scene, 1, plane)
    T, vertices = hull.T_camera_hull, hull.mesh.vertices
    assert np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(T[:3, :3]) == pytest.approx(1.0)
    assert np.allclose(T[:3, 2], plane.normal, atol=1e-9)
    assert np.allclose(vertices.min(0), -vertices.max(0), atol=1e-6)
    extents = np.ptp(vertices, axis=0)
    assert extents[0] >= extents[1] - 1e-6


def test_points_in_the_air_do_not_stretch_it(box: tuple[SeenScene, SupportPlane]) -> None:
    scene, plane = box
    v, u = np.nonzero(scene.labels == 1)
    rng = np.random.default_rng(1)
    wrong = rng.choice(len(v), len(v) // 100, replace=False)
    depth = scene.depth.copy()
    depth[v[wrong], u[wrong]] += rng.uniform(0.15, 0.4, len(wrong)).astype(np.float32)
    noisy = observed_hull(SeenScene(depth, scene.labels, CAMERA), 1, plane)
    clean = observed_hull(scene, 1, plane)
    assert np.allclose(
        np.ptp(noisy.mesh.vertices, axis=0), np.ptp(clean.mesh.vertices, axis=0), atol=0.01
    )


def test_a_few_points_have_none(box: tuple[SeenScene, SupportPlane]) -> None:
    scene, plane = box
    labels = np.zeros_like(scene.labels)
    v, u = np.nonzero(scene.labels == 1)
    labels[v[:20], u[:20]] = 1
    few = SeenScene(scene.depth, labels, CAMERA)
    assert observed_hull(few, 1, plane) is None and observed_hull(few, 2, plane) is None


def test_a_grown_hull_has_a_margin_all_around() -> None:
    cube = trimesh.creation.box((0.1, 0.2, 0.3))
    mesh = TriangleMesh(cube.vertices.astype(np.float32), cube.faces.astype(np.int32))
    grown = grown_hull(mesh, 0.01)
    larger = trimesh.Trimesh(grown.vertices, grown.faces)
    assert larger.is_watertight
    assert depth_inside(larger, np.asarray(cube.vertices)).min() > 0.005
    assert np.allclose(larger.extents, cube.extents + 0.02, atol=1e-3)
    assert grown_hull(mesh, 0.0) is mesh
