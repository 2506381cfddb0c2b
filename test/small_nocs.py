"""A small NOCS data set in the original layout: CAMERA val, Real test and Real train."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.observation.frame import Camera
from crisp_ros.synthesis.renderer import Placement, Renderer, Rendering, Scene

CAMERA_INTRINSICS = Camera(577.5, 577.5, 319.5, 239.5, 640, 480)
REAL_INTRINSICS = Camera(591.0125, 590.16775, 322.525, 244.11084, 640, 480)
SYNSETS = {"bottle": "02876657", "mug": "03797390", "laptop": "03642806"}
CLASS_IDS = {"bottle": 1, "laptop": 5, "mug": 6}


class Item(NamedTuple):
    """An object in an image: its instance id, category and pose."""

    label: int
    category: str
    T_camera_object: NDArray[np.float64]


def metric_mesh(category: str) -> trimesh.Trimesh:
    """Return a mesh of about 20 cm, box centred at the origin, y up, no two axes alike."""
    upright = trimesh.transformations.rotation_matrix(-np.pi / 2, (1, 0, 0))
    if category == "bottle":
        mesh = trimesh.creation.cylinder(radius=0.035, height=0.2, sections=24).apply_transform(
            upright
        )
    elif category == "mug":
        mesh = trimesh.creation.cylinder(radius=0.04, height=0.09, sections=24).apply_transform(
            upright
        )
        handle = trimesh.creation.box((0.03, 0.05, 0.012)).apply_translation((0.05, 0.01, 0.0))
        mesh = trimesh.util.concatenate([mesh, handle])
    else:
        base = trimesh.creation.box((0.24, 0.02, 0.16))
        lid = trimesh.creation.box((0.24, 0.15, 0.02)).apply_translation((0.0, 0.08, -0.07))
        mesh = trimesh.util.concatenate([base, lid])
    return mesh.apply_translation(-mesh.bounds.mean(axis=0))


def diagonal(category: str) -> float:
    """Return the diagonal of a category's bounding box, metres."""
    return float(np.linalg.norm(metric_mesh(category).extents))


def items(seed: int) -> tuple[Item, ...]:
    """Return a bottle, a mug and a laptop side by side, seen from above."""
    rng = np.random.default_rng(seed)
    found = []
    for label, category, x in ((2, "bottle", -0.22), (4, "mug", 0.0), (5, "laptop", 0.25)):
        tilt = Rotation.from_euler("yx", (rng.uniform(-40, 40), 200), degrees=True)
        pose = np.eye(4)
        pose[:3, :3] = tilt.as_matrix()
        pose[:3, 3] = (x, 0.02, rng.uniform(0.8, 0.9))
        found.append(Item(label, category, pose))
    return tuple(found)


def write_small_nocs(folder: Path) -> Path:
    """Write two images of CAMERA val, two of Real test and one of Real train."""
    for category, synset in SYNSETS.items():
        mesh = metric_mesh(category)
        mesh.apply_scale(1.0 / diagonal(category))
        mirrored = mesh.copy().apply_transform(np.diag([1.0, 1.0, -1.0, 1.0]))
        for part in ("train", "val"):
            model = folder / "obj_models" / part / synset / f"{category}0"
            model.mkdir(parents=True)
            mirrored.export(model / "model.obj")
            bounds = mirrored.bounds[::-1]
            np.savetxt(model / "bbox.txt", bounds)
        for part in ("real_train", "real_test"):
            (folder / "obj_models" / part).mkdir(parents=True, exist_ok=True)
            mesh.export(folder / "obj_models" / part / f"{category}_a_norm.obj")
            edges = metric_mesh(category).extents[None]
            np.savetxt(folder / "obj_models" / part / f"{category}_a_norm.txt", edges)
    meshes = [metric_mesh(category) for category in SYNSETS]
    renderer = Renderer(meshes, 640, 480)
    for index in range(2):
        scene = folder / "CAMERA" / "val" / "00000"
        _write_image(renderer, scene, index, CAMERA_INTRINSICS, items(index))
        _write_truth(folder / "gts" / "val" / f"results_val_00000_{index:04d}.pkl", items(index))
        scene = folder / "Real" / "test" / "scene_1"
        _write_image(renderer, scene, index, REAL_INTRINSICS, items(10 + index))
        name = f"results_real_test_scene_1_{index:04d}.pkl"
        _write_truth(folder / "gts" / "real_test" / name, items(10 + index))
    _write_image(renderer, folder / "Real" / "train" / "scene_1", 7, REAL_INTRINSICS, items(20))
    renderer.release()
    return folder


