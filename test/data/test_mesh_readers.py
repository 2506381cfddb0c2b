"""Mesh files as programs really write them: read, or refused with what to do."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from crisp_ros.data.files import MeshError
from crisp_ros.data.mesh_readers import CONVERTIBLE
from crisp_ros.data.meshes import load_mesh, mesh_files
from crisp_ros.data.ply_file import PlyError, read_ply

BOX = trimesh.creation.box((0.1, 0.06, 0.04))
QUADS = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
MIXED = [[0, 1, 3], [0, 3, 2], *QUADS[1:]]
VOLUME = 0.1 * 0.06 * 0.04


def ply(
    faces: list[list[int]],
    form: str = "binary_little_endian",
    vertex: str = "",
    face: str = "property list uchar int vertex_indices\n",
    colour: bytes = b"",
    per_face: bytes = b"",
) -> bytes:
    """A PLY box whose vertices and faces carry the same extra bytes each."""
    order = ">" if "big" in form else "<"
    head = f"ply\nformat {form} 1.0\ncomment of a test\nelement vertex 8\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    head += f"{vertex}element face {len(faces)}\n{face}end_header\n"
    body = b"".join(struct.pack(order + "3f", *v) + colour for v in BOX.vertices)
    for f in faces:
        body += struct.pack(f"{order}B{len(f)}i", len(f), *f) + per_face
    return head.encode() + body


def is_the_box(mesh: trimesh.Trimesh) -> bool:
    """Whether a mesh is the box, whatever its vertices and triangles are."""
    same = np.allclose(mesh.bounds, BOX.bounds, atol=1e-6)
    return same and mesh.volume == pytest.approx(VOLUME, rel=1e-4)


def obj(faces: str, vertices: str = "v %f %f %f\n") -> str:
    return "".join(vertices % tuple(v) for v in BOX.vertices) + faces


OBJ_QUADS = "".join("f " + " ".join(str(i + 1) for i in q) + "\n" for q in QUADS)
RELATIVE = "".join(
    "".join("v {:f} {:f} {:f}\n".format(*BOX.vertices[i]) for i in q) + "f -4 -3 -2 -1\n"
    for q in QUADS
)
STL = b"binary".ljust(80) + struct.pack("<I", 12)
STL_FACES = b"".join(struct.pack("<12fH", 0, 0, 0, *t.ravel(), 0) for t in BOX.triangles)
STRIPS = (
    "ply\nformat ascii 1.0\nelement vertex 8\n"
    "property float x\nproperty float y\nproperty float z\n"
    "element tristrips 1\nproperty list int int vertex_indices\nend_header\n"
    + "".join("{:g} {:g} {:g}\n".format(*v) for v in BOX.vertices)
    + f"{6 * 5} " + " ".join(f"{a} {b} {d} {c} -1" for a, b, c, d in QUADS)
)  # fmt: skip
COLOURED_OFF = (
    "COFF\n8 6 0\n"
    + "".join("{:g} {:g} {:g} 250 120 10 255\n".format(*v) for v in BOX.vertices)
    + "".join("4 {} {} {} {}\n".format(*q) for q in QUADS)
)


@pytest.mark.parametrize(
    "name, content",
    [
        ("mixed.ply", ply(MIXED)),
        ("big_endian.ply", ply(MIXED, "binary_big_endian")),
        ("bytes_after_the_end.ply", ply(QUADS) + b"\n"),
        ("strips.ply", STRIPS.encode()),
        ("quads.ply", ply(QUADS)),
        ("relative.obj", RELATIVE.encode()),
        ("utf8_mark.obj", b"\xef\xbb\xbf" + obj(OBJ_QUADS).encode()),
        ("latin.obj", "# gr\xfc\xdfe\n".encode("latin-1") + obj(OBJ_QUADS).encode()),
        ("windows.obj", obj(OBJ_QUADS).replace("\n", "\r\n").encode()),
        ("solid.stl", b"solid binary".ljust(80) + STL[80:] + STL_FACES),
        ("no_count.stl", STL[:80] + struct.pack("<I", 0) + STL_FACES),
        ("bytes_after_the_end.stl", STL + STL_FACES + b"made by a test"),
    ],
)
def test_valid_files_are_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert is_the_box(load_mesh(tmp_path / name))


@pytest.mark.parametrize(
    "name, content",
    [
        ("faces.ply", ply(MIXED, face="property list uchar int vertex_indices\n"
                          "property uchar red\nproperty uchar green\nproperty uchar blue\n",
                          per_face=bytes((250, 120, 10)))),
        ("diffuse.ply", ply(QUADS, vertex="".join(f"property uchar diffuse_{c}\n"
                            for c in ("red", "green", "blue")), colour=bytes((250, 120, 10)))),
        ("mixed.ply", ply(MIXED, vertex="".join(f"property uchar {c}\n"
                          for c in ("red", "green", "blue")), colour=bytes((250, 120, 10)))),
        ("c.off", COLOURED_OFF.encode()),
        ("v.obj", obj(OBJ_QUADS, "v %f %f %f 0.98039 0.47059 0.03922\n").encode()),
    ],
)  # fmt: skip
def test_colours_of_vertices_and_faces_are_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    mesh = load_mesh(tmp_path / name)
    assert is_the_box(mesh)
    colours = np.asarray(mesh.visual.vertex_colors)[:, :3]
    assert np.abs(colours.astype(int) - (250, 120, 10)).max() <= 1


def test_vertex_colours_are_not_hidden_by_a_material_file(tmp_path: Path) -> None:
    (tmp_path / "grey.mtl").write_text("newmtl grey\nKd 0.5 0.5 0.5\n")
    text = "mtllib grey.mtl\n" + obj("usemtl grey\n" + OBJ_QUADS, "v %f %f %f 1.0 0.0 0.0\n")
    (tmp_path / "scan.obj").write_text(text)
    colours = np.asarray(load_mesh(tmp_path / "scan.obj").visual.vertex_colors)
    assert (colours[:, :3] == (255, 0, 0)).all()


@pytest.mark.parametrize(
    "name, content, cause",
    [
        ("short.ply", ply(MIXED)[:-9], "shorter than its header says"),
        ("odd.ply", b"ply\nformat ascii 1.0\nelement vertex x\nend_header\n", "element vertex x"),
        ("short.stl", STL + STL_FACES[:-60], "10 of 12 faces"),
        ("a.dae", b"<COLLADA/>", "COLLADA.*export"),
        ("a.step", b"ISO-10303-21;", "without a surface mesh"),
        ("cloud.pcd", b"VERSION .7", "point cloud.*reconstruct"),
        ("draco.glb", None, "Draco.*gltf-transform copy draco.glb"),
    ],
)
def test_what_cannot_be_read_says_what_to_do(
    tmp_path: Path, name: str, content: bytes | None, cause: str
) -> None:
    if content is None:
        header = json.dumps(
            {"asset": {"version": "2.0"}, "extensionsRequired": ["KHR_draco_mesh_compression"]}
        ).encode()
        content = struct.pack("<4sIIII", b"glTF", 2, 20 + len(header), len(header), 0x4E4F534A)
        content += header
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MeshError, match=cause) as refusal:
        load_mesh(tmp_path / name)
    assert name in str(refusal.value)


def test_a_folder_names_meshes_that_have_to_be_converted(tmp_path: Path) -> None:
    BOX.export(tmp_path / "box.ply")
    (tmp_path / "box.dae").write_text("<COLLADA/>")
    assert list(mesh_files(tmp_path)) == ["box"]  # there as PLY
    (tmp_path / "mug.dae").write_text("<COLLADA/>")
    with pytest.raises(MeshError, match="mug.dae: a COLLADA file"):
        mesh_files(tmp_path)
    assert all(name.startswith(".") for name in CONVERTIBLE)


def test_polygons_strips_and_texture_coordinates_of_a_ply() -> None:
    face = "property list uchar int vertex_indices\nproperty list uchar float texcoord\n"
    uv = struct.pack("<B8f", 8, 0, 0, 1, 0, 1, 1, 0, 1)
    mesh = read_ply(ply(QUADS, face=face, per_face=uv))
    assert mesh.faces.shape == (12, 3) and mesh.corner_uv.shape == (12, 3, 2)
    np.testing.assert_allclose(mesh.corner_uv[1], [[0, 0], [1, 1], [0, 1]])
    with pytest.raises(PlyError, match="vertex that is not there"):
        read_ply(ply([[0, 1, 9]]))
