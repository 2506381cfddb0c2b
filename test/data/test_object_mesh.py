"""Meshes that somebody brings along: units, origins, holes, and what is no object."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trimesh

from crisp_ros.data import object_mesh
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


@pytest.fixture
def coarse_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wraps with cells of a thirtieth of the size, in a tenth of the time."""
    coarse = partial(object_mesh.wrap_surface, cells=32)
    monkeypatch.setattr(object_mesh, "wrap_surface", coarse)


def block() -> trimesh.Trimesh:
    return trimesh.creation.box((0.10, 0.06, 0.14)).subdivide().subdivide()


def open_bottom() -> trimesh.Trimesh:
    mesh = block()
    mesh.update_faces(mesh.triangles_center[:, 2] > -0.0699)
    return mesh


def flipped_and_open() -> trimesh.Trimesh:
    """Half of the faces of each side face inwards."""
    mesh = open_bottom()
    mesh.faces[::2] = mesh.faces[::2, ::-1]
    return trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)


def inside_out_and_open() -> trimesh.Trimesh:
    mesh = open_bottom()
    return trimesh.Trimesh(mesh.vertices, mesh.faces[:, ::-1], process=False)


def double_walls(reverse_inner: bool = False) -> trimesh.Trimesh:
    """A box without a lid, whose walls are there twice, and by default face the same way."""
    inner = trimesh.creation.box((0.092, 0.052, 0.132)).subdivide()
    inner.update_faces(inner.triangles_center[:, 2] < 0.065)
    outer = block()
    outer.update_faces(outer.triangles_center[:, 2] < 0.0699)
    if reverse_inner:
        inner.invert()
    return trimesh.util.concatenate([outer, inner])


def inner_wall() -> trimesh.Trimesh:
    """A wall across the inside: edges with three faces and more."""
    wall = trimesh.Trimesh(
        [[-0.05, -0.03, 0], [0.05, -0.03, 0], [0.05, 0.03, 0], [-0.05, 0.03, 0]],
        [[0, 1, 2], [0, 2, 3]],
        process=False,
    )
    return trimesh.util.concatenate([block(), wall])


def gappy_triangles() -> trimesh.Trimesh:
    """Every face a part of its own, with gaps between all of them."""
    corners = block().triangles
    middle = corners.mean(axis=1, keepdims=True)
    corners = (0.9 * (corners - middle) + middle).reshape(-1, 3)
    return trimesh.Trimesh(corners, np.arange(len(corners)).reshape(-1, 3), process=False)


def open_with_a_speck() -> trimesh.Trimesh:
    return trimesh.util.concatenate([open_bottom(), trimesh.creation.icosphere(1, radius=0.001)])


@pytest.mark.parametrize(
    "broken",
    [
        open_bottom,
        flipped_and_open,
        inside_out_and_open,
        double_walls,
        inner_wall,
        gappy_triangles,
        open_with_a_speck,
    ],
)
def test_open_and_broken_meshes_become_solids(tmp_path: Path, broken, coarse_wrap: None) -> None:
    """Of the mesh's size and volume, with a note that says what was done."""
    broken().export(tmp_path / "broken.ply")
    read = read_object_mesh(tmp_path / "broken.ply", "m", wrap=True)
    assert read.mesh.is_watertight and len(np.unique(read.mesh.faces)) == len(read.mesh.vertices)
    np.testing.assert_allclose(read.mesh.extents, (0.10, 0.06, 0.14), atol=0.006)
    assert read.mesh.volume == pytest.approx(0.10 * 0.06 * 0.14, rel=0.2)
    assert "a closed surface was wrapped around it, which fills" in read.notes[-1]


def test_hollow_walls_say_how_little_they_fill(tmp_path: Path, coarse_wrap: None) -> None:
    double_walls(reverse_inner=True).export(tmp_path / "hollow.ply")
    (note,) = read_object_mesh(tmp_path / "hollow.ply", "m", wrap=True).notes
    assert 15 <= int(note.partition("fills ")[2].partition(" %")[0]) <= 50


@pytest.mark.parametrize(
    "scale, message", [(1e-4, "it is 1.82e-05 m across"), (1e5, "it is 1.82e\\+04 m across")]
)
def test_sizes_that_no_object_has_are_refused(tmp_path: Path, scale: float, message: str) -> None:
    mesh = block()
    mesh.apply_scale(scale)
    mesh.export(tmp_path / "size.ply")
    with pytest.raises(MeshError, match=f"size.ply: {message}.*state its unit"):
        read_object_mesh(tmp_path / "size.ply", "m", wrap=True)


def test_a_vertex_far_away_is_named(tmp_path: Path) -> None:
    mesh = block()
    mesh.vertices[5] = (1e30, 0.0, 0.0)
    mesh.export(tmp_path / "far.ply")
    with pytest.raises(MeshError, match="far.ply: it is 1e.30 m across.*far away"):
        read_object_mesh(tmp_path / "far.ply", "m", wrap=True)


def test_a_repair_that_loses_most_of_a_mesh_is_refused(tmp_path: Path, monkeypatch) -> None:
    speck = trimesh.creation.icosphere(1, radius=0.001)
    monkeypatch.setattr(object_mesh, "closed_surface", lambda mesh, wrap: (speck, []))
    open_bottom().export(tmp_path / "book.ply")
    with pytest.raises(MeshError, match="book.ply: what could be closed of it is 2 x 2 x 2 mm"):
        read_object_mesh(tmp_path / "book.ply", "m", wrap=True)
