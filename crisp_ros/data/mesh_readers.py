"""Readers of mesh files: trimesh's, and what it needs for files as programs really write them."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import SimpleMaterial

from crisp_ros.data.files import MeshError
from crisp_ros.data.mesh_assets import MATERIALS, MeshAssets, decoded_text
from crisp_ros.data.ply_file import PlyError, PlyMesh, read_ply, texture_names

READABLE = (".ply", ".obj", ".glb", ".gltf", ".stl", ".off")
_EXPORT = "open it in Blender or MeshLab and export a GLB, OBJ or PLY"
CONVERTIBLE = {
    ".dae": f"a COLLADA file: {_EXPORT} (or: assimp export in.dae out.glb2)",
    ".fbx": f"an FBX file: {_EXPORT}",
    ".3ds": f"a 3D Studio file: {_EXPORT}",
    ".blend": "a Blender file: export it from Blender as GLB",
    ".usd": "a USD file: export it from Blender as GLB",
    ".usda": "a USD file: export it from Blender as GLB",
    ".usdc": "a USD file: export it from Blender as GLB",
    ".usdz": "a USD file: export it from Blender as GLB",
    ".wrl": f"a VRML file: {_EXPORT}",
    ".x3d": f"an X3D file: {_EXPORT}",
    ".3mf": "a 3MF file: export an STL or OBJ from the slicer or CAD program",
    ".step": "a CAD model without a surface mesh: export an STL or OBJ (FreeCAD: Mesh Design)",
    ".stp": "a CAD model without a surface mesh: export an STL or OBJ (FreeCAD: Mesh Design)",
    ".iges": "a CAD model without a surface mesh: export an STL or OBJ (FreeCAD: Mesh Design)",
    ".igs": "a CAD model without a surface mesh: export an STL or OBJ (FreeCAD: Mesh Design)",
    ".pcd": "a point cloud: reconstruct a surface first (MeshLab, Open3D) and save it as PLY",
    ".vtk": f"a VTK file: {_EXPORT}",
    ".vtp": f"a VTK file: {_EXPORT}",
}
_PACKED = {
    "KHR_draco_mesh_compression": "Draco",
    "EXT_meshopt_compression": "meshopt",
    "KHR_meshopt_compression": "meshopt",
}
_STL_HEADER, _STL_FACE = 84, 50


def read_meshes(path: Path, notes: list[str]) -> list[trimesh.Trimesh]:
    """The meshes of a file, each with trimesh's visual, in the file's unit and frame.

    Args:
        path: one of `READABLE`.
        notes: takes a line for each thing that is missing or not understood.

    Raises:
        MeshError: not one of these, not readable or without faces.
    """
    suffix = path.suffix.lower()
    if suffix in CONVERTIBLE:
        raise MeshError(f"{path}: {CONVERTIBLE[suffix]}")
    if suffix not in READABLE:
        raise MeshError(f"{path}: expected a mesh, one of {', '.join(READABLE)}")
    if not path.is_file():
        raise MeshError(f"{path}: no such file")
    try:
        meshes = _READERS[suffix](path, notes)
    except MeshError:
        raise
    except Exception as error:  # every reader of trimesh fails in its own way
        raise MeshError(f"{path}: not a readable mesh ({error}); {_EXPORT}") from error
    meshes = [m for m in meshes if isinstance(m, trimesh.Trimesh) and len(m.faces)]
    if not meshes:
        raise MeshError(f"{path}: no faces; a surface is needed, not a point cloud")
    return meshes


def _trimesh(content: bytes, kind: str, assets: MeshAssets, **options: Any) -> list[Any]:
    loaded = trimesh.load(
        BytesIO(content), file_type=kind, resolver=assets, process=False, **options
    )
    return list(loaded.dump()) if isinstance(loaded, trimesh.Scene) else [loaded]


def _named(assets: MeshAssets, notes: list[str]) -> None:
    notes += [f"{name!r} is not there: colours that need it are missing" for name in assets.missing]


def _obj(path: Path, notes: list[str]) -> list[Any]:
    text = decoded_text(path.read_bytes()).replace("\r\n", "\n").replace("\\\n", " ")
    libraries = re.findall(r"^[ \t]*mtllib[ \t]+(.+)$", text, re.MULTILINE)
    text = re.sub(r"^[ \t]*mtllib.*$", "", text, flags=re.MULTILINE)
    if re.search(r"^[ \t]*f[ \t][^\n]*-\d", text, re.MULTILINE):
        text = _absolute_indices(text)
    if libraries:
        text = f"mtllib {MATERIALS}\n{text}"
    assets = MeshAssets(path, (library.strip() for library in libraries))
    meshes = _trimesh(text.encode(), "obj", assets)
    materials = [getattr(getattr(m, "visual", None), "material", None) for m in meshes]
    if re.search(r"^v([ \t]+\S+){6,7}[ \t]*$", text, re.MULTILINE) and not any(
        getattr(material, "image", None) for material in materials
    ):
        meshes = _trimesh(text.encode(), "obj", assets, skip_materials=True)  # which hide colours
    _named(assets, notes)
    for material in materials:
        stated = getattr(material, "kwargs", {})
        name = " ".join(stated.get("texture_name", ()))
        if name and material.image is None and name not in assets.missing:
            notes.append(f"{name!r} is not a readable image: plain colour instead")
        elif name and material.image is not None and "texture_options" in stated:
            options = " ".join(stated["texture_options"])
            notes.append(f"texture {name!r} read; of its options {options} size and offset count")
    used = set(re.findall(r"^[ \t]*usemtl[ \t]+(.+?)[ \t]*$", text, re.MULTILINE))
    if libraries and not assets.missing:
        known = set(re.findall(r"newmtl[ \t]+(.+?)[ \t]*$", _library(assets), re.MULTILINE))
        notes += [f"material {name!r} is in no material file" for name in sorted(used - known)]
    elif used and not libraries:
        notes.append("it uses materials but names no material file (mtllib): colours are missing")
    return meshes


def _library(assets: MeshAssets) -> str:
    return assets.get(MATERIALS).decode()


def _absolute_indices(text: str) -> str:
    """An OBJ whose faces count vertices from the first, not back from the latest (trimesh cannot).

    Negative numbers are relative to what stands above the face, so lines have to be walked.
    """
    counts = {"v": 0, "vt": 0, "vn": 0}
    lines = text.split("\n")
    for number, line in enumerate(lines):
        words = line.split()
        if not words:
            continue
        if words[0] in counts:
            counts[words[0]] += 1
        elif words[0] == "f":
            total = tuple(counts.values())
            corners = ("/".join(_absolute(i, n) for i, n in zip(w.split("/"), total, strict=False))
                       for w in words[1:])  # fmt: skip
            lines[number] = "f " + " ".join(corners)
    return "\n".join(lines)


def _absolute(index: str, count: int) -> str:
    return str(count + 1 + int(index)) if index.startswith("-") else index


def _ply(path: Path, notes: list[str]) -> list[Any]:
    content = path.read_bytes()
    assets = MeshAssets(path)
    try:
        textures = texture_names(content)
        if len(textures) > 1 or b"diffuse_red" in content[:4096]:
            raise PlyError("read by the second reader, which knows more")
        meshes = _trimesh(content, "ply", assets)
        if len(getattr(meshes[0], "faces", ())) == 0:
            raise PlyError("without faces for trimesh, but perhaps with strips")
    except Exception as error:  # the second reader says what is wrong, if it fails too
        try:
            meshes = _ply_parts(read_ply(content), assets, notes)
        except PlyError as second:
            raise MeshError(f"{path}: not a readable mesh ({second}); {_EXPORT}") from error
    else:
        material = getattr(meshes[0].visual, "material", None)
        if textures and textures[0] not in assets.missing and material is None:
            notes.append(
                f"{textures[0]!r} is not a readable image, or has no coordinates: no texture"
            )
    _named(assets, notes)
    return meshes


def _ply_parts(ply: PlyMesh, assets: MeshAssets, notes: list[str]) -> list[trimesh.Trimesh]:
    """The mesh of a PLY file, cut up by its textures."""
    if ply.corner_uv is None or not ply.textures:
        mesh = trimesh.Trimesh(ply.vertices, ply.faces, process=False)
        if ply.vertex_colours is not None:
            mesh.visual = ColorVisuals(mesh, vertex_colors=ply.vertex_colours)
        elif ply.face_colours is not None:
            mesh.visual = ColorVisuals(mesh, face_colors=ply.face_colours)
        return [mesh]
    which = np.zeros(len(ply.faces), int) if ply.face_texture is None else ply.face_texture
    meshes = []
    for number in np.unique(which):
        chosen = which == number
        corners = ply.faces[chosen].ravel()
        mesh = trimesh.Trimesh(
            ply.vertices[corners], np.arange(len(corners)).reshape(-1, 3), process=False
        )
        name = ply.textures[number] if 0 <= number < len(ply.textures) else None
        image = None if name is None else _image(name, assets, notes)
        if image is not None:
            uv = ply.corner_uv[chosen].reshape(-1, 2)
            mesh.visual = TextureVisuals(uv=uv, material=SimpleMaterial(image=image))
        meshes.append(mesh)
    return meshes


def _image(name: str, assets: MeshAssets, notes: list[str]) -> Any:
    from PIL import Image  # only meshes with textures need it

    try:
        return Image.open(BytesIO(assets.get(name)))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        notes.append(f"{name!r} is not a readable image ({error})")
        return None


def _stl(path: Path, notes: list[str]) -> list[Any]:
    content = path.read_bytes()
    if len(content) >= _STL_HEADER and not (
        content.lstrip()[:5].lower() == b"solid" and b"facet" in content[:2048].lower()
    ):
        (stated,) = struct.unpack_from("<I", content, 80)
        there = (len(content) - _STL_HEADER) // _STL_FACE
        if stated > there > 0 and stated != 0xFFFFFFFF:
            raise MeshError(f"{path}: broken off: {there} of {stated} faces are there")
        count = there if stated in (0, 0xFFFFFFFF) else stated
        end = _STL_HEADER + count * _STL_FACE
        content = content[:80] + struct.pack("<I", count) + content[_STL_HEADER:end]
    return _trimesh(content, "stl", MeshAssets(path))


def _off(path: Path, notes: list[str]) -> list[Any]:
    text = decoded_text(path.read_bytes())
    meshes = _trimesh(text.encode(), "off", MeshAssets(path))
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    lines = [words for words in lines if words]
    header = lines[0][0].upper() if lines else ""
    if "C" in header.removesuffix("OFF"):
        body = lines[2:] if len(lines[0]) == 1 else lines[1:]
        rows = np.array([row[-4:] for row in body[: len(meshes[0].vertices)]], np.float64)
        # Three numbers of colour follow the position, or four with the transparency.
        plain = 3 + (3 if "N" in header else 0) + (2 if header.startswith("ST") else 0)
        colours = rows[:, :3] if len(body[0]) - plain >= 4 else rows[:, 1:]
        scale = 255.0 if "." in "".join(body[0][plain:]) and colours.max() <= 1.0 else 1.0
        colours = np.clip(np.rint(colours * scale), 0, 255).astype(np.uint8)
        meshes[0].visual = ColorVisuals(meshes[0], vertex_colors=colours)
    return meshes


def _gltf(path: Path, notes: list[str]) -> list[Any]:
    content = path.read_bytes()
    header = _gltf_header(content)
    packed = [_PACKED[name] for name in header.get("extensionsRequired", ()) if name in _PACKED]
    if packed:
        raise MeshError(
            f"{path}: compressed by {packed[0]}, which is not read: unpack it, such as by"
            f" `npx gltf-transform copy {path.name} unpacked.glb`"
        )
    assets = MeshAssets(path)
    meshes = _trimesh(content, path.suffix.lower()[1:], assets)
    _named(assets, notes)
    notes += _gltf_notes(header, meshes, assets)
    return meshes


def _gltf_header(content: bytes) -> dict[str, Any]:
    if content.startswith(b"glTF"):
        (length,) = struct.unpack_from("<I", content, 12)
        content = content[20 : 20 + length]
    header = json.loads(content.decode("utf-8-sig"))
    if not isinstance(header, dict):
        raise ValueError("no glTF header")
    return header


def _gltf_notes(header: dict[str, Any], meshes: list[Any], assets: MeshAssets) -> list[str]:
    """Return notes on colours in a glTF file that trimesh does not read."""
    notes = []
    materials = header.get("materials", [])
    textured = [m for m in materials if "baseColorTexture" in m.get("pbrMetallicRoughness", {})]
    read = {
        id(m.visual.material)
        for m in meshes
        if getattr(getattr(m, "visual", None), "material", None) is not None
        and getattr(m.visual.material, "baseColorTexture", None) is not None
    }
    if textured and not read and not assets.missing:
        kinds = sorted({image.get("mimeType", "?") for image in header.get("images", [])})
        notes.append(
            f"its texture cannot be read ({', '.join(kinds)}): plain colour instead; save it with"
            " PNG or JPEG textures"
        )
    placed = (m["pbrMetallicRoughness"]["baseColorTexture"].get("extensions", {}) for m in textured)
    if any("KHR_texture_transform" in extensions for extensions in placed):
        notes.append("KHR_texture_transform is not applied: see that the texture is in its place")
    return notes


_READERS: dict[str, Callable[[Path, list[str]], list[Any]]] = {
    ".ply": _ply,
    ".obj": _obj,
    ".stl": _stl,
    ".off": _off,
    ".glb": _gltf,
    ".gltf": _gltf,
}
