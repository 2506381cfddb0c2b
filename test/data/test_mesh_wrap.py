import numpy as np
import pytest
import trimesh

from crisp_ros.data.mesh_wrap import wrapped
from crisp_ros.data.meshes import MeshError, signed_distance

CELLS = 48


def box() -> trimesh.Trimesh:
    return trimesh.creation.box((0.10, 0.06, 0.04)).subdivide().subdivide().subdivide()


def error(mesh: trimesh.Trimesh, truth: trimesh.Trimesh) -> float:
    """Largest distance of the mesh's vertices to the true surface, in cells."""
    return np.abs(signed_distance(truth, mesh.vertices)).max() * CELLS / 0.10


def test_faces_turned_inwards_and_seams_do_not_matter():
    broken = box()
    broken.faces[::3] = broken.faces[::3][:, ::-1]
    broken = trimesh.Trimesh(broken.triangles.reshape(-1, 3), process=False, faces=np.arange(
        3 * len(broken.faces)).reshape(-1, 3))  # fmt: skip
    closed = wrapped(broken, CELLS)
    assert closed.is_watertight and closed.volume == pytest.approx(0.10 * 0.06 * 0.04, rel=0.05)
    assert error(closed, box()) < 0.8


def test_a_large_hole_closes_where_faces_agree_on_their_sides():
    broken = box()
    broken.update_faces(np.linalg.norm(broken.triangles_center - (0.05, 0, 0), axis=1) > 0.012)
    assert not broken.is_watertight
    closed = wrapped(broken, CELLS)
    assert closed.is_watertight and closed.volume == pytest.approx(0.10 * 0.06 * 0.04, rel=0.1)


def test_a_single_wall_gets_a_thickness():
    wall = trimesh.Trimesh([[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]], [[0, 1, 2, 3]])
    closed = wrapped(wall, CELLS)
    assert closed.is_watertight and 0.0 < closed.extents[2] < 2.5 * 0.1 / CELLS
    assert closed.extents[0] == pytest.approx(0.1, abs=0.1 / CELLS)


def test_a_point_has_no_surface():
    with pytest.raises(MeshError, match="no extent"):
        wrapped(trimesh.Trimesh(np.zeros((3, 3)), [[0, 1, 2]], process=False))
