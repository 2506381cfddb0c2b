"""A small, exact BOP data set of analytic objects, drawn with a z-buffer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.data.bop import BopFrame, BopInstance
from crisp_ros.data.bop_writer import write_frames, write_models

WIDTH, HEIGHT = 160, 120
INTRINSICS = np.array([[200.0, 0.0, 79.5], [0.0, 210.0, 60.0], [0.0, 0.0, 1.0]])


def primitives() -> dict[int, trimesh.Trimesh]:
    """Return a box, a cylinder (axis z) and a ball of about 10 cm, metres, by object id."""
    return {
        1: trimesh.creation.box((0.10, 0.06, 0.04)),
        2: trimesh.creation.cylinder(radius=0.03, height=0.11, sections=48),
        5: trimesh.creation.icosphere(3, radius=0.04),
    }


def model_info() -> dict[int, dict]:
    """Return names and symmetries in the format of models_info.json."""
    half_rotation = np.diag([-1.0, -1.0, 1.0, 1.0])
    return {
        1: {"name": "box", "symmetries_discrete": [half_rotation.ravel().tolist()]},
        2: {
            "name": "can",
            "symmetries_discrete": [np.diag([1.0, -1.0, -1.0, 1.0]).ravel().tolist()],
            "symmetries_continuous": [{"axis": [0, 0, 1], "offset": [0, 0, 0]}],
        },
        5: {"name": "ball"},
    }


def pose(degrees: tuple[float, float, float], place: tuple[float, float, float]) -> NDArray:
    """Return T_camera_object (4, 4) from Euler angles xyz, degrees, and a position, metres."""
    T_camera_object = np.eye(4)
    T_camera_object[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    T_camera_object[:3, 3] = place
    return T_camera_object


def draw(mesh: trimesh.Trimesh, T_camera_object: NDArray) -> NDArray:
    """Depth image (HEIGHT, WIDTH) of one mesh in metres, infinite where it is not seen."""
    vertices = trimesh.transform_points(mesh.vertices, T_camera_object)
    projected = vertices @ INTRINSICS.T
    pixels = projected[:, :2] / projected[:, 2:]
    depth = np.full((HEIGHT, WIDTH), np.inf)
    for face in mesh.faces:
        corners = pixels[face]
        left, top = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
        right, bottom = np.ceil(corners.max(axis=0)).astype(int)
        u, v = np.meshgrid(
            np.arange(left, min(right + 1, WIDTH)), np.arange(top, min(bottom + 1, HEIGHT))
        )
        (ax, ay), (bx, by), (cx, cy) = corners
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if abs(area) < 1e-12 or u.size == 0:
            continue
        second = ((u - ax) * (cy - ay) - (cx - ax) * (v - ay)) / area
        third = ((bx - ax) * (v - ay) - (u - ax) * (by - ay)) / area
        first = 1.0 - second - third
        inside = (first >= 0) & (second >= 0) & (third >= 0)
        # Inverse depth, not depth, is linear over the image.
        inverse = np.stack([first, second, third], axis=-1) @ (1.0 / vertices[face, 2])
        u, v, z = u[inside], v[inside], 1.0 / inverse[inside]
        depth[v, u] = np.minimum(depth[v, u], z)
    return depth


def draw_frame(
    scene_id: int, image_id: int, placed: list[tuple[int, NDArray]], wall_m: float = 1.5
) -> BopFrame:
    """Draw objects (id, T_camera_object) in front of a wall, one colour per label."""
    meshes = primitives()
    layers = [np.full((HEIGHT, WIDTH), wall_m)] + [draw(meshes[i], T) for i, T in placed]
    labels = np.argmin(layers, axis=0).astype(np.int32)
    palette = np.random.default_rng(0).integers(30, 220, (len(layers), 3)).astype(np.uint8)
    instances = []
    for index, (obj_id, T_camera_object) in enumerate(placed):
        visible = int(np.sum(labels == index + 1))
        share = visible / int(np.isfinite(layers[index + 1]).sum())
        instances.append(BopInstance(obj_id, index + 1, T_camera_object, visible, share))
    return BopFrame(
        scene_id=scene_id,
        image_id=image_id,
        rgb=palette[labels],
        depth=np.min(layers, axis=0).astype(np.float32),
        labels=labels,
        intrinsics=INTRINSICS,
        instances=tuple(instances),
    )


def tiny_frames() -> list[BopFrame]:
    """Return two images of scene 1 and one of scene 7, seven instances in all."""
    return [
        draw_frame(1, 3, [
            (1, pose((20, 30, 10), (-0.10, 0.0, 0.6))),
            (2, pose((80, 0, 40), (0.05, 0.02, 0.7))),
            (5, pose((0, 0, 0), (0.15, -0.06, 0.8))),
        ]),
        draw_frame(1, 12, [
            (1, pose((200, 10, 0), (0.05, 0.05, 0.65))),
            (2, pose((10, 50, 0), (-0.08, 0.0, 0.6))),
        ]),
        draw_frame(7, 0, [
            (1, pose((20, 30, 10), (0.0, 0.0, 0.6))),
            (1, pose((70, 0, 0), (0.15, 0.02, 0.75))),
        ]),
    ]  # fmt: skip


def write_tiny_bop(folder: Path) -> Path:
    """Write the data set and return its folder."""
    write_models(folder, primitives(), model_info())
    write_frames(folder, tiny_frames())
    return folder
