"""A made data set of six categories on tables, in the layout of NOCS (Real).

Instances of training and of the test are different ones. The frame of an object is that of NOCS: y
is up, and a mug's handle is along x.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.cluster import MapFunction
from crisp_ros.data.nocs import CLASSES, INTRINSICS
from crisp_ros.data.recorded_frame import RecordedFrame
from crisp_ros.data.textured_obj import write_textured_obj
from crisp_ros.observation.frame import Camera

from .procedural import devices, tableware, vessels
from .procedural.shapes import Generator, drawn_shape
from .rendered_recording import RecordingSettings
from .renderer import Placement, Renderer, Scene
from .table_frames import table_views

CATEGORIES: Mapping[str, Sequence[Generator]] = {
    "bottle": (vessels.bottle, vessels.squeeze_bottle),
    "bowl": (tableware.bowl,),
    "camera": (devices.camera,),
    "can": (vessels.can,),
    "laptop": (devices.laptop,),
    "mug": (tableware.mug,),
}
_LONGEST_M = (0.02, 0.38)
_BACKGROUND = 255
_MIN_VISIBLE_PX = 300
_HANDLE_PX = 20  # of a handle that is in sight
_HANDLE_M = 0.003  # away from the body
_FX, _FY = INTRINSICS["real"][[0, 1], [0, 1]]
_CX, _CY = INTRINSICS["real"][:2, 2]
T_OBJECT_MADE = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], float)
"""From the frame of procedural objects, z up, to that of NOCS, y up."""


@dataclass(frozen=True)
class CategorySetSettings:
    """Settings of `write_category_set`.

    Attributes:
        train, test: instances of each category.
        train_scenes, test_scenes: tables.
        views: images of a table.
        objects: on a table, at most, of different categories where there are enough.
        recording: camera, sensors and layout; its number of frames is `views`.
    """

    train: int = 6
    test: int = 3
    train_scenes: int = 12
    test_scenes: int = 6
    views: int = 3
    objects: int = 5
    recording: RecordingSettings = field(
        default_factory=lambda: RecordingSettings(
            intrinsics=(_FX, _FY, _CX, _CY),
            spread_m=0.34,
            distance_m=(0.8, 1.05),
        )
    )


class _Part(NamedTuple):
    """The training part or the test part of the set.

    Attributes:
        name: train or test.
        instances: of each category.
        scenes: tables.
    """

    name: str
    instances: int
    scenes: int


def write_category_set(
    folder: Path,
    settings: CategorySetSettings,
    seed: int,
    on_scene: Callable[[int, int], None] = lambda done, total: None,
    mapped: MapFunction = map,
) -> None:
    """Write Real/, obj_models/ and gts/; a scene depends on the seed and its number alone.

    Args:
        folder: to write.
        settings: see `CategorySetSettings`.
        seed: of everything.
        on_scene: called after each table with the number done and the total.
        mapped: renders the tables; see `crisp_ros.cluster.mapping`.

    Raises:
        crisp_ros.data.recorded_frame.RecordingError: not even one object fits on a table.
        RendererError: nothing can be drawn on this machine.
        ModuleNotFoundError: manifold3d is not installed.
    """
    parts = (
        _Part("train", settings.train, settings.train_scenes),
        _Part("test", settings.test, settings.test_scenes),
    )
    done, total = 0, settings.train_scenes + settings.test_scenes
    for number, part in enumerate(parts):
        meshes = dict(_instances(part, [seed, number]))
        _write_models(folder / "obj_models" / f"real_{part.name}", meshes)
        rng = np.random.default_rng([seed, number, 1])
        tables = [_table(meshes, settings.objects, rng) for _ in range(part.scenes)]
        write = partial(_write_scene, folder, part.name, settings)
        seeds = [int(rng.integers(2**31)) for _ in tables]
        for _ in mapped(write, range(1, part.scenes + 1), tables, seeds):
            done += 1
            on_scene(done, total)


def _instances(part: _Part, seed: Sequence[int]) -> Iterator[tuple[str, trimesh.Trimesh]]:
    """Names, such as mug_train_2, and meshes of a part, z up."""
    for place, category in enumerate(CLASSES):
        generators = CATEGORIES[category]
        for number in range(part.instances):
            generator = generators[number % len(generators)]
            mesh = drawn_shape(generator, [*seed, place, number], _LONGEST_M).mesh
            yield f"{category}_{part.name}_{number}", mesh


def _write_models(folder: Path, meshes: Mapping[str, trimesh.Trimesh]) -> None:
    for name, mesh in meshes.items():
        upright = mesh.copy()
        upright.apply_transform(T_OBJECT_MADE)
        write_textured_obj(folder / f"{name}.obj", upright)
        edges = " ".join(f"{edge:.9f}" for edge in upright.extents)
        (folder / f"{name}.txt").write_text(f"{edges}\n")


def _table(
    meshes: Mapping[str, trimesh.Trimesh], objects: int, rng: np.random.Generator
) -> dict[str, trimesh.Trimesh]:
    """Objects for a table, of different categories first."""
    order = [str(name) for name in rng.permutation(list(meshes))]
    rank = {name: sum(_category(o) == _category(name) for o in order[:i])
            for i, name in enumerate(order)}  # fmt: skip
    chosen = sorted(order, key=lambda name: rank[name])[:objects]
    return {name: meshes[name] for name in chosen}


def _category(name: str) -> str:
    return name.split("_")[0]


def _write_scene(
    folder: Path,
    part: str,
    settings: CategorySetSettings,
    scene: int,
    table: Mapping[str, trimesh.Trimesh],
    seed: int,
) -> None:
    place = folder / "Real" / part / f"scene_{scene}"
    place.mkdir(parents=True, exist_ok=True)
    annotations = folder / "gts" / "real_test"
    annotations.mkdir(parents=True, exist_ok=True)
    recording = replace(settings.recording, frames=settings.views)
    pictures = _TablePictures(table, recording.camera)
    try:
        for index, frame in enumerate(table_views(table, recording, seed)):
            truths = pictures.write(place / f"{index:04d}", frame)
            if part == "test":
                path = annotations / f"results_real_test_scene_{scene}_{index:04d}.pkl"
                path.write_bytes(pickle.dumps(_annotation(truths), protocol=2))
    finally:
        pictures.release()


class _Truth(NamedTuple):
    """An object in an image, in the frame of NOCS.

    Attributes:
        name: of the object.
        T_camera_object: (4, 4) metres.
        size_m: (3,) edges of its box.
        handle_visible: False for a mug whose handle is out of sight.
    """

    name: str
    T_camera_object: NDArray[np.float64]
    size_m: NDArray[np.float64]
    handle_visible: bool


class _TablePictures:
    """Writes the files of images of a table."""

    def __init__(self, table: Mapping[str, trimesh.Trimesh], camera: Camera) -> None:
        self._names, self._camera = list(table), camera
        self._sizes = {name: mesh.extents[[0, 2, 1]] for name, mesh in table.items()}
        self._renderer = Renderer(list(table.values()), camera.width, camera.height)

    def release(self) -> None:
        self._renderer.release()

    def write(self, stem: Path, frame: RecordedFrame) -> list[_Truth]:
        """Write an image's five files and return what is annotated in it, in its order."""
        placed = [Placement(self._names.index(t.name), t.T_camera_object) for t in frame.truth]
        drawn = self._renderer.render(Scene(self._camera, tuple(placed)))
        ids = np.full(frame.labels.shape, _BACKGROUND, np.uint8)
        coordinates = np.full((*frame.labels.shape, 3), 255, np.uint8)
        truths: list[_Truth] = []
        for number, true in enumerate(frame.truth, start=1):
            mask = (frame.labels == true.label) & (drawn.instances == number)
            if np.count_nonzero(mask) < _MIN_VISIBLE_PX:
                continue
            size, points = self._sizes[true.name], drawn.pnc[mask] @ T_OBJECT_MADE[:3, :3].T
            pose = true.T_camera_object @ np.linalg.inv(T_OBJECT_MADE)
            truths.append(_Truth(true.name, pose, size, _handle_visible(true.name, points, size)))
            ids[mask] = len(truths)
            normalised = points / np.linalg.norm(size) * [1.0, 1.0, -1.0] + 0.5
            coordinates[mask] = np.clip(np.rint(255.0 * normalised), 0, 255)
        lines = [
            f"{number} {CLASSES.index(_category(truth.name)) + 1} {truth.name}\n"
            for number, truth in enumerate(truths, start=1)
        ]
        Path(f"{stem}_meta.txt").write_text("".join(lines))
        _write_image(f"{stem}_color.png", cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2BGR))
        _write_image(f"{stem}_depth.png", frame.depth)
        _write_image(f"{stem}_mask.png", np.repeat(ids[..., None], 3, axis=2))
        _write_image(f"{stem}_coord.png", coordinates[..., ::-1])
        return truths


