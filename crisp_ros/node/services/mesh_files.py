"""Reconstructed shapes as files: a mesh in the object's frame, and its pose beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trimesh
from std_msgs.msg import Header

from crisp_ros.data.atomic_file import write_atomically, write_json
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.outputs.published_objects import KnownObject

FORMATS = ("ply", "obj", "stl")


class MeshFormatError(ValueError):
    """A file format that is not offered."""


def checked_format(text: str) -> str:
    """The format that a caller names, "ply" where none is.

    Raises:
        MeshFormatError: not one of `FORMATS`.
    """
    name = text.strip().lower().lstrip(".") or FORMATS[0]
    if name not in FORMATS:
        raise MeshFormatError(f"format {text!r}: expected one of {', '.join(FORMATS)}")
    return name


def write_objects(
    folder: Path,
    format: str,
    objects: Sequence[tuple[KnownObject, TriangleMesh]],
    header: Header,
    model_version: str,
) -> list[Path]:
    """Write ID.FORMAT and ID.json for each object; a reader never sees half a file.

    Args:
        folder: that exists.
        format: one of `FORMATS`.
        objects: with their surfaces, object frame, metres; none of them empty.
        header: of the image that the poses belong to.
        model_version: of the estimate.

    Raises:
        OSError: a file cannot be written.
    """
    written = []
    for known, mesh in objects:
        path = folder / f"{known.id}.{format}"
        solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        write_atomically(path, solid.export(file_type=format))
        beside = path.with_suffix(".json")
        write_json(beside, _description(known, path.name, solid, header, model_version))
        written += [path, beside]
    return written


def _description(
    known: KnownObject, file: str, mesh: trimesh.Trimesh, header: Header, model_version: str
) -> dict[str, Any]:
    estimate = known.estimate
    return {
        "id": known.id,
        "mesh": file,
        "unit": "metre",
        "scale": 1.0,
        "mesh_version": known.version,
        "size_m": mesh.extents.tolist(),
        "volume_m3": float(mesh.volume),
        "frame_id": header.frame_id,
        "stamp": {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec},
        "T_frame_object": estimate.T_camera_object.tolist(),
        "certified": estimate.certified,
        "score": estimate.score,
        "reason": estimate.reason,
        "model_version": model_version,
    }
