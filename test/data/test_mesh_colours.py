"""Colours of meshes: every kind of material in one form, and what is missing is reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from crisp_ros.data.mesh_colours import coloured_samples, has_colours, texture_image
from crisp_ros.data.meshes import load_mesh
from crisp_ros.data.object_mesh import read_object_mesh
from crisp_ros.synthesis.renderer import albedo
from crisp_ros.training.objects import symmetries_of_look

BOX = trimesh.creation.box((0.1, 0.06, 0.04))
UV = np.random.default_rng(0).random((8, 2)) * 0.4
RED, GREEN, BLUE = (200, 0, 0), (0, 180, 0), (0, 0, 200)


def halves() -> Image.Image:
    """Red on the left, blue on the right."""
    left, right = np.full((16, 8, 3), RED, np.uint8), np.full((16, 8, 3), BLUE, np.uint8)
    return Image.fromarray(np.concatenate([left, right], axis=1))


def painted(visual: object, up: float = 0.0) -> trimesh.Trimesh:
    box = BOX.copy()
    box.visual = visual
    box.apply_translation([0, 0, up])
    return box


def textured(material: object, uv: np.ndarray = UV) -> TextureVisuals:
    return TextureVisuals(uv=uv.copy(), material=material)


def shares(mesh: trimesh.Trimesh) -> dict[tuple[int, ...], float]:
    """Return the share of the surface of each colour."""
    _, colours = coloured_samples(mesh, 4000, 0)
    found, counts = np.unique(np.rint(255 * colours).astype(int), axis=0, return_counts=True)
    return {tuple(c.tolist()): n / 4000 for c, n in zip(found, counts, strict=True)}


@pytest.mark.parametrize(
    "visual, expected",
    [
        (textured(PBRMaterial(baseColorTexture=halves())), {RED: 1.0}),
        (textured(PBRMaterial(baseColorTexture=halves()), UV + 0.5), {BLUE: 1.0}),
        (textured(PBRMaterial(baseColorFactor=[1.0, 0.0, 0.0, 1.0])), {(255, 0, 0): 1.0}),
        (textured(SimpleMaterial(image=halves())), {RED: 1.0}),
        (ColorVisuals(vertex_colors=np.tile([10, 200, 30, 255], (8, 1))), {(10, 200, 30): 1.0}),
    ],
)
def test_materials_of_a_glb(tmp_path: Path, visual: object, expected: dict) -> None:
    trimesh.Scene([painted(visual)]).export(tmp_path / "box.glb")
    mesh = load_mesh(tmp_path / "box.glb")
    assert shares(mesh) == pytest.approx(expected, abs=1e-6) and has_colours(mesh)
    pixels, _, paint = albedo(mesh)
    seen = pixels.reshape(-1, 3).max(axis=0) * paint.max(axis=0)
    assert seen.max() > 150  # the renderer sees colours too, not black or a default


def test_a_factor_darkens_its_texture_in_linear_light(tmp_path: Path) -> None:
    material = PBRMaterial(baseColorTexture=halves(), baseColorFactor=[0.5, 0.5, 0.5, 1.0])
    trimesh.Scene([painted(textured(material))]).export(tmp_path / "box.glb")
    (colour,) = shares(load_mesh(tmp_path / "box.glb"))
    assert colour[0] == pytest.approx(147, abs=3)  # half the light of 200, in sRGB


@pytest.mark.parametrize(
    "second, colour",
    [
        (textured(PBRMaterial(baseColorFactor=[0.0, 1.0, 0.0, 1.0])), (0, 255, 0)),
        (textured(PBRMaterial(baseColorTexture=Image.new("RGB", (32, 8), GREEN))), GREEN),
        (ColorVisuals(vertex_colors=np.tile([10, 200, 30, 255], (8, 1))), (10, 200, 30)),
    ],
)
def test_several_materials_in_one_file(tmp_path: Path, second: object, colour: tuple) -> None:
    first = painted(textured(PBRMaterial(baseColorTexture=halves())))
    trimesh.Scene([first, painted(second, 0.04)]).export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb")
    assert shares(mesh) == pytest.approx({RED: 0.5, colour: 0.5}, abs=0.03)
    top = coloured_samples(mesh, 2000, 0)
    above = top[0][:, 2] > 0.021
    assert np.abs(255 * top[1][above] - colour).max() < 2


def test_a_texture_that_repeats_keeps_its_place_among_others(tmp_path: Path) -> None:
    tiled = painted(textured(SimpleMaterial(image=halves()), 8 * UV - 1))
    plain = painted(textured(SimpleMaterial(image=Image.new("RGB", (64, 64), GREEN))), 0.04)
    trimesh.Scene([tiled, plain]).export(tmp_path / "two.glb")
    alone = shares(tiled)
    found = shares(load_mesh(tmp_path / "two.glb"))
    assert found[GREEN] == pytest.approx(0.5, abs=0.03)
    assert found[RED] / (found[RED] + found[BLUE]) == pytest.approx(alone[RED], abs=0.05)


def obj(folder: Path, materials: str, names: str = "a", library: str = "box.mtl") -> Path:
    """An OBJ box whose faces use materials in turn."""
    (folder / "box.mtl").write_text(materials)
    lines = [f"mtllib {library}"]
    lines += ["v {} {} {}".format(*v) for v in BOX.vertices]
    lines += ["vt {} {}".format(*uv) for uv in UV]
    for index, name in enumerate(names):
        lines.append(f"usemtl {name}")
        for face in BOX.faces[index :: len(names)]:
            lines.append("f " + " ".join(f"{i + 1}/{i + 1}" for i in face))
    (folder / "box.obj").write_text("\n".join(lines) + "\n")
    return folder / "box.obj"


@pytest.mark.parametrize(
    "line",
    [
        "map_Kd red.png",
        "MAP_KD RED.PNG",
        'map_Kd "red.png"',
        "map_Kd -clamp on -s 1 1 1 -o 0 0 0 -mm 0 1 red.png",
        "map_Kd -bm 0.5 -texres 512 red.png",
        "map_Kd C:\\Users\\me\\textures\\red.png",
        "map_Kd /home/me/red.png",
        "map_Kd ..\\moved\\red.png",
        "map_Kd a red one.png",
        "Kd 0 0 0\nmap_Kd red.png",
    ],
)
@pytest.mark.parametrize("place", ["", "textures"])
def test_textures_of_an_obj_are_found(tmp_path: Path, line: str, place: str) -> None:
    (tmp_path / place).mkdir(exist_ok=True)
    for name in ("red.png", "a red one.png"):
        Image.new("RGB", (8, 8), RED).save(tmp_path / place / name)
    read = read_object_mesh(obj(tmp_path, f"newmtl a\n{line}\n"))
    assert shares(read.look) == {RED: 1.0}
    assert all("not there" not in note for note in read.notes)


def test_the_texture_options_for_size_and_offset_count(tmp_path: Path) -> None:
    halves().save(tmp_path / "halves.png")
    moved = obj(tmp_path, "newmtl a\nmap_Kd -o 0.5 0 -s 0.9 halves.png\n")
    read = read_object_mesh(moved)
    assert shares(read.look) == {BLUE: 1.0}
    assert any("-o 0.5 0" in note for note in read.notes)


def test_material_files_of_any_number_and_case(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), RED).save(tmp_path / "red.png")
    path = obj(tmp_path, "newmtl a\nmap_Kd red.png\n", library="colours.mtl BOX.MTL")
    (tmp_path / "colours.mtl").write_text("newmtl b\nKd 0 1 0\n")
    assert shares(load_mesh(path)) == {RED: 1.0}
    both = obj(tmp_path, "newmtl a\nmap_Kd red.png\n", "ab", library="colours.mtl BOX.MTL")
    assert shares(load_mesh(both)) == pytest.approx({RED: 0.5, (0, 255, 0): 0.5}, abs=0.03)


@pytest.mark.parametrize(
    "materials, names, library, note",
    [
        ("", "a", "nowhere.mtl", "'nowhere.mtl' is not there"),
        ("newmtl a\nmap_Kd none.png\n", "a", "box.mtl", "'none.png' is not there"),
        ("newmtl a\nmap_Kd C:\\x\\none.png\n", "a", "box.mtl", "none.png' is not there"),
        ("newmtl a\nmap_Kd broken.png\n", "a", "box.mtl", "'broken.png' is not a readable image"),
        ("newmtl a\nmap_Kd cut.png\n", "a", "box.mtl", "cannot be read"),
        ("newmtl b\nKd 1 0 0\n", "a", "box.mtl", "material 'a' is in no material file"),
    ],
)
def test_missing_colours_are_reported(
    tmp_path: Path, materials: str, names: str, library: str, note: str
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:3000])
    read = read_object_mesh(obj(tmp_path, materials, names, library))
    assert any(note in line for line in read.notes), read.notes


def test_missing_textures_of_other_kinds_are_reported(tmp_path: Path) -> None:
    ply = painted(None).export(file_type="ply", encoding="ascii").decode()
    head, rest = ply.split("element vertex", 1)
    text = f"{head}comment TextureFile gone.png\nelement vertex{rest}"
    (tmp_path / "box.ply").write_text(text)
    assert "'gone.png' is not there" in load_mesh(tmp_path / "box.ply").metadata["notes"][0]
    scene = trimesh.Scene([painted(textured(PBRMaterial(baseColorTexture=halves())))])
    for name, content in trimesh.exchange.gltf.export_gltf(scene).items():
        (tmp_path / name.replace("model", "box")).write_bytes(content)
    for image in [*tmp_path.glob("*.png"), *tmp_path.glob("*.jp*g")]:
        image.unlink()
    notes = load_mesh(tmp_path / "box.gltf").metadata["notes"]
    if any("is not there" in note for note in notes):
        return
    assert texture_image(load_mesh(tmp_path / "box.gltf")) is not None  # stored in the buffer


def test_symmetries_of_a_printed_can(tmp_path: Path) -> None:
    """A can of a GLB, one half red: it has symmetries only if it has one colour."""
    can = trimesh.creation.cylinder(0.03, 0.1, sections=48).subdivide()
    uv = np.stack([(can.vertices[:, 0] > 0) * 0.5 + 0.25, np.full(len(can.vertices), 0.5)], axis=1)
    for texture, symmetries in ((halves(), 1), (Image.new("RGB", (8, 8), RED), 36)):
        can.visual = textured(PBRMaterial(baseColorTexture=texture), uv)
        trimesh.Scene([can]).export(tmp_path / "can.glb")
        look = read_object_mesh(tmp_path / "can.glb").look
        assert len(symmetries_of_look(look, 0.002, 0)) >= symmetries
    assert len(symmetries_of_look(look, 0.002, 0)) > 36  # and end over end
