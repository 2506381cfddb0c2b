"""Data sets in the layout of the BOP benchmark.

    DIR/models/models_info.json, obj_OOOOOO.ply         object frame, millimetres
    DIR/test/SSSSSS/scene_camera.json, scene_gt.json    one entry an image
    DIR/test/SSSSSS/rgb/IIIIII.png, depth/IIIIII.png    16 bits; times depth_scale: millimetres
    DIR/test/SSSSSS/mask_visib/IIIIII_NNNNNN.png        visible pixels of entry N of scene_gt

Everything read is in metres; millimetres stay in the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.data.meshes import load_mesh

MM = 1e-3  # the layout's unit in metres
_IMAGE_TYPES = (".png", ".jpg", ".jpeg")


class DatasetError(ValueError):
    """A data set that does not follow the layout; names the file and what was expected there."""


class SymmetryAxis(NamedTuple):
    """A line about which the object may turn freely: direction (3,), point (3,) on it, metres."""

    direction: NDArray[np.float64]
    point: NDArray[np.float64]


@dataclass(frozen=True)
class BopModel:
    """One object model.

    Attributes:
        path: its mesh file.
        diameter_m: largest distance between two of its points.
        lower, upper: (3,) corners of its bounding box, object frame, metres.
        discrete_symmetries: (S, 4, 4) motions that map the object onto itself, identity first.
        symmetry_axes: the continuous symmetries.
    """

    obj_id: int
    name: str
    path: Path
    diameter_m: float
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    discrete_symmetries: NDArray[np.float64] = field(default_factory=lambda: np.eye(4)[None])
    symmetry_axes: tuple[SymmetryAxis, ...] = ()

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """The textured mesh in metres, read when first asked for. Raises MeshError."""
        return load_mesh(self.path, unit_m=MM)

    def symmetries(self, steps: int = 360) -> NDArray[np.float64]:
        """All symmetries (S, 4, 4), identity first, every full turn in equal steps."""
        group = self.discrete_symmetries
        for axis in self.symmetry_axes:
            angles = np.linspace(0.0, 2.0 * np.pi, steps, endpoint=False)
            turns = np.tile(np.eye(4), (steps, 1, 1))
            turns[:, :3, :3] = Rotation.from_rotvec(angles[:, None] * axis.direction).as_matrix()
            turns[:, :3, 3] = axis.point - turns[:, :3, :3] @ axis.point
            group = (group[:, None] @ turns).reshape(-1, 4, 4)
        return group


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
    """

    scene_id: int
    image_id: int
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.int32]
    intrinsics: NDArray[np.float64]
    instances: tuple[BopInstance, ...]


class BopImage(NamedTuple):
    """The place of an image in its data set."""

    scene_id: int
    image_id: int


