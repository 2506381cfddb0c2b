"""A small SPE3R data set in the layout of v1.1: few satellites and images."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

SIZE = 64
FOCAL = 120.0
INTRINSICS = np.array([[FOCAL, 0, 31.5], [0, FOCAL, 31.5], [0, 0, 1]])
SPLITS = {"cubesat": "train", "long_panel": "train", "drum": "test", "aquarius_ud": "test"}


def satellite_mesh(name: str) -> trimesh.Trimesh:
    """Return a mesh within half a unit of its origin."""
    if name == "drum":
        return trimesh.creation.cylinder(radius=0.2, height=0.5, sections=24)
    edges = {"long_panel": (0.9, 0.3, 0.1)}.get(name, (0.4, 0.3, 0.5))
    return trimesh.creation.box(edges)


def satellite_pose(name: str, index: int) -> NDArray[np.float64]:
    """Return T_camera_object of an image, metres."""
    rng = np.random.default_rng([len(name), index])
    pose = np.eye(4)
    pose[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    pose[:3, 3] = (*rng.uniform(-0.1, 0.1, 2), rng.uniform(3.0, 4.0))
    return pose


def silhouette(mesh: trimesh.Trimesh, T_camera_object: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Draw the convex hull of the projected vertices as 255: these satellites are convex."""
    points = trimesh.transform_points(mesh.vertices, T_camera_object) @ INTRINSICS.T
    hull = cv2.convexHull((points[:, :2] / points[:, 2:]).astype(np.float32))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    # In sixteenths of a pixel: whole pixels would move the border by up to half a pixel.
    return cv2.fillConvexPoly(mask, np.rint(hull * 16).astype(np.int32), 255, shift=4)


def write_small_spe3r(folder: Path, images: int = 3) -> Path:
    """Write the data set and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    camera = {
        "Nu": SIZE, "Nv": SIZE, "ppx": 5.86e-6, "ppy": 5.86e-6, "fx": FOCAL * 5.86e-6,
        "fy": FOCAL * 5.86e-6, "ccx": 31.5, "ccy": 31.5, "cameraMatrix": INTRINSICS.tolist(),
        "distCoeffs": [0.0] * 5,
    }  # fmt: skip
    (folder / "camera.json").write_text(json.dumps(camera))
    (folder / "splits.csv").write_text("".join(f"{n},{kind}\n" for n, kind in SPLITS.items()))
    for name in SPLITS:
        for kind in ("images", "masks", "models"):
            (folder / name / kind).mkdir(parents=True)
        mesh = satellite_mesh(name)
        mesh.export(folder / name / "models" / "model_normalized.obj")
        labels = []
        for index in range(images):
            pose, stem = satellite_pose(name, index), f"img{index + 1:06d}"
            mask = silhouette(mesh, pose)
            cv2.imwrite(str(folder / name / "images" / f"{stem}.jpg"), mask // 2)
            cv2.imwrite(str(folder / name / "masks" / f"{stem}.png"), mask)
            quaternion = np.roll(Rotation.from_matrix(pose[:3, :3]).as_quat(), 1)
            labels.append(
                {
                    "filename": stem,
                    "q_vbs2tango_true": quaternion.tolist(),
                    "r_Vo2To_vbs_true": pose[:3, 3].tolist(),
                }
            )
        (folder / name / "labels.json").write_text(json.dumps(labels))
    return folder
