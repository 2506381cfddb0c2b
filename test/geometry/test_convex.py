"""Convex hulls and decompositions of closed meshes."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import trimesh

from crisp_ros.geometry.convex import can_decompose, convex_hull, convex_parts
from crisp_ros.geometry.isosurface import TriangleMesh


def mesh_of(solid: trimesh.Trimesh) -> TriangleMesh:
    return TriangleMesh(solid.vertices.astype(np.float32), solid.faces.astype(np.int32))


def solid_of(mesh: TriangleMesh) -> trimesh.Trimesh:
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def test_the_hull_is_closed_outward_and_around_everything() -> None:
    torus = trimesh.creation.torus(0.05, 0.02, 24, 16)
    hull = solid_of(convex_hull(mesh_of(torus)))
    assert hull.is_watertight and hull.is_winding_consistent and hull.is_convex
    assert hull.volume > 1.3 * torus.volume > 0
    np.testing.assert_allclose(hull.bounds, torus.bounds, atol=1e-6)


def test_what_has_no_volume_has_no_hull() -> None:
    empty = TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert convex_hull(empty).is_empty
    flat = TriangleMesh(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32))
    assert convex_hull(flat).is_empty


@pytest.mark.skipif(not can_decompose(), reason="needs CoACD")
def test_parts_follow_a_hollow_closer_than_the_hull() -> None:
    bracket = _bracket()
    parts = [solid_of(part) for part in convex_parts(mesh_of(bracket))]
    assert 2 <= len(parts) <= 16
    assert all(part.is_watertight and part.is_convex and part.volume > 0 for part in parts)
    volume, hull = sum(part.volume for part in parts), bracket.convex_hull.volume
    assert bracket.volume < 1.02 * volume and volume < 0.7 * hull


def _bracket() -> trimesh.Trimesh:
    """An L of two plates."""
    outline = np.array([(0, 0), (0.12, 0), (0.12, 0.02), (0.02, 0.02), (0.02, 0.12), (0, 0.12)])
    low, high = np.insert(outline, 2, 0.0, axis=1), np.insert(outline, 2, 0.04, axis=1)
    cap = np.array([(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 5)])
    sides = [(i, (i + 1) % 6, 6 + i) for i in range(6)]
    sides += [((i + 1) % 6, 6 + (i + 1) % 6, 6 + i) for i in range(6)]
    faces = np.vstack((cap[:, ::-1], cap + 6, sides))
    return trimesh.Trimesh(np.vstack((low, high)), faces, process=False)


def test_without_coacd_it_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "coacd", None)
    with pytest.raises(ImportError, match="pip install coacd"):
        convex_parts(mesh_of(trimesh.creation.box((0.1, 0.1, 0.1))))