class BopDataset:
    """A data set folder; models and annotations are read and checked, images when asked for.

    Args:
        folder: holds `models/` and the split.
        split: folder of the scenes.

    Raises:
        DatasetError: a file is missing or malformed.
    """

    def __init__(self, folder: str | Path, split: str = "test") -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DatasetError(
                f"{self.folder}: no such folder; expected models/ and {split}/ in it"
            )
        self.split = split
        self.models = read_models(self.folder / "models")
        self._scenes = _read_scenes(self.folder / split)

    @cached_property
    def images(self) -> tuple[BopImage, ...]:
        """Every annotated image; only the targets where the data set lists its BOP-19 targets."""
        listed = [
            BopImage(scene_id, image_id)
            for scene_id, scene in self._scenes.items()
            for image_id in scene.poses
        ]
        targets = self.folder / f"{self.split}_targets_bop19.json"
        if not targets.is_file():
            return tuple(listed)
        wanted = {
            BopImage(_integer(entry, "scene_id", targets), _integer(entry, "im_id", targets))
            for entry in read_json(targets, list)
        }
        return tuple(image for image in listed if image in wanted)

    def frames(self) -> Iterator[BopFrame]:
        """Reads `images` one after the other."""
        for image in self.images:
            yield self.frame(image)

    def frame(self, image: BopImage) -> BopFrame:
        """Reads one image with its masks.

        Raises:
            DatasetError: an image file is missing or not of the expected kind or size.
        """
        scene = self._scenes[image.scene_id]
        name = f"{image.image_id:06d}"
        rgb_path = _image_file(scene.folder / "rgb" / name)
        rgb = cv2.cvtColor(_read_image(rgb_path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        depth_path = scene.folder / "depth" / f"{name}.png"
        raw = _read_image(depth_path, cv2.IMREAD_UNCHANGED, rgb.shape[:2])
        if raw.dtype != np.uint16 or raw.ndim != 2:
            raise DatasetError(f"{depth_path}: expected one channel of 16 bits, got {raw.dtype}")
        camera = scene.cameras[image.image_id]

        labels = np.zeros(rgb.shape[:2], np.int32)
        poses = scene.poses[image.image_id]
        for index in range(len(poses)):
            mask_path = scene.folder / "mask_visib" / f"{name}_{index:06d}.png"
            mask = _read_image(mask_path, cv2.IMREAD_GRAYSCALE, rgb.shape[:2])
            labels[mask > 0] = index + 1
        sizes = np.bincount(labels.ravel(), minlength=len(poses) + 1)
        instances = tuple(
            BopInstance(pose.obj_id, i + 1, pose.T_camera_object, int(sizes[i + 1]), share)
            for i, (pose, share) in enumerate(
                zip(poses, scene.visible_shares(image.image_id, len(poses)), strict=True)
            )
        )
        depth = (raw * (camera.depth_scale_mm * MM)).astype(np.float32)
        return BopFrame(*image, rgb, depth, labels, camera.intrinsics, instances)


@dataclass(frozen=True)
class _Camera:
    intrinsics: NDArray[np.float64]
    depth_scale_mm: float


@dataclass(frozen=True)
class _Pose:
    obj_id: int
    T_camera_object: NDArray[np.float64]


@dataclass(frozen=True)
class _Scene:
    folder: Path
    cameras: dict[int, _Camera]
    poses: dict[int, tuple[_Pose, ...]]
    info: dict[str, Any]

    def visible_shares(self, image_id: int, count: int) -> list[float | None]:
        entries = self.info.get(str(image_id), [{}] * count)
        if not isinstance(entries, list) or len(entries) != count:
            raise DatasetError(
                f"{self.folder / 'scene_gt_info.json'}: image {image_id}: expected {count} entries,"
                " one for each of scene_gt.json"
            )
        return [entry.get("visib_fract") for entry in entries]


def read_models(folder: Path) -> dict[int, BopModel]:
    """The models of a folder by object id. Raises DatasetError."""
    info_path = folder / "models_info.json"
    models = {}
    for key, entry in read_json(info_path, dict).items():
        where = f"{info_path}: model {key}"
        if not key.isdigit():
            raise DatasetError(f"{where}: expected object ids as keys")
        path = folder / f"obj_{int(key):06d}.ply"
        if not path.is_file():
            raise DatasetError(f"{path}: no such file, but {info_path} lists model {key}")
        lower = np.array([_number(entry, f"min_{axis}", where) for axis in "xyz"]) * MM
        size = np.array([_number(entry, f"size_{axis}", where) for axis in "xyz"]) * MM
        models[int(key)] = BopModel(
            obj_id=int(key),
            name=str(entry.get("name", path.stem)),
            path=path,
            diameter_m=_number(entry, "diameter", where) * MM,
            lower=lower,
            upper=lower + size,
            discrete_symmetries=_discrete_symmetries(entry, where),
            symmetry_axes=tuple(
                SymmetryAxis(
                    _unit(_array(axis, "axis", (3,), where), where),
                    _array(axis, "offset", (3,), where) * MM,
                )
                for axis in entry.get("symmetries_continuous", [])
            ),
        )
    return models


def _discrete_symmetries(entry: Mapping[str, Any], where: str) -> NDArray[np.float64]:
    group = [np.eye(4)]
    for index in range(len(entry.get("symmetries_discrete", []))):
        motion = _array(entry["symmetries_discrete"], index, (4, 4), where)
        motion[:3, 3] *= MM
        group.append(_rigid(motion, where))
    return np.stack(group)


def _read_scenes(folder: Path) -> dict[int, _Scene]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected scenes in it (000001, ...)")
    scenes = {}
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and p.name.isdigit()):
        camera_path, pose_path = path / "scene_camera.json", path / "scene_gt.json"
        poses = {
            _image_id(key, pose_path): tuple(
                _pose(entry, f"{pose_path}: image {key}") for entry in entries
            )
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
        scenes[int(path.name)] = _Scene(path, cameras, poses, info)
    if not scenes:
        raise DatasetError(f"{folder}: no scene in it; expected folders named 000001, ...")
    return scenes


def _camera(entry: Any, where: str) -> _Camera:
    intrinsics = _array(entry, "cam_K", (3, 3), where)
    scale = _number(entry, "depth_scale", where)
    if intrinsics[0, 0] <= 0.0 or intrinsics[1, 1] <= 0.0 or scale <= 0.0:
        raise DatasetError(f"{where}: focal lengths and depth_scale must be positive")
    return _Camera(intrinsics, scale)


def _pose(entry: Any, where: str) -> _Pose:
    T_camera_object = np.eye(4)
    T_camera_object[:3, :3] = _array(entry, "cam_R_m2c", (3, 3), where)
    T_camera_object[:3, 3] = _array(entry, "cam_t_m2c", (3,), where) * MM
    return _Pose(_integer(entry, "obj_id", where), _rigid(T_camera_object, where))


def _rigid(motion: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """Returns the motion with an exactly orthonormal rotation; files round theirs."""
    u, _, vt = np.linalg.svd(motion[:3, :3])
    nearest = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    if np.abs(nearest - motion[:3, :3]).max() > 1e-2:
        raise DatasetError(f"{where}: expected a rotation matrix, got {motion[:3, :3].tolist()}")
    motion[:3, :3] = nearest
    return motion


def _unit(direction: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    length = np.linalg.norm(direction)
    if length == 0.0:
        raise DatasetError(f"{where}: a symmetry axis of length zero")
    return direction / length


def read_json(path: Path, kind: type) -> Any:
    """Reads a JSON file whose top level is a `kind`. Raises DatasetError."""
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file; the BOP layout has one") from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, kind):
        raise DatasetError(f"{path}: expected a JSON {kind.__name__}")
    return content


def _array(
    entry: Any, key: str | int, shape: tuple[int, ...], where: str | Path
) -> NDArray[np.float64]:
    try:
        values = np.asarray(entry[key], dtype=np.float64).reshape(shape)
    except (KeyError, IndexError, TypeError, ValueError):
        values = None
    if values is None or not np.isfinite(values).all():
        raise DatasetError(f"{where}: {key}: expected {int(np.prod(shape))} finite numbers")
    return values


def _number(entry: Any, key: str, where: str | Path) -> float:
    return float(_array(entry, key, (), where))


def _integer(entry: Any, key: str, where: str | Path) -> int:
    return int(_array(entry, key, (), where))


def _image_id(key: str, path: Path) -> int:
    if not key.isdigit():
        raise DatasetError(f"{path}: expected image ids as keys, got {key!r}")
    return int(key)


def _image_file(stem: Path) -> Path:
    for suffix in _IMAGE_TYPES:
        if stem.with_suffix(suffix).is_file():
            return stem.with_suffix(suffix)
    raise DatasetError(f"{stem}: no image of this name, tried {', '.join(_IMAGE_TYPES)}")


def _read_image(path: Path, mode: int, size: tuple[int, int] | None = None) -> NDArray[Any]:
    image = cv2.imread(str(path), mode) if path.is_file() else None
    if image is None:
        raise DatasetError(f"{path}: expected an image, but it is missing or not readable")
    if size is not None and image.shape[:2] != size:
        raise DatasetError(
            f"{path}: {image.shape[1]} x {image.shape[0]} pixels,"
            f" but the colour image has {size[1]} x {size[0]}"
        )
    return image
