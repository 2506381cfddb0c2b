"""Stored renders of clutter from which the segmentation network learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.atomic_file import atomic_file
from crisp_ros.synthesis.clutter_frames import ClutterFrame, ClutterSettings, clutter_frames

DEPTH_UNIT_M = 1e-4  # of stored depth, 16 bits


class StoredFrames(NamedTuple):
    """N frames.

    Attributes:
        rgb: (N, H, W, 3) uint8.
        depth: (N, H, W) uint16, in units of `DEPTH_UNIT_M`, 0 where nothing was measured.
        labels: (N, H, W) uint8, 0 for what is no object.
        intrinsics: (N, 4) fx, fy, cx, cy in pixels.
        plane: (N, 4) true support plane in the camera frame.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.uint16]
    labels: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    plane: NDArray[np.float64]


def write_frames(
    path: Path,
    meshes: Sequence[trimesh.Trimesh],
    settings: ClutterSettings,
    seed: int,
    frames: int,
) -> None:
    """Render frames to a file, which appears when it is complete."""
    columns = zip(*map(_row, clutter_frames(meshes, settings, seed, frames)), strict=True)
    stored = StoredFrames(*map(np.stack, columns))
    with atomic_file(path) as file:
        np.savez(file, **stored._asdict())


def read_frames(path: Path) -> StoredFrames:
    """Read the frames of a file of `write_frames`."""
    with np.load(path) as arrays:
        return StoredFrames(**{name: arrays[name] for name in StoredFrames._fields})


def _row(frame: ClutterFrame) -> tuple[NDArray, ...]:
    camera = frame.camera
    depth = np.clip(np.rint(frame.depth / DEPTH_UNIT_M), 0, 65535).astype(np.uint16)
    intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy])
    return frame.rgb, depth, frame.labels, intrinsics, frame.plane
