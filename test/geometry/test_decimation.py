import sys

import numpy as np
import pytest
import torch
from analytic import cup, mug, sphere

from crisp_ros.geometry import decimation
from crisp_ros.geometry.decimation import decimated, is_closed
from crisp_ros.geometry.isosurface import TriangleMesh, extract_meshes


def mesh_of(shape):
    lower, upper = torch.tensor([shape.lower]), torch.tensor([shape.upper])
    return extract_meshes(lambda p, _: shape.sdf(p), lower, upper)[0]


@pytest.mark.parametrize("shape", [sphere(0.05), mug(0.04, 0.045, 0.008, 0.03)])
def test_decimated_mesh_keeps_shape_and_closure(shape):
    pytest.importorskip("fast_simplification")
    full = mesh_of(shape)
    small = decimated(full, 3000)
    assert len(small.faces) <= 3000 < len(full.faces)
    assert is_closed(small.faces)
    assert small.vertices.dtype == np.float32 and small.faces.dtype == np.int32
    middle = torch.tensor(small.vertices[small.faces].mean(1))
    assert shape.sdf(middle).abs().max() < 1e-3
    a, b, c = small.vertices[small.faces].astype(float).transpose(1, 0, 2)
    assert (a * np.cross(b, c)).sum() > 0


def test_a_mesh_within_the_budget_is_returned_as_it_is():
    mesh = mesh_of(sphere(0.05))
    assert decimated(mesh, len(mesh.faces)) is mesh


def test_a_budget_below_a_tetrahedron_is_refused():
    with pytest.raises(ValueError, match="at least 4"):
        decimated(mesh_of(sphere(0.05)), 3)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(ImportError, match="pip install fast-simplification"):
        decimated(mesh_of(sphere(0.05)), 100)


class Tearing:
    """fast-simplification where it opens the surface."""

    @staticmethod
    def simplify(vertices, faces, target_count, agg):
        return vertices, faces[:-1][:target_count]


def test_open3d_decimates_where_the_fast_library_fails(monkeypatch):
    shape = mug(0.04, 0.045, 0.003, 0.03)
    full = mesh_of(shape)
    monkeypatch.setitem(sys.modules, "fast_simplification", Tearing)
    small = decimated(full, 3000)
    assert len(small.faces) <= 3000 < len(full.faces) and is_closed(small.faces)
    assert small.vertices.dtype == np.float32 and small.faces.dtype == np.int32
    assert shape.sdf(torch.tensor(small.vertices[small.faces].mean(1))).abs().max() < 1.5e-3
    a, b, c = small.vertices[small.faces].astype(float).transpose(1, 0, 2)
    assert (a * np.cross(b, c)).sum() > 0


def test_thin_wall_keeps_the_budget():
    """fast-simplification stops at 1,524 faces of this cup."""
    full = mesh_of(cup(0.08, 0.03, 0.003))
    small = decimated(full, 1000)
    assert len(small.faces) <= 1000 and is_closed(small.faces)


def test_a_budget_that_would_open_the_surface_is_raised(monkeypatch):
    mesh = mesh_of(sphere(0.05))
    monkeypatch.setitem(sys.modules, "fast_simplification", Tearing)
    opened = TriangleMesh(mesh.vertices, mesh.faces[:50])
    for name in ("_volume_keeping_collapses", "_manifold_collapses"):
        monkeypatch.setattr(decimation, name, lambda mesh, max_faces: opened)
    assert decimated(mesh, 1000) is mesh


@pytest.mark.parametrize(
    "faces, closed",
    [
        ([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], True),
        ([[0, 2, 1], [0, 1, 3], [1, 2, 3]], False),
        ([[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 2, 3]], False),
        (np.zeros((0, 3)), False),
    ],
)
def test_is_closed(faces, closed):
    assert is_closed(np.array(faces, dtype=np.int32)) is closed


def test_an_empty_mesh_stays_empty():
    empty = TriangleMesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    assert decimated(empty, 10).is_empty
