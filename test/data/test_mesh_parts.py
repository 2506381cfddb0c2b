"""Parts of meshes: scraps left out, units by the surface, each part oriented by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from crisp_ros.data.mesh_colours import coloured_samples
from crisp_ros.data.meshes import close_seams, load_mesh, signed_distance
from crisp_ros.data.object_mesh import ObjectMesh, read_object_mesh

SIZE = (0.1, 0.06, 0.04)
BOX = trimesh.creation.box(SIZE).subdivide().subdivide().subdivide()
OUTER = trimesh.creation.icosphere(3, radius=0.05)
INNER = trimesh.creation.icosphere(3, radius=0.03)


def at(mesh: trimesh.Trimesh, *place: float) -> trimesh.Trimesh:
    moved = mesh.copy()
    moved.apply_translation(place)
    return moved


def inverted(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    reversed_mesh = mesh.copy()
    reversed_mesh.invert()
    return reversed_mesh


def triangles(count: int, spread: float, size: float) -> list[trimesh.Trimesh]:
    rng = np.random.default_rng(0)
    return [
        trimesh.Trimesh(
            rng.normal(0, size, (3, 3)) + spread * (0.5 + rng.random(3)), [[0, 1, 2]], process=False
        )
        for _ in range(count)
    ]


def read(folder: Path, *parts: trimesh.Trimesh, **options: object) -> ObjectMesh:
    trimesh.util.concatenate(list(parts)).export(folder / "mesh.ply")
    return read_object_mesh(folder / "mesh.ply", **options)


@pytest.mark.parametrize("far", [9.0, 1e4, np.nan])
def test_a_vertex_without_a_face_changes_nothing(tmp_path: Path, far: float) -> None:
    stray = trimesh.Trimesh([*BOX.vertices, [far, far, far]], BOX.faces, process=False)
    result = read(tmp_path, stray)
    np.testing.assert_allclose(result.mesh.extents, SIZE, atol=1e-7)
    assert result.notes == ()
    np.testing.assert_allclose(load_mesh(tmp_path / "mesh.ply").extents, SIZE, atol=1e-7)


def test_a_face_that_is_a_line_changes_nothing(tmp_path: Path) -> None:
    faces = [*BOX.faces, [0, len(BOX.vertices), len(BOX.vertices)]]
    line = trimesh.Trimesh([*BOX.vertices, [9.0, 9.0, 9.0]], faces, process=False)
    result = read(tmp_path, line)
    np.testing.assert_allclose(result.mesh.extents, SIZE, atol=1e-7)


def test_a_textured_mesh_loses_its_scraps_and_keeps_its_texture(tmp_path: Path) -> None:
    mesh = trimesh.util.concatenate([BOX, *triangles(3, 0.3, 0.001)])
    red = Image.new("RGB", (8, 8), (200, 0, 0))
    uv = np.random.default_rng(0).random((len(mesh.vertices), 2))
    mesh.visual = trimesh.visual.TextureVisuals(uv=uv, image=red)
    mesh.export(tmp_path / "mesh.obj")
    result = read_object_mesh(tmp_path / "mesh.obj")
    assert "3 loose pieces" in result.notes[0]
    assert len(result.look.visual.uv) == len(result.look.vertices)
    assert (coloured_samples(result.look, 100, 0)[1] * 255 == (200, 0, 0)).all()


@pytest.mark.parametrize(
    "dust",
    [
        triangles(1, 0.3, 0.001),
        triangles(40, 0.2, 0.001),
        triangles(1, 0.3, 0.03),  # larger than dust, but far away
        [at(trimesh.creation.icosphere(1, radius=0.002), 0.3, 0.1, 0.0)],  # closed
        triangles(3, 40.0, 0.002),
    ],
)
def test_loose_scraps_are_left_out_and_reported(tmp_path: Path, dust: list) -> None:
    result = read(tmp_path, BOX, *dust)
    np.testing.assert_allclose(result.mesh.bounds, [-np.array(SIZE) / 2, np.array(SIZE) / 2])
    np.testing.assert_allclose(result.shift, 0.0, atol=1e-7)
    np.testing.assert_allclose(result.look.extents, SIZE, atol=1e-7)
    (note,) = result.notes
    assert f"{len(dust)} loose piece" in note and "small hole" not in note
    assert result.mesh.is_watertight


def test_scraps_do_not_decide_the_unit(tmp_path: Path) -> None:
    millimetres = BOX.copy()
    millimetres.apply_scale(1000.0)
    result = read(tmp_path, millimetres, *triangles(3, 200.0, 0.5))
    np.testing.assert_allclose(result.mesh.extents, SIZE, atol=1e-6)
    assert any("millimetres" in note for note in result.notes)


def test_small_open_pieces_at_the_surface_do_not_open_it(tmp_path: Path) -> None:
    result = read(tmp_path, BOX, *(at(t, 0.0, 0.0, 0.0203) for t in triangles(5, 0.0, 0.0002)))
    assert result.mesh.is_watertight and len(result.mesh.faces) == len(BOX.faces)
    assert any("5 small open pieces" in note for note in result.notes)


def test_large_parts_stay_and_are_reported(tmp_path: Path) -> None:
    result = read(tmp_path, BOX, at(trimesh.creation.box((0.04, 0.04, 0.04)), 0.2, 0.0, 0.0))
    assert result.mesh.extents[0] == pytest.approx(0.27, abs=1e-6)
    (note,) = result.notes
    assert "1 separate part" in note and "130 mm" in note


def test_small_parts_of_an_object_stay(tmp_path: Path) -> None:
    """Buttons on a case: tiny and not connected, but next to it."""
    buttons = [at(trimesh.creation.box((0.002,) * 3), x, 0.0, 0.0211) for x in (-0.02, 0.02)]
    result = read(tmp_path, BOX, *buttons)
    assert result.notes == () and len(result.mesh.faces) == len(BOX.faces) + 24


def test_a_part_that_is_inside_out_faces_outwards(tmp_path: Path) -> None:
    neighbour = at(BOX, 0.1001, 0.0, 0.0)
    result = read(tmp_path, BOX, inverted(neighbour), at(BOX, 0.2002, 0.0, 0.0))
    assert result.mesh.volume == pytest.approx(3 * BOX.volume)
    middles = np.array([[0.0, 0, 0], [0.1001, 0, 0], [0.2002, 0, 0]]) + result.shift
    assert (signed_distance(result.mesh, middles) < 0).all()
    assert result.notes == ("1 of 3 closed parts inside out: now outwards",)


@pytest.mark.parametrize(
    "outer, inner, reversed_parts",
    [
        (OUTER, inverted(INNER), 0),
        (inverted(OUTER), INNER, 2),
        (inverted(OUTER), inverted(INNER), 1),
    ],
)
def test_a_cavity_stays_one(
    tmp_path: Path, outer: trimesh.Trimesh, inner: trimesh.Trimesh, reversed_parts: int
) -> None:
    result = read(tmp_path, outer, inner)
    assert signed_distance(result.mesh, [[0, 0, 0]])[0] > 0.02
    assert signed_distance(result.mesh, [[0.04, 0, 0]])[0] < -0.005
    assert result.mesh.volume == pytest.approx(OUTER.volume - INNER.volume)
    assert "1 cavity inside it kept" in result.notes
    note = f"{reversed_parts} of 2 closed parts inside out: now outwards"
    assert (note in result.notes) == (reversed_parts > 0)


def test_a_solid_in_a_cavity_and_a_solid_in_a_solid(tmp_path: Path) -> None:
    core = trimesh.creation.icosphere(3, radius=0.01)
    hollow = read(tmp_path, OUTER, inverted(INNER), inverted(core))
    assert signed_distance(hollow.mesh, [[0, 0, 0]])[0] > 0  # inwards in the file: a cavity in it
    filled = read(tmp_path, OUTER, inverted(INNER), core)
    assert signed_distance(filled.mesh, [[0, 0, 0]])[0] < 0
    solid = read(tmp_path, OUTER, INNER)
    assert signed_distance(solid.mesh, [[0, 0, 0]])[0] < 0
    assert any("counted as solid" in note for note in solid.notes)


def test_bodies_that_touch_along_an_edge_are_closed() -> None:
    """After welding four faces share that edge."""
    box = trimesh.creation.box(SIZE)
    touching = trimesh.util.concatenate([box, at(box, 0.1, 0.06, 0.0)])
    closed, orientation = close_seams(touching)
    assert closed.volume == pytest.approx(2 * box.volume) and orientation.parts == 1