def _write_image(
    renderer: Renderer, scene: Path, index: int, camera: Camera, shown: tuple[Item, ...]
) -> None:
    scene.mkdir(parents=True, exist_ok=True)
    order = list(SYNSETS)
    placements = tuple(Placement(order.index(i.category), i.T_camera_object) for i in shown)
    drawn = renderer.render(Scene(camera, placements))
    stem = str(scene / f"{index:04d}")
    synthetic = "CAMERA" in scene.parts
    labels = np.array([255, *(item.label for item in shown)], np.uint8)[drawn.instances]
    cv2.imwrite(f"{stem}_color.png", cv2.cvtColor(drawn.rgb, cv2.COLOR_RGB2BGR))
    cv2.imwrite(f"{stem}_mask.png", _four_channels(np.repeat(labels[..., None], 3, axis=2)))
    cv2.imwrite(f"{stem}_coord.png", _coordinates(drawn, shown))
    millimetres = np.rint(1e3 * drawn.depth).astype(np.uint16)
    if synthetic:
        millimetres[drawn.depth == 0] = 32001
        high, low = millimetres // 256, millimetres % 256
        cv2.imwrite(
            f"{stem}_depth.png",
            np.stack([np.zeros_like(high), high, low], axis=2).astype(np.uint8),
        )
    else:
        cv2.imwrite(f"{stem}_depth.png", millimetres)
    lines = [
        f"{i.label} {CLASS_IDS[i.category]} "
        + (f"{SYNSETS[i.category]} {i.category}0" if synthetic else f"{i.category}_a_norm")
        for i in shown
    ]
    # One object that is not visible, and one without a category.
    other = "02876657 bottle0" if synthetic else "bottle_a_norm"
    lines = [f"1 1 {other}", f"3 0 {other}", *lines]
    Path(f"{stem}_meta.txt").write_text("\n".join(lines) + "\n")


def _coordinates(drawn: Rendering, shown: tuple[Item, ...]) -> NDArray[np.uint8]:
    """Return coordinates as BGR, in OpenCV's order; blue, the z axis, is inverted."""
    diagonals = np.array([1.0, *(diagonal(item.category) for item in shown)])[drawn.instances]
    unit = drawn.pnc / diagonals[..., None] + 0.5
    unit[..., 2] = 1.0 - unit[..., 2]
    unit[drawn.instances == 0] = 1.0
    return np.rint(255.0 * unit).astype(np.uint8)[..., ::-1]


def _four_channels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=2)


def _write_truth(path: Path, shown: tuple[Item, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    poses = np.stack([item.T_camera_object for item in shown])
    diagonals = np.array([diagonal(item.category) for item in shown])
    poses[:, :3, :3] *= diagonals[:, None, None]
    edges = np.stack([metric_mesh(item.category).extents for item in shown])
    content = {
        "gt_RTs": poses,
        "gt_scales": edges / diagonals[:, None],
        "gt_class_ids": np.array([CLASS_IDS[item.category] for item in shown], np.int32),
        "handle_visibility": np.array([item.label != 4 for item in shown], np.int32),
    }
    path.write_bytes(pickle.dumps(content, protocol=2))
