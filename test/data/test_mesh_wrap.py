"""Wrapping of open meshes: closed, of the mesh's size, or refused."""

import numpy as np
import pytest
import trimesh

from crisp_ros.data.mesh_wrap import wrap_surface
from crisp_ros.data.meshes import MeshError, signed_distance

CELLS = 48


def box() -> trimesh.Trimesh:
    return trimesh.creation.box((0.10, 0.06, 0.04)).subdivide().subdivide().subdivide()


def error(mesh: trimesh.Trimesh, truth: trimesh.Trimesh) -> float:
    """Largest distance of the mesh's vertices to the true surface, in cells."""
    return np.abs(signed_distance(truth, mesh.vertices)).max() * CELLS / 0.10


def test_faces_that_point_inwards_and_seams_do_not_matter():
    broken = box()
    broken.faces[::3] = broken.faces[::3][:, ::-1]
    broken = trimesh.Trimesh(broken.triangles.reshape(-1, 3), process=False, faces=np.arange(
        3 * len(broken.faces)).reshape(-1, 3))  # fmt: skip
    closed = wrap_surface(broken, CELLS)
    assert closed.is_watertight and closed.volume == pytest.approx(0.10 * 0.06 * 0.04, rel=0.05)
    assert error(closed, box()) < 0.8


def test_a_large_hole_closes_where_faces_agree_on_their_sides():
    broken = box()
    broken.update_faces(np.linalg.norm(broken.triangles_center - (0.05, 0, 0), axis=1) > 0.012)
    assert not broken.is_watertight
    closed = wrap_surface(broken, CELLS)
    assert closed.is_watertight and closed.volume == pytest.approx(0.10 * 0.06 * 0.04, rel=0.1)


def test_a_single_wall_gets_a_thickness():
    wall = trimesh.Trimesh([[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]], [[0, 1, 2, 3]])
    closed = wrap_surface(wall, CELLS)
    assert closed.is_watertight and 0.0 < closed.extents[2] < 2.5 * 0.1 / CELLS
    assert closed.extents[0] == pytest.approx(0.1, abs=0.1 / CELLS)


def test_a_point_has_no_surface():
    with pytest.raises(MeshError, match="no extent"):
        wrap_surface(trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False))


def quad(height: float = 0.0) -> trimesh.Trimesh:
    corners = [[0, 0, height], [0.2, 0, height], [0.2, 0.15, height], [0, 0.15, height]]
    return trimesh.Trimesh(corners, [[0, 1, 2], [0, 2, 3]], process=False)


def book() -> trimesh.Trimesh:
    """Two covers, each there twice, and a spine: faces wind around a page by more than half."""
    spine = trimesh.Trimesh([[0, 0, 0], [0, 0.15, 0], [0, 0.15, 0.02], [0, 0, 0.02]],
                            [[0, 1, 2], [0, 2, 3]], process=False)  # fmt: skip
    return trimesh.util.concatenate([quad(), quad(), quad(0.02), quad(0.02), spine])


def bottle() -> trimesh.Trimesh:
    """A single wall, open at its neck, with every other face the wrong way round."""
    profile = [[0, 0], [0.03, 0], [0.03, 0.12], [0.012, 0.15], [0.012, 0.18]]
    wall = trimesh.creation.revolve(profile, sections=48)
    wall.faces[::2] = wall.faces[::2, ::-1]
    return trimesh.Trimesh(wall.vertices, wall.faces, process=False)


def two_open_boxes() -> trimesh.Trimesh:
    lidless = trimesh.creation.box((0.1, 0.06, 0.04))
    lidless.update_faces(np.arange(len(lidless.faces)) > 1)
    above = lidless.copy()
    above.apply_translation((0, 0, 0.1))
    return trimesh.util.concatenate([lidless, above])


@pytest.mark.parametrize(
    "mesh",
    [trimesh.util.concatenate([quad()] * 4), book(), bottle(), two_open_boxes()],
    ids=["quads", "book", "bottle", "two boxes"],
)
def test_open_meshes_become_closed_bodies_of_their_size(mesh: trimesh.Trimesh) -> None:
    closed = wrap_surface(mesh, CELLS)
    assert closed.is_watertight and closed.volume > 0
    cell = mesh.extents.max() / CELLS
    np.testing.assert_allclose(closed.bounds, mesh.bounds, atol=1.5 * cell)
