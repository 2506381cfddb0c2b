"""PLY files that trimesh refuses though they are valid: faces of mixed sizes, strips, extra bytes.

Slower than trimesh's reader, which therefore goes first.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES = {
    **dict.fromkeys(("char", "int8"), "b"),
    **dict.fromkeys(("uchar", "uint8"), "B"),
    **dict.fromkeys(("short", "int16"), "h"),
    **dict.fromkeys(("ushort", "uint16"), "H"),
    **dict.fromkeys(("int", "int32"), "i"),
    **dict.fromkeys(("uint", "uint32"), "I"),
    **dict.fromkeys(("float", "float32"), "f"),
    **dict.fromkeys(("double", "float64"), "d"),
}
_INDICES = ("vertex_indices", "vertex_index")
_TEXTURE = re.compile(r"(?:comment|obj_info)\s+TextureFile\s+(.+)", re.IGNORECASE)


class PlyError(ValueError):
    """A PLY file that is not as its header says."""


@dataclass
class PlyMesh:
    """Triangles of a PLY file.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3), polygons cut into fans.
        vertex_colours: (V, 3) uint8, or None.
        face_colours: (F, 3) uint8, or None.
        corner_uv: (F, 3, 2) texture coordinates of each face's corners, or None.
        textures: names of texture files.
        face_texture: (F,) index of each face's texture, or None.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    vertex_colours: NDArray[np.uint8] | None = None
    face_colours: NDArray[np.uint8] | None = None
    corner_uv: NDArray[np.float64] | None = None
    textures: tuple[str, ...] = ()
    face_texture: NDArray[np.int64] | None = None


@dataclass
class _Element:
    name: str
    count: int
    # name, type of the value, type of the list's length or "" for a single value
    properties: list[tuple[str, str, str]] = field(default_factory=list)


def read_ply(content: bytes) -> PlyMesh:
    """Read a PLY file of any format with polygons of any size, triangle strips and lists.

    Raises:
        PlyError: no PLY file, shorter than its header says, or without vertices or faces.
    """
    form, elements, textures, start = _header(content)
    values = _ascii(content, start) if form == "ascii" else None
    order = ">" if "big" in form else "<"
    rows: dict[str, dict[str, Any]] = {}
    position = start
    try:
        for element in elements:
            if values is not None:
                rows[element.name] = _ascii_rows(element, values)
            else:
                rows[element.name], position = _binary_rows(element, content, position, order)
    except (struct.error, StopIteration, ValueError, IndexError, OverflowError) as error:
        raise PlyError("shorter than its header says, or not what it says") from error
    return _mesh(rows, textures)


def texture_names(content: bytes) -> tuple[str, ...]:
    """Names of the texture files that the header of a PLY file states."""
    return _header(content)[2]


def _header(content: bytes) -> tuple[str, list[_Element], tuple[str, ...], int]:
    end = re.search(rb"end_header[ \t]*\r?\n", content)
    if not content.startswith(b"ply") or end is None:
        raise PlyError("no PLY header")
    form, elements, textures = "", [], []
    for line in content[: end.start()].decode("latin-1").splitlines()[1:]:
        words = line.split()
        texture = _TEXTURE.match(line.strip())
        if texture:
            textures.append(texture[1].strip())
        elif not words or words[0] in ("comment", "obj_info"):
            continue
        elif words[0] == "format" and len(words) > 1:
            form = words[1]
        elif words[0] == "element" and len(words) == 3 and words[2].isdecimal():
            elements.append(_Element(words[1], int(words[2])))
        elif words[0] == "property" and elements:
            elements[-1].properties.append(_property(words))
        else:
            raise PlyError(f"header line {line.strip()!r} is not understood")
    if form not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise PlyError(f"format {form!r} is not known")
    return form, elements, tuple(textures), end.end()


def _property(words: list[str]) -> tuple[str, str, str]:
    types = words[2:4] if words[1] == "list" else words[1:2]
    if len(words) != len(types) + (3 if words[1] == "list" else 2) or not set(types) <= set(_TYPES):
        raise PlyError(f"header line {' '.join(words)!r} is not understood")
    length = _TYPES[types[0]] if words[1] == "list" else ""
    return words[-1], _TYPES[types[-1]], length


def _ascii(content: bytes, start: int) -> Iterator[str]:
    return iter(content[start:].decode("latin-1").split())


def _ascii_rows(element: _Element, values: Iterator[str]) -> dict[str, Any]:
    rows: dict[str, list[Any]] = {name: [] for name, _, _ in element.properties}
    for _ in range(element.count):
        for name, _, length in element.properties:
            if length:
                rows[name].append([float(next(values)) for _ in range(int(next(values)))])
            else:
                rows[name].append(float(next(values)))
    return _typed(element, rows)


