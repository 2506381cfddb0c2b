"""Meshes that somebody brings along: units, origins, holes, and what is no object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh

from crisp_ros.data.files import MeshError
from crisp_ros.data.object_mesh import read_object_mesh


def box(folder: Path, size: tuple[float, ...] = (0.1, 0.06, 0.2), name: str = "box.ply") -> Path:
    """A box that stands on its file's origin."""
    mesh = trimesh.creation.box(size)
    mesh.apply_translation([0.0, 0.0, size[2] / 2.0])
    path = folder / name
    mesh.export(path)
    return path


@pytest.mark.parametrize("name", ["box.ply", "box.obj", "box.stl", "box.glb", "box.off"])
def test_metres_stay_and_the_box_is_centred(tmp_path: Path, name: str) -> None:
    read = read_object_mesh(box(tmp_path, name=name))
    np.testing.assert_allclose(read.mesh.bounds, [[-0.05, -0.03, -0.1], [0.05, 0.03, 0.1]])
    np.testing.assert_allclose(read.shift, [0.0, 0.0, -0.1], atol=1e-9)
    assert read.mesh.is_watertight and read.notes == ()


def test_a_huge_mesh_is_read_as_millimetres_with_a_note(tmp_path: Path) -> None:
    read = read_object_mesh(box(tmp_path, (100.0, 60.0, 200.0)))
    np.testing.assert_allclose(read.mesh.extents, [0.1, 0.06, 0.2])
    (note,) = read.notes
    assert "taken for millimetres" in note and "--units m" in note
    assert read_object_mesh(box(tmp_path, (100.0, 60.0, 200.0)), units="mm").notes == ()
    metres = read_object_mesh(box(tmp_path, (100.0, 60.0, 200.0)), units="m")
    np.testing.assert_allclose(metres.mesh.extents, [100.0, 60.0, 200.0])


def test_the_scale_counts_before_the_unit_is_guessed(tmp_path: Path) -> None:
    read = read_object_mesh(box(tmp_path, (2.0, 1.2, 4.0)), scale=0.05)
    np.testing.assert_allclose(read.mesh.extents, [0.1, 0.06, 0.2])
    assert read.notes == ()


def test_the_files_own_origin_can_be_kept(tmp_path: Path) -> None:
    read = read_object_mesh(box(tmp_path), origin="mesh")
    np.testing.assert_allclose(read.mesh.bounds[:, 2], [0.0, 0.2], atol=1e-9)
    assert (read.shift == 0).all()


def test_small_holes_are_closed_and_large_ones_are_not(tmp_path: Path) -> None:
    ball = trimesh.creation.icosphere(3, radius=0.05)
    holed = trimesh.Trimesh(ball.vertices, np.delete(ball.faces, [3, 700], axis=0))
    holed.export(tmp_path / "holed.ply")
    read = read_object_mesh(tmp_path / "holed.ply")
    assert read.mesh.is_watertight
    assert read.mesh.volume == pytest.approx(ball.volume, rel=0.01)
    half = trimesh.Trimesh(ball.vertices, ball.faces[ball.triangles_center[:, 2] < 0.0])
    half.export(tmp_path / "half.ply")
    with pytest.raises(MeshError, match="half.ply"):
        read_object_mesh(tmp_path / "half.ply")


@pytest.mark.parametrize("content", [b"", b"ply\nformat ascii 1.0\n", b"\x00" * 200])
def test_what_is_no_mesh_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.ply"
    path.write_bytes(content)
    with pytest.raises(MeshError, match="broken.ply"):
        read_object_mesh(path)


def test_flat_and_infinite_meshes_are_refused(tmp_path: Path) -> None:
    flat = trimesh.Trimesh([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]], [[0, 1, 2]])
    flat.export(tmp_path / "flat.ply")
    with pytest.raises(MeshError, match="flat.ply"):
        read_object_mesh(tmp_path / "flat.ply")
    mesh = trimesh.creation.box((0.1, 0.1, 0.1))
    mesh.vertices[0] = np.nan
    mesh.export(tmp_path / "nan.obj")
    with pytest.raises(MeshError, match="nan.obj"):
        read_object_mesh(tmp_path / "nan.obj")
