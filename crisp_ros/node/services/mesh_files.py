"""Files of reconstructed shapes: a mesh in the object's frame, and its pose as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trimesh
from std_msgs.msg import Header

from crisp_ros.data.atomic_file import write_atomically, write_json
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.node.outputs.published_objects import PublishedObject

FORMATS = ("ply", "obj", "stl")


class MeshFormatError(ValueError):
    """Unsupported file format."""


def checked_format(text: str) -> str:
    """Get the format that a caller names, "ply" by default.

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
    objects: Sequence[tuple[PublishedObject, TriangleMesh]],
    header: Header,
    model_version: str,
) -> list[Path]:
    """Write ID.FORMAT and ID.json for each object, each file atomically.

    Args:
        folder: existing folder.
        format: one of `FORMATS`.
        objects: with their non-empty surfaces, object frame, metres.
        header: of the image of the poses.
        model_version: of the estimates.

    Raises:
        OSError: a file cannot be written.
    """
    written = []
    for published, mesh in objects:
        path = folder / f"{published.id}.{format}"
        solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        write_atomically(path, solid.export(file_type=format))
        sidecar = path.with_suffix(".json")
        write_json(sidecar, _description(published, path.name, solid, header, model_version))
        written += [path, sidecar]
    return written


def _description(
    published: PublishedObject, file: str, mesh: trimesh.Trimesh, header: Header, model_version: str
) -> dict[str, Any]:
    estimate = published.estimate
    return {
        "id": published.id,
        "mesh": file,
        "unit": "metre",
        "scale": 1.0,
        "mesh_version": published.version,
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
