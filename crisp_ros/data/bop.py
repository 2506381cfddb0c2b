"""Data sets in the layout of the BOP benchmark.

    DIR/models/models_info.json, obj_OOOOOO.ply         object frame, millimetres
    DIR/SPLIT/SSSSSS/scene_camera.json, scene_gt.json   one entry an image
    DIR/SPLIT/SSSSSS/scene_gt_info.json                 visible shares, where there is one
    DIR/SPLIT/SSSSSS/rgb/IIIIII.png                     or .jpg; gray/ where there is no rgb/
    DIR/SPLIT/SSSSSS/depth/IIIIII.png                   16 bits; times depth_scale: millimetres
    DIR/SPLIT/SSSSSS/mask_visib/IIIIII_NNNNNN.png       visible pixels of entry N of scene_gt
    DIR/test_targets_bop19.json                         what is to be estimated, where listed

SPLIT is test, train_real, train_pbr, ... Everything read is in metres; millimetres stay in the
files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.bop_models import MM, BopModel, read_models
from crisp_ros.data.files import (
    DatasetError,
    array,
    find_image,
    integer,
    number,
    read_image,
    read_json,
    read_rgb,
    read_uint16,
    rigid,
    spelled_number,
)

__all__ = [
    "MM",
    "BopDataset",
    "BopFrame",
    "BopImage",
    "BopInstance",
    "BopModel",
    "DatasetError",
    "read_models",
]


@dataclass(frozen=True)
class BopInstance:
    """One annotated object in one image.

    Attributes:
        label: its value in `BopFrame.labels`, its index in scene_gt + 1.
        T_camera_object: (4, 4) object (model frame) to camera, metres.
        visible_px: size of its visible mask.
        visible_share: visible part of its silhouette, where scene_gt_info.json states it.
    """

    obj_id: int
    label: int
    T_camera_object: NDArray[np.float64]
    visible_px: int
    visible_share: float | None = None


@dataclass(frozen=True)
class BopFrame:
    """One annotated image.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres, 0 where unknown.
        labels: (H, W) int32, index of the instance + 1, 0 for the background.
        intrinsics: (3, 3) pinhole matrix, pixels; integer coordinates at pixel centres.
        T_world_camera: (4, 4) camera in the frame of its scene, metres, where stated.
    """

    scene_id: int
    image_id: int
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.int32]
    intrinsics: NDArray[np.float64]
    instances: tuple[BopInstance, ...]
    T_world_camera: NDArray[np.float64] | None = None


class BopImage(NamedTuple):
    """The place of an image in its data set."""

    scene_id: int
    image_id: int


class BopDataset:
    """A data set folder; models and annotations are read and checked, images when asked for.

    Args:
        folder: holds `models/` and the split.
        split: folder of the scenes.
        targets: a list in the form of test_targets_bop19.json; without one, the data set's own
            for this split where it has one.

    Raises:
        DatasetError: a file is missing or malformed.
    """

    def __init__(
        self, folder: str | Path, split: str = "test", targets: str | Path | None = None
    ) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(
                f"{self.folder}: no such folder; expected models/ and {split}/ in it"
            )
        self.split = split
        self.models = read_models(self.folder / "models")
        self._scenes = _read_scenes(self.folder / split)
        own = self.folder / f"{split.split('_')[0]}_targets_bop19.json"
        self.targets_path = Path(targets) if targets else own if own.is_file() else None
        self.targets = None if self.targets_path is None else _read_targets(self.targets_path)

    @cached_property
    def images(self) -> tuple[BopImage, ...]:
        """Every annotated image; where targets are listed, those of them that are here."""
        listed = tuple(
            BopImage(scene_id, image_id)
            for scene_id, scene in self._scenes.items()
            for image_id in scene.poses
        )
        if self.targets is None:
            return listed
        wanted = tuple(image for image in listed if image in self.targets)
        if not wanted:
            raise DatasetError(
                f"{self.targets_path}: none of its images is in {self.folder / self.split}"
            )
        return wanted

    def object_ids(self, image: BopImage) -> tuple[int, ...]:
        """Return the object ids of the instances of an image, in the order of their labels."""
        return tuple(pose.obj_id for pose in self._scenes[image.scene_id].poses[image.image_id])

    def is_target(self, image: BopImage, obj_id: int) -> bool:
        """Whether this object is to be estimated in this image; every one where none is listed."""
        return self.targets is None or obj_id in self.targets.get(image, {})

    def colour_path(self, image: BopImage) -> Path:
        """The file of the colour or grey image. Raises DatasetError."""
        folder = self._scenes[image.scene_id].folder
        grey = not (folder / "rgb").is_dir() and (folder / "gray").is_dir()
        return find_image(folder / ("gray" if grey else "rgb") / f"{image.image_id:06d}")

    def frames(self) -> Iterator[BopFrame]:
        """Read `images` one after the other."""
        for image in self.images:
            yield self.frame(image)

    def frame(self, image: BopImage) -> BopFrame:
        """Read one image with its masks.

        Raises:
            DatasetError: an image file is missing or not of the expected kind or size.
        """
        scene = self._scenes[image.scene_id]
        name = f"{image.image_id:06d}"
        rgb = read_rgb(self.colour_path(image))
        size = rgb.shape[:2]
        raw = read_uint16(find_image(scene.folder / "depth" / name), size)
        camera = scene.cameras[image.image_id]

        labels = np.zeros(size, np.int32)
        poses = scene.poses[image.image_id]
        for index in range(len(poses)):
            path = scene.folder / "mask_visib" / f"{name}_{index:06d}.png"
            labels[read_image(path, cv2.IMREAD_GRAYSCALE, size) > 0] = index + 1
        sizes = np.bincount(labels.ravel(), minlength=len(poses) + 1)
        instances = tuple(
            BopInstance(pose.obj_id, i + 1, pose.T_camera_object, int(sizes[i + 1]), share)
            for i, (pose, share) in enumerate(
                zip(poses, scene.visible_shares(image.image_id, len(poses)), strict=True)
            )
        )
        depth = (raw * (camera.depth_scale_mm * MM)).astype(np.float32)
        return BopFrame(
            *image, rgb, depth, labels, camera.intrinsics, instances, camera.T_world_camera
        )


@dataclass(frozen=True)
class _Camera:
    intrinsics: NDArray[np.float64]
    depth_scale_mm: float
    T_world_camera: NDArray[np.float64] | None


class _Pose(NamedTuple):
    obj_id: int
    T_camera_object: NDArray[np.float64]


@dataclass(frozen=True)
class _Scene:
    folder: Path
    cameras: dict[int, _Camera]
    poses: dict[int, tuple[_Pose, ...]]
    info: dict[str, Any]

    def visible_shares(self, image_id: int, count: int) -> list[float | None]:
        where = f"{self.folder / 'scene_gt_info.json'}: image {image_id}"
        entries = self.info.get(str(image_id), [{}] * count)
        if not isinstance(entries, list) or len(entries) != count:
            raise DatasetError(f"{where}: expected {count} entries, one for each of scene_gt.json")
        return [_visible_share(entry, where) for entry in entries]


def _visible_share(entry: Any, where: str) -> float | None:
    if isinstance(entry, Mapping) and "visib_fract" not in entry:
        return None
    share = number(entry, "visib_fract", where)
    if not 0.0 <= share <= 1.0:
        raise DatasetError(f"{where}: visib_fract: expected a share from 0 to 1, got {share:g}")
    return share


def _read_targets(path: Path) -> dict[BopImage, dict[int, int]]:
    """Read the number of instances to estimate per image and object id."""
    targets: dict[BopImage, dict[int, int]] = {}
    for index, entry in enumerate(read_json(path, list)):
        where = f"{path}: entry {index}"
        image = BopImage(integer(entry, "scene_id", where), integer(entry, "im_id", where))
        count = integer(entry, "inst_count", where)
        if count < 1:
            raise DatasetError(f"{where}: inst_count: expected 1 or more, got {count}")
        targets.setdefault(image, {})[integer(entry, "obj_id", where)] = count
    if not targets:
        raise DatasetError(f"{path}: no target in it")
    return targets


def _read_scenes(folder: Path) -> dict[int, _Scene]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected scenes in it (000001, ...)")
    scenes = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        scene_id = spelled_number(path.name)
        if scene_id is None:
            continue
        camera_path, pose_path = path / "scene_camera.json", path / "scene_gt.json"
        poses = {
            _image_id(key, pose_path): _poses(entries, f"{pose_path}: image {key}")
            for key, entries in read_json(pose_path, dict).items()
        }
        cameras = {
            _image_id(key, camera_path): _camera(entry, f"{camera_path}: image {key}")
            for key, entry in read_json(camera_path, dict).items()
        }
        for image_id in poses:
            if image_id not in cameras:
                raise DatasetError(f"{camera_path}: no camera for image {image_id}")
        info_path = path / "scene_gt_info.json"
        info = read_json(info_path, dict) if info_path.is_file() else {}
        scenes[scene_id] = _Scene(path, cameras, poses, info)
    if not scenes:
        raise DatasetError(f"{folder}: no scene in it; expected folders named 000001, ...")
    return scenes


def _camera(entry: Any, where: str) -> _Camera:
    intrinsics = array(entry, "cam_K", (3, 3), where)
    scale = number(entry, "depth_scale", where)
    if intrinsics[0, 0] <= 0.0 or intrinsics[1, 1] <= 0.0 or scale <= 0.0:
        raise DatasetError(f"{where}: focal lengths and depth_scale must be positive")
    T_world_camera = None
    if "cam_R_w2c" in entry:
        T_camera_world = _motions([entry], "w2c", where)[0]
        T_world_camera = np.linalg.inv(T_camera_world)
    return _Camera(intrinsics, scale, T_world_camera)


def _poses(entries: Any, where: str) -> tuple[_Pose, ...]:
    if not isinstance(entries, list):
        raise DatasetError(f"{where}: expected a list, one entry an instance")
    if not entries:
        return ()
    ids = [integer(entry, "obj_id", where) for entry in entries]
    return tuple(map(_Pose, ids, _motions(entries, "m2c", where)))


def _motions(entries: list[Any], kind: str, where: str) -> NDArray[np.float64]:
    """The motions (N, 4, 4) of cam_R_KIND and cam_t_KIND, metres."""
    motions = np.tile(np.eye(4), (len(entries), 1, 1))
    for motion, entry in zip(motions, entries, strict=True):
        motion[:3, :3] = array(entry, f"cam_R_{kind}", (3, 3), where)
        motion[:3, 3] = array(entry, f"cam_t_{kind}", (3,), where) * MM
    return rigid(motions, where)


def _image_id(key: str, path: Path) -> int:
    image_id = spelled_number(key)
    if image_id is None:
        raise DatasetError(f"{path}: expected image ids as keys, got {key!r}")
    return image_id
