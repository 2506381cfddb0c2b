"""Writing data sets in the layout of the BOP benchmark (see bop.py)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.bop import MM, BopFrame, BopInstance
from crisp_ros.data.files import DatasetError, read_json
from crisp_ros.data.mesh_colours import texture_image
from crisp_ros.geometry.se3 import invert


def write_models(
    folder: str | Path,
    models: Mapping[int, trimesh.Trimesh],
    info: Mapping[int, Mapping[str, Any]] | None = None,
) -> None:
    """Write `models/`: meshes in metres become PLY in millimetres, textures PNG next to them.

    Args:
        folder: the data set folder.
        models: meshes by object id.
        info: further fields of models_info.json by object id, in its own terms: name,
            symmetries_discrete, symmetries_continuous.
    """
    folder = Path(folder) / "models"
    folder.mkdir(parents=True, exist_ok=True)
    listed: dict[str, Any] = {}
    for obj_id, mesh in models.items():
        scaled = mesh.copy()
        scaled.apply_scale(1.0 / MM)
        _write_ply(folder / f"obj_{obj_id:06d}.ply", scaled)
        lower, size = scaled.bounds[0], scaled.extents
        listed[str(obj_id)] = {
            "diameter": _diameter(scaled),
            **{f"min_{axis}": float(value) for axis, value in zip("xyz", lower, strict=True)},
            **{f"size_{axis}": float(value) for axis, value in zip("xyz", size, strict=True)},
            **((info or {}).get(obj_id, {})),
        }
    _write_json(folder / "models_info.json", listed)


def write_frames(
    folder: str | Path,
    frames: Iterable[BopFrame],
    split: str = "test",
    depth_scale_mm: float = 0.1,
) -> None:
    """Write frames into their scenes; what a scene held before stays listed.

    Annotations are written when a scene is done, or an error ends it, so that images which are
    there can be used.

    Args:
        folder: the data set folder.
        frames: consumed one by one, so that a long sequence is never in memory as a whole.
        split: folder of the scenes.
        depth_scale_mm: millimetres of one depth step; 65,535 steps are the farthest depth.

    Raises:
        DatasetError: a depth does not fit into 16 bits at this scale.
    """
    current: Path | None = None
    files: dict[str, dict[str, Any]] = {}
    try:
        for frame in frames:
            scene = Path(folder) / split / f"{frame.scene_id:06d}"
            if scene != current:
                _write_annotations(current, files)
                current, files = scene, {}
            _write_images(scene, frame, depth_scale_mm)
            entries = {
                "scene_camera.json": _camera_entry(frame, depth_scale_mm),
                "scene_gt.json": [_pose_entry(instance) for instance in frame.instances],
                "scene_gt_info.json": [_visibility_entry(instance) for instance in frame.instances],
            }
            for name, entry in entries.items():
                files.setdefault(name, {})[str(frame.image_id)] = entry
    finally:
        _write_annotations(current, files)


def _write_annotations(scene: Path | None, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Add entries to a scene's files of annotations."""
    for name, entries in files.items():
        path = scene / name
        before = read_json(path, dict) if path.is_file() else {}
        _write_json(path, {**before, **entries})


def _camera_entry(frame: BopFrame, depth_scale_mm: float) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "cam_K": frame.intrinsics.ravel().tolist(),
        "depth_scale": depth_scale_mm,
    }
    if frame.T_world_camera is not None:
        T_camera_world = invert(frame.T_world_camera)
        entry["cam_R_w2c"] = T_camera_world[:3, :3].ravel().tolist()
        entry["cam_t_w2c"] = (T_camera_world[:3, 3] / MM).tolist()
    return entry


def _pose_entry(instance: BopInstance) -> dict[str, Any]:
    return {
        "cam_R_m2c": instance.T_camera_object[:3, :3].ravel().tolist(),
        "cam_t_m2c": (instance.T_camera_object[:3, 3] / MM).tolist(),
        "obj_id": instance.obj_id,
    }


def _visibility_entry(instance: BopInstance) -> dict[str, Any]:
    entry: dict[str, Any] = {"px_count_visib": instance.visible_px}
    if instance.visible_share is not None:
        entry["visib_fract"] = instance.visible_share
    return entry


def _write_images(scene: Path, frame: BopFrame, depth_scale_mm: float) -> None:
    name = f"{frame.image_id:06d}"
    steps = np.round(frame.depth.astype(np.float64) / (depth_scale_mm * MM))
    if not (steps.min() >= 0.0 and steps.max() <= 65535):
        raise DatasetError(
            f"{scene}: image {frame.image_id}: depth up to {frame.depth.max():.2f} m does not fit"
            f" into 16 bits in steps of {depth_scale_mm} mm; choose larger steps"
        )
    for kind in ("rgb", "depth", "mask_visib"):
        (scene / kind).mkdir(parents=True, exist_ok=True)
    _write_image(scene / "rgb" / f"{name}.png", cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR))
    _write_image(scene / "depth" / f"{name}.png", steps.astype(np.uint16))
    for index, instance in enumerate(frame.instances):
        mask = (frame.labels == instance.label).astype(np.uint8) * 255
        _write_image(scene / "mask_visib" / f"{name}_{index:06d}.png", mask)


def _write_image(path: Path, image: NDArray[Any]) -> None:
    if not cv2.imwrite(str(path), image):
        raise OSError(f"{path}: the image could not be written")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def _write_ply(path: Path, mesh: trimesh.Trimesh) -> None:
    content = mesh.export(file_type="ply")
    image = texture_image(mesh)
    if image is not None:
        texture = path.with_suffix(".png")
        image.convert("RGB").save(texture)
        head, rest = content.split(b"element vertex", 1)
        content = head + f"comment TextureFile {texture.name}\n".encode() + b"element vertex" + rest
    path.write_bytes(content)


def _diameter(mesh: trimesh.Trimesh) -> float:
    """Largest distance between two vertices; both lie on the convex hull."""
    corners = np.asarray(mesh.convex_hull.vertices)
    return float(max(np.linalg.norm(corners - corner, axis=1).max() for corner in corners))