def _binary_rows(
    element: _Element, content: bytes, position: int, order: str
) -> tuple[dict[str, Any], int]:
    if not any(length for _, _, length in element.properties):
        dtype = np.dtype([(name, order + kind) for name, kind, _ in element.properties])
        table = np.frombuffer(content, dtype, element.count, position)
        rows = {name: table[name] for name in dtype.names or ()}
        return rows, position + element.count * dtype.itemsize
    lists: dict[str, list[Any]] = {name: [] for name, _, _ in element.properties}
    for _ in range(element.count):
        for name, kind, length in element.properties:
            count = 1
            if length:
                (count,) = struct.unpack_from(order + length, content, position)
                position += struct.calcsize(length)
            row = struct.unpack_from(f"{order}{count}{kind}", content, position)
            position += count * struct.calcsize(kind)
            lists[name].append(row if length else row[0])
    return _typed(element, lists), position


def _typed(element: _Element, rows: dict[str, list[Any]]) -> dict[str, Any]:
    """Single values as arrays of the type that the header states, lists as they are."""
    return {
        name: rows[name] if length else np.array(rows[name]).astype(kind)
        for name, kind, length in element.properties
    }


def _mesh(rows: dict[str, dict[str, Any]], textures: tuple[str, ...]) -> PlyMesh:
    corners = rows.get("vertex", {})
    if not {"x", "y", "z"} <= set(corners) or len(corners["x"]) == 0:
        raise PlyError("no vertices")
    vertices = np.column_stack([np.asarray(corners[axis], np.float64) for axis in "xyz"])
    faces = rows.get("face", {})
    polygons = next((faces[name] for name in _INDICES if name in faces), [])
    triangles = [(a, i) for i, polygon in enumerate(polygons) for a in range(1, len(polygon) - 1)]
    fan = np.array(
        [(polygons[i][0], polygons[i][a], polygons[i][a + 1]) for a, i in triangles], np.int64
    ).reshape(-1, 3)
    owner = np.array([i for _, i in triangles], np.int64)
    strips = rows.get("tristrips", {})
    for strip in next((strips[name] for name in _INDICES if name in strips), []):
        fan = np.vstack([fan, _strip_faces(strip)])
    if len(fan) == 0:
        raise PlyError("no faces; a surface is needed, not a point cloud")
    if fan.min() < 0 or fan.max() >= len(vertices):
        raise PlyError("a face names a vertex that is not there")
    mesh = PlyMesh(vertices, fan, _colours(corners), textures=textures)
    if len(owner) == len(fan):
        colours = _colours(faces)
        mesh.face_colours = None if colours is None else colours[owner]
        if "texnumber" in faces:
            mesh.face_texture = faces["texnumber"].astype(np.int64)[owner]
        uv = [_corner_uv(faces["texcoord"][i], a) for a, i in triangles if "texcoord" in faces]
        mesh.corner_uv = np.array(uv, np.float64) if uv else _vertex_uv(corners, fan)
    return mesh


def _strip_faces(strip: Any) -> NDArray[np.int64]:
    """Triangles (F, 3) of a strip, in which -1 begins a new one."""
    faces = []
    length, before, last = 0, 0, 0
    for index in map(int, strip):
        if index < 0:
            length = 0
            continue
        if length >= 2:
            faces.append((before, last, index) if length % 2 == 0 else (last, before, index))
        length, before, last = length + 1, last, index
    return np.array(faces, np.int64).reshape(-1, 3)


def _corner_uv(row: Any, a: int) -> list[tuple[float, float]]:
    """Return the texture coordinates of a triangle's corners; zeros if the face has none."""
    if len(row) < 2 * (a + 2):
        return [(0.0, 0.0)] * 3
    return [(row[2 * k], row[2 * k + 1]) for k in (0, a, a + 1)]


def _vertex_uv(corners: dict[str, Any], faces: NDArray[np.int64]) -> NDArray[np.float64] | None:
    for u, v in (("s", "t"), ("u", "v"), ("texture_u", "texture_v")):
        if u in corners and v in corners:
            return np.stack([corners[u], corners[v]], axis=-1).astype(np.float64)[faces]
    return None


def _colours(rows: dict[str, Any]) -> NDArray[np.uint8] | None:
    for prefix in ("", "diffuse_"):
        names = [prefix + name for name in ("red", "green", "blue")]
        if set(names) <= set(rows):
            scale = 255.0 if rows[names[0]].dtype.kind == "f" else 1.0
            values = np.column_stack([rows[name].astype(np.float64) for name in names])
            return np.clip(np.rint(values * scale), 0, 255).astype(np.uint8)
    return None
