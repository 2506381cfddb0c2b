"""Depth and coordinate maps of SPE3R, which is published without: drawn from its meshes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.files import DatasetError
from crisp_ros.data.spe3r import (
    COORDINATE_OFFSET_M,
    COORDINATE_STEP_M,
    DEPTH_STEP_M,
    Satellite,
    Spe3rDataset,
)
from crisp_ros.observation.frame import Camera
from crisp_ros.synthesis.renderer import Placement, Renderer, Scene

_COMFORTABLE_M = 5.0  # far from both ends of what the renderer can see


def write_maps(
    dataset: Spe3rDataset, on_image: Callable[[int, int], None] = lambda done, total: None
) -> int:
    """Write depths/ and nocs/ of every image of the split that lacks them; return how many.

    Args:
        on_image: called after each image with the number done and the total.

    Raises:
        DatasetError: a satellite does not fit into the range of the maps.
        crisp_ros.data.meshes.MeshError: a mesh cannot be read.
        RendererError: nothing can be drawn on this machine.
    """
    total, done, written = len(dataset.images), 0, 0
    by_satellite: dict[str, list[int]] = {}
    for image in dataset.images:
        by_satellite.setdefault(image.satellite, []).append(image.index)
    for name, indices in by_satellite.items():
        satellite = dataset.satellites[name]
        missing = [index for index in indices if not _complete(satellite, index)]
        done += len(indices) - len(missing)
        if not missing:
            continue
        height, width = dataset.size
        renderer = Renderer([satellite.mesh], width, height)
        try:
            for index in missing:
                _write(renderer, satellite, index, dataset.intrinsics)
                done, written = done + 1, written + 1
                on_image(done, total)
        finally:
            renderer.release()
    return written


def _paths(satellite: Satellite, index: int) -> tuple[Path, Path]:
    name = f"{satellite.labels[index].name}.png"
    return satellite.folder / "depths" / name, satellite.folder / "nocs" / name


def _complete(satellite: Satellite, index: int) -> bool:
    return all(path.is_file() for path in _paths(satellite, index))


def _write(
    renderer: Renderer, satellite: Satellite, index: int, intrinsics: NDArray[np.float64]
) -> None:
    pose = satellite.labels[index].T_camera_object
    # The camera sees the same where the world is small and near as where it is large and far.
    shrink = _COMFORTABLE_M / max(np.linalg.norm(pose[:3, 3]), 1e-6)
    placed = pose.copy()
    placed[:3] *= shrink
    camera = Camera.from_matrix(intrinsics, renderer.width, renderer.height)
    drawn = renderer.render(Scene(camera, (Placement(0, placed),)))
    seen = drawn.instances > 0
    depth = np.rint(drawn.depth / shrink / DEPTH_STEP_M)
    coordinates = np.rint((drawn.pnc + COORDINATE_OFFSET_M) / COORDINATE_STEP_M)
    if depth.max() > 65535 or not ((coordinates >= 0) & (coordinates <= 65535))[seen].all():
        raise DatasetError(
            f"{satellite.mesh_path}: image {satellite.labels[index].name}: expected a mesh within"
            " half a unit of its origin, less than 100 units away"
        )
    coordinates[~seen] = 0
    depth_path, coordinates_path = _paths(satellite, index)
    _write_png(coordinates_path, coordinates.astype(np.uint16)[..., ::-1])
    _write_png(depth_path, depth.astype(np.uint16))


def _write_png(path: Path, image: NDArray[np.uint16]) -> None:
    """Whole or not at all, so that an interrupted run can go on."""
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    if not cv2.imwrite(str(unfinished), image):
        raise OSError(f"{path}: the image could not be written")
    unfinished.replace(path)
