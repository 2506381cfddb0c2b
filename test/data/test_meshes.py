"""Meshes: reading in metres, closing, signs against ray parity, samples against the surface."""

from pathlib import Path

import numpy as np
import pytest
import trimesh

from crisp_ros.data.files import DatasetError
from crisp_ros.data.mesh_colours import texture_image
from crisp_ros.data.meshes import (
    MeshError,
    load_mesh,
    mesh_files,
    signed_distance,
    surface_samples,
    watertight,
)

SCANS = Path(__file__).resolve().parents[3] / "shared/data/bop/ycbv/models"
needs_scans = pytest.mark.skipif(not SCANS.is_dir(), reason="YCB scans are not on this machine")
SCAN_IDS = range(1, 22)


def inside_by_ray_parity(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Count how often a ray in an odd direction crosses the surface: odd means inside."""
    direction = np.array([0.2672612419, 0.5345224838, 0.8017837257])
    a, b, c = np.moveaxis(np.asarray(mesh.triangles), 1, 0)
    normal = np.cross(direction, c - a)
    scale = np.einsum("fi,fi->f", b - a, normal)
    inside = np.zeros(len(points), dtype=bool)
    for i, point in enumerate(points):
        offset = point - a
        u = np.einsum("fi,fi->f", offset, normal) / scale
        across = np.cross(offset, b - a)
        v = across @ direction / scale
        along = np.einsum("fi,fi->f", c - a, across) / scale
        inside[i] = np.sum((u >= 0) & (v >= 0) & (u + v <= 1) & (along > 0)) % 2 == 1
    return inside


def scan(obj_id: int) -> trimesh.Trimesh:
    return watertight(load_mesh(SCANS / f"obj_{obj_id:06d}.ply", unit_m=1e-3))


def beaker(radius: float = 0.04, wall: float = 0.004, height: float = 0.1) -> trimesh.Trimesh:
    """An open vessel with a thick wall and floor, standing on z = 0."""
    profile = [
        [0.0, 0.0], [radius, 0.0], [radius, height],
        [radius - wall, height], [radius - wall, wall], [0.0, wall],
    ]  # fmt: skip
    return trimesh.creation.revolve(profile, sections=48)


@pytest.mark.parametrize("name", ["box.glb", "box.obj"])
def test_units_become_metres_and_the_texture_stays(tmp_path: Path, name: str) -> None:
    from PIL import Image

    box = trimesh.creation.box((100.0, 50.0, 20.0))
    uv = np.random.default_rng(0).random((len(box.vertices), 2))
    box.visual = trimesh.visual.TextureVisuals(uv=uv, image=Image.new("RGB", (4, 4), (200, 0, 0)))
    box.export(tmp_path / name)
    mesh = load_mesh(tmp_path / name, unit_m=1e-3)
    np.testing.assert_allclose(mesh.extents, (0.1, 0.05, 0.02))
    assert mesh.visual.kind == "texture" and mesh.visual.uv.shape == (len(mesh.vertices), 2)
    assert texture_image(mesh).getpixel((1, 1))[:3] == (200, 0, 0)
    assert texture_image(trimesh.creation.box()) is None


def test_several_meshes_in_one_file_become_one(tmp_path: Path) -> None:
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((1, 1, 1)))
    apart = trimesh.transformations.translation_matrix((3, 0, 0))
    scene.add_geometry(trimesh.creation.box((1, 1, 1)), transform=apart)
    scene.export(tmp_path / "two.glb")
    np.testing.assert_allclose(load_mesh(tmp_path / "two.glb").extents, (4, 1, 1))


@pytest.mark.parametrize(
    "name, content, cause",
    [
        ("mesh.txt", b"x", "expected a mesh"),
        ("absent.ply", None, "no such file"),
        ("broken.ply", b"not a ply", "not a readable mesh"),
        ("cloud.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no"),
        ("nan.obj", b"v 0 0 0\nv nan 0 0\nv 0 1 0\nf 1 2 3\n", "not finite"),
        (
            "far.ply",
            b"ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\n"
            b"property float z\nelement face 1\nproperty list uchar int vertex_indices\n"
            b"end_header\n0 0 0\n1 0 0\n0 1 0\n3 0 1 7\n",
            "names a vertex",
        ),
    ],
)
def test_bad_files_are_refused_by_name(
    tmp_path: Path, name: str, content: bytes | None, cause: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MeshError, match=cause) as refusal:
        load_mesh(tmp_path / name)
    assert name in str(refusal.value)


def test_a_unit_must_be_a_length(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "box.ply")
    with pytest.raises(MeshError, match="positive length"):
        load_mesh(tmp_path / "box.ply", unit_m=0.0)


def test_meshes_are_named_by_models_info_else_by_their_files(tmp_path: Path) -> None:
    for name in ("obj_000001.ply", "obj_000002.ply", "cup.ply"):
        trimesh.creation.box().export(tmp_path / name)
    (tmp_path / "models_info.json").write_text('{"1": {"name": "box"}, "2": {}}')
    assert {name: path.name for name, path in mesh_files(tmp_path).items()} == {
        "box": "obj_000001.ply", "obj_000002": "obj_000002.ply", "cup": "cup.ply",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, cause",
    [
        ('{"1": {"diameter"', "not readable as JSON"),
        ("[1]", "expected a JSON dict"),
        ('{"1": 3}', "model 1: name: expected a text"),
        ('{"1": {"name": 3}}', "model 1: name: expected a text"),
    ],
)
def test_a_malformed_models_info_is_named(tmp_path: Path, text: str, cause: str) -> None:
    trimesh.creation.box().export(tmp_path / "obj_000001.ply")
    (tmp_path / "models_info.json").write_text(text)
    with pytest.raises(DatasetError, match=f"models_info.json: {cause}"):
        mesh_files(tmp_path)


def test_slivers_and_flaps_are_dropped_and_seams_welded() -> None:
    vessel = beaker()
    triangles = vessel.triangles.reshape(-1, 3)  # every face with vertices of its own
    faces = np.arange(len(triangles)).reshape(-1, 3)
    flap = faces[7]
    bad = np.vstack([faces, flap, flap[::-1], [[3, 3, 4]]])
    closed = watertight(trimesh.Trimesh(triangles, bad, process=False))
    assert closed.is_watertight and len(closed.faces) == len(vessel.faces)
    assert closed.volume == pytest.approx(vessel.volume)


def test_an_inside_out_surface_is_turned() -> None:
    vessel = beaker()
    volume = vessel.volume
    vessel.invert()
    assert watertight(vessel).volume == pytest.approx(volume)


def test_faces_that_wind_against_their_neighbours_are_turned() -> None:
    vessel = beaker()
    faces = vessel.faces.copy()
    faces[::5] = faces[::5, ::-1]
    closed = watertight(trimesh.Trimesh(vessel.vertices, faces, process=False))
    assert closed.is_winding_consistent and closed.volume == pytest.approx(vessel.volume)


def test_an_open_surface_is_refused() -> None:
    box = trimesh.creation.box()
    box.update_faces(np.arange(len(box.faces)) > 1)
    with pytest.raises(MeshError, match="open"):
        watertight(box)


def test_distance_to_a_box_is_the_analytic_one() -> None:
    half = np.array([0.05, 0.03, 0.02])
    points = np.random.default_rng(0).uniform(-0.1, 0.1, (2000, 3))
    q = np.abs(points) - half
    expected = np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(axis=1), 0)
    distance = signed_distance(trimesh.creation.box(2 * half), points)
    np.testing.assert_allclose(distance, expected, atol=1e-9)
    assert signed_distance(trimesh.creation.box(), np.zeros((0, 3))).shape == (0,)


def test_a_vessel_is_hollow_and_its_sign_is_the_parity_of_rays() -> None:
    vessel = watertight(beaker())
    middle, wall = signed_distance(vessel, [[0, 0, 0.05], [0.038, 0, 0.05]])
    assert middle == pytest.approx(0.036, abs=2e-4) and wall == pytest.approx(-0.002, abs=2e-4)
    points = np.random.default_rng(1).uniform(vessel.bounds[0], vessel.bounds[1], (500, 3))
    inside = inside_by_ray_parity(vessel, points)
    assert np.array_equal(signed_distance(vessel, points) < 0, inside) and inside.any()


def test_the_sign_survives_a_hole() -> None:
    ball = trimesh.creation.icosphere(4, radius=0.05)
    ball.update_faces(ball.triangles_center[:, 2] < 0.049)
    inner, outer = signed_distance(ball, [[0, 0, 0], [0, 0, 0.06]])
    assert inner < 0 < outer


def test_surface_samples_are_uniform_with_outward_normals() -> None:
    box = trimesh.creation.box((0.1, 0.05, 0.02))
    points, normals = surface_samples(box, 40_000, np.random.default_rng(0))
    np.testing.assert_allclose(signed_distance(box, points), 0, atol=1e-12)
    assert np.all(np.einsum("ni,ni->n", points, normals) > 0)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1)
    top = points[normals[:, 2] > 0.9]
    assert len(top) / len(points) == pytest.approx(0.1 * 0.05 / box.area, abs=0.01)
    np.testing.assert_allclose(np.abs(top[:, :2]).mean(axis=0), (0.025, 0.0125), rtol=0.02)
    again = surface_samples(box, 40_000, np.random.default_rng(0))
    assert np.array_equal(again.points, points)


def test_no_area_no_samples() -> None:
    line = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 1, 2]], process=False)
    with pytest.raises(MeshError, match="no area"):
        surface_samples(line, 3, np.random.default_rng(0))


@needs_scans
@pytest.mark.parametrize("obj_id", SCAN_IDS)
def test_every_scan_closes_and_its_sign_is_the_parity_of_rays(obj_id: int) -> None:
    mesh = scan(obj_id)
    assert mesh.is_watertight and mesh.volume > 0
    rng = np.random.default_rng(obj_id)
    samples = surface_samples(mesh, 60, rng)
    near = samples.points + rng.normal(0, 0.004, samples.points.shape)
    points = np.vstack([near, rng.uniform(mesh.bounds[0], mesh.bounds[1], (20, 3))])
    distance = signed_distance(mesh, points)
    differs = (distance < 0) != inside_by_ray_parity(mesh, points)
    assert not np.any(differs & (np.abs(distance) > 1e-6))


@needs_scans
@pytest.mark.parametrize("obj_id, depth_m", [(13, 0.02), (14, 0.03)])
def test_bowl_and_mug_stay_open_inside(obj_id: int, depth_m: float) -> None:
    """Straight down the axis from the rim there is air until the floor."""
    mesh = scan(obj_id)
    top = mesh.vertices[mesh.vertices[:, 2] > mesh.bounds[1, 2] - 0.003]
    centre = (top[:, :2].min(axis=0) + top[:, :2].max(axis=0)) / 2
    heights = mesh.bounds[1, 2] - np.linspace(0, depth_m, 20)
    column = np.column_stack([np.tile(centre, (20, 1)), heights])
    assert np.all(signed_distance(mesh, column) > 0.003)