def _handle_visible(name: str, points: NDArray[np.floating], size_m: NDArray[np.float64]) -> bool:
    """Whether points (N, 3) that are seen of an object show a mug's handle; True for the others."""
    if _category(name) != "mug":
        return True
    body = -size_m[0] / 2.0 + size_m[2]  # where the round body ends along x
    return bool(np.count_nonzero(points[:, 0] > body + _HANDLE_M) >= _HANDLE_PX)


def _annotation(truths: Sequence[_Truth]) -> dict[str, Any]:
    """An image's annotation as the files of gts/ have it: poses with the scale in them."""
    scaled = np.zeros((len(truths), 4, 4))
    diagonals = np.array([np.linalg.norm(truth.size_m) for truth in truths])
    for pose, truth, diagonal in zip(scaled, truths, diagonals, strict=True):
        pose[:] = truth.T_camera_object
        pose[:3, :3] *= diagonal
    sizes = np.array([truth.size_m for truth in truths]).reshape(-1, 3)
    return {
        "gt_class_ids": np.array([CLASSES.index(_category(t.name)) + 1 for t in truths], np.int32),
        "gt_RTs": scaled,
        "gt_scales": sizes / diagonals[:, None],
        "gt_handle_visibility": np.array([int(truth.handle_visible) for truth in truths]),
    }


def _write_image(path: str, image: NDArray[Any]) -> None:
    if not cv2.imwrite(path, image):
        raise OSError(f"{path}: the image could not be written")
