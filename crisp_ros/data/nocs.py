"""NOCS: CAMERA (rendered objects on real tables) and REAL275, six categories of household objects.

    DIR/CAMERA/{train,val}/FFFFF/IIII_*, DIR/Real/{train,test}/scene_N/IIII_*   (or camera, real)
        _color.png, _depth.png    depth: 16 bits or two of three 8-bit channels, millimetres
        _mask.png                 instance ids in red, 255: background
        _coord.png                normalised object coordinates, 8 bits each; blue runs backwards
        _meta.txt                 a line an instance: id, class, model (CAMERA: synset and model)
    DIR/obj_models/{train,val}/SYNSET/MODEL/model.obj           CAMERA, left-handed
    DIR/obj_models/{real_train,real_test}/MODEL.obj, MODEL.txt  Real; .txt: edges of its box, metres
    DIR/gts/{val,real_test}/results_..._SCENE_IIII.pkl          poses with scale, for evaluation

An object's normalised frame has the middle of its tight box at the origin (at a half in _coord.png)
and the box's diagonal as unit. Its metric frame, which is used here, has the same axes in metres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.files import DatasetError, read_image, read_rgb, read_text
from crisp_ros.data.meshes import load_mesh
from crisp_ros.data.nocs_truth import ScaledPose, aligned_poses, published_truth

CLASSES = ("bottle", "bowl", "camera", "can", "laptop", "mug")  # of ids 1, 2, ...
SUBSETS = ("camera_train", "camera_val", "real_train", "real_test")
_NO_DEPTH = 32001  # what CAMERA has where nothing was drawn
_BACKGROUND = 255
INTRINSICS = {
    "camera": np.array([[577.5, 0.0, 319.5], [0.0, 577.5, 239.5], [0.0, 0.0, 1.0]]),
    "real": np.array([[591.0125, 0.0, 322.525], [0.0, 590.16775, 244.11084], [0.0, 0.0, 1.0]]),
}
_SIZE = (480, 640)


class NocsImage(NamedTuple):
    """The place of an image in its subset: its folder and its number, both as named there."""

    scene: str
    index: str


@dataclass(frozen=True)
class NocsModel:
    """An object's mesh file; mirrored: its z axis points the other way than in the images."""

    name: str
    path: Path
    mirrored: bool

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """Normalised: middle of the box at the origin, diagonal 1. Raises MeshError."""
        mesh = load_mesh(self.path)
        lower, upper = mesh.bounds
        mesh.apply_translation(-(lower + upper) / 2.0)
        mesh.apply_scale(1.0 / np.linalg.norm(upper - lower))
        if self.mirrored:
            mesh.apply_transform(np.diag([1.0, 1.0, -1.0, 1.0]))  # also reverses the faces
        return mesh


@dataclass(frozen=True)
class NocsInstance:
    """One annotated object in one image.

    Attributes:
        label: its value in `NocsFrame.labels`, the instance id of the data set.
        category: one of `CLASSES`.
        T_camera_object: (4, 4) metric object frame to camera, metres.
        diagonal_m: of its tight box: what its normalised frame is multiplied by.
        size_m: (3,) edges of that box, object frame.
        handle_visible: False for a mug whose handle is out of sight, which is then symmetric.
        visible_px: size of its mask.
    """

    label: int
    category: str
    model: NocsModel
    T_camera_object: NDArray[np.float64]
    diagonal_m: float
    size_m: NDArray[np.float64]
    handle_visible: bool
    visible_px: int

    @property
    def mesh(self) -> trimesh.Trimesh:
        """Its surface in the metric object frame. Raises MeshError."""
        return self.model.mesh.copy().apply_scale(self.diagonal_m)


@dataclass(frozen=True)
class NocsFrame:
    """One annotated image.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres, 0 where unknown.
        labels: (H, W) int32, 0 for everything that is not in `instances`.
        coordinates: (H, W, 3) float32, normalised, -0.5 to 0.5; 0 where labels are.
        intrinsics: (3, 3) pixels.
        instances: those of the six categories that are seen and whose pose is known.
    """

    image: NocsImage
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.int32]
    coordinates: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    instances: tuple[NocsInstance, ...]


class NocsDataset:
    """One subset of a data set folder; everything is read when asked for.

    Args:
        folder: holds obj_models/ and CAMERA/ or Real/.
        subset: one of `SUBSETS`.

    Raises:
        DatasetError: a folder is missing.
    """

    def __init__(self, folder: str | Path, subset: str = "real_test") -> None:
        self.folder, self.subset = Path(folder), subset
        if subset not in SUBSETS:
            raise DatasetError(f"subset {subset}: expected one of {', '.join(SUBSETS)}")
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: no such folder; expected obj_models/ in it")
        self.source, part = subset.split("_")
        self.intrinsics = INTRINSICS[self.source]
        self.images_folder = subset_folder(self.folder, subset)
        if not self.images_folder.is_dir():
            raise DatasetError(f"{self.images_folder}: no such folder; expected scenes in it")
        self._models_folder = (
            self.folder / "obj_models" / (part if self.source == "camera" else subset)
        )
        if not self._models_folder.is_dir():
            raise DatasetError(f"{self._models_folder}: no such folder; expected meshes in it")
        self._models: dict[str, NocsModel] = {}

    @cached_property
    def images(self) -> tuple[NocsImage, ...]:
        """Every image, by scene and number."""
        paths = sorted(self.images_folder.glob("*/*_color.png"))
        if not paths:
            raise DatasetError(
                f"{self.images_folder}: no image in it; expected SCENE/0000_color.png, ..."
            )
        return tuple(NocsImage(p.parent.name, p.name.removesuffix("_color.png")) for p in paths)

    def models(self) -> tuple[NocsModel, ...]:
        """Every model of the subset, by name, whether an image shows it or not."""
        pattern = "*/*/model.obj" if self.source == "camera" else "*.obj"
        found = []
        for path in sorted(self._models_folder.glob(pattern)):
            place = path.parent if self.source == "camera" else path.with_suffix("")
            name = place.relative_to(self._models_folder).as_posix()
            found.append(NocsModel(name, path, self.source == "camera"))
        if not found:
            raise DatasetError(f"{self._models_folder}: no mesh in it; expected {pattern}")
        return tuple(found)

    def frames(self) -> Iterator[NocsFrame]:
        """Read `images` one after the other."""
        for image in self.images:
            yield self.frame(image)

    def colour_path(self, image: NocsImage) -> Path:
        """The file of the colour image."""
        return self.images_folder / image.scene / f"{image.index}_color.png"

    def frame(self, image: NocsImage) -> NocsFrame:
        """Read one image.

        Poses come from gts/ where it has the image; else they are found from the coordinate map
        and the depth, as the data set's makers do, and an instance for which that fails is left
        out. Handles are then taken for visible.

        Raises:
            DatasetError: a file is missing or not of the expected kind or size.
        """
        stem = self.images_folder / image.scene / image.index
        rgb = read_rgb(self.colour_path(image))
        if rgb.shape[:2] != _SIZE:
            raise DatasetError(
                f"{stem}_color.png: {rgb.shape[1]} x {rgb.shape[0]} pixels, expected 640 x 480"
            )
        depth = _read_depth(Path(f"{stem}_depth.png"))
        ids = _channels(Path(f"{stem}_mask.png"))[..., 0].astype(np.int32)
        coordinates = _channels(Path(f"{stem}_coord.png")).astype(np.float32) / 255.0 - 0.5
        coordinates[..., 2] *= -1.0
        lines = _read_meta(Path(f"{stem}_meta.txt"))
        sizes = np.bincount(ids.ravel(), minlength=_BACKGROUND + 1)
        seen = [line for line in lines if line.category and sizes[line.label] > 0]
        poses = self._poses(image, seen, ids, coordinates, depth)
        instances = tuple(
            self._instance(line, pose, int(sizes[line.label]))
            for line, pose in zip(seen, poses, strict=True)
            if pose is not None
        )
        shown = np.isin(ids, [instance.label for instance in instances])
        return NocsFrame(
            image=image,
            rgb=rgb,
            depth=depth,
            labels=np.where(shown, ids, 0),
            coordinates=np.where(shown[..., None], coordinates, np.float32(0.0)),
            intrinsics=self.intrinsics,
            instances=instances,
        )

    def truth_path(self, image: NocsImage) -> Path | None:
        """The published annotation of an image, None where there is none."""
        part = {"camera_val": "val", "real_test": "real_test"}.get(self.subset)
        if part is None:
            return None
        # Named after the folder of its kind, and after that of the images in later releases.
        names = {part, part.removeprefix("real_")}
        paths = (
            self.folder / "gts" / part / f"results_{name}_{image.scene}_{image.index}.pkl"
            for name in sorted(names)
        )
        return next((path for path in paths if path.is_file()), None)

    def _poses(
        self,
        image: NocsImage,
        seen: list[_Line],
        ids: NDArray[np.int32],
        coordinates: NDArray[np.float32],
        depth: NDArray[np.float32],
    ) -> list[ScaledPose | None]:
        path = self.truth_path(image)
        if path is not None:
            return list(published_truth(path, [line.class_id for line in seen]))
        masks = [ids == line.label for line in seen]
        poses = aligned_poses(masks, coordinates, depth, self.intrinsics)
        if self.source == "camera":
            return poses
        # Real objects were measured: their files say the scale better than an alignment does.
        return [
            replace(pose, scale_m=self._measured_diagonal(self._model(line))) if pose else None
            for pose, line in zip(poses, seen, strict=True)
        ]

    def _instance(self, line: _Line, pose: ScaledPose, visible_px: int) -> NocsInstance:
        model = self._model(line)
        size_m = pose.scale_m * (pose.size if pose.size is not None else model.mesh.extents)
        return NocsInstance(
            label=line.label,
            category=line.category,
            model=model,
            T_camera_object=pose.T_camera_object,
            diagonal_m=pose.scale_m,
            size_m=size_m,
            handle_visible=pose.handle_visible,
            visible_px=visible_px,
        )

    def _model(self, line: _Line) -> NocsModel:
        if line.model not in self._models:
            rest = f"{line.model}/model.obj" if self.source == "camera" else f"{line.model}.obj"
            path = self._models_folder / rest
            if not path.is_file():
                raise DatasetError(f"{path}: no such file, but {line.where} names this model")
            self._models[line.model] = NocsModel(line.model, path, self.source == "camera")
        return self._models[line.model]

    def _measured_diagonal(self, model: NocsModel) -> float:
        """Metres, of a real model's box."""
        path = model.path.with_suffix(".txt")
        try:
            edges = np.array([float(word) for word in read_text(path).split()])
        except ValueError:
            edges = np.zeros(0)
        if edges.shape != (3,) or not np.isfinite(edges).all() or not (edges > 0.0).all():
            raise DatasetError(f"{path}: expected the three edges of the object's box, metres")
        return float(np.linalg.norm(edges))


def subset_folder(folder: Path, subset: str) -> Path:
    """Return the folder of a subset's images: CAMERA or camera, Real or real."""
    source, part = subset.split("_")
    for name in {"camera": ("CAMERA", "camera"), "real": ("Real", "real")}[source]:
        if (folder / name / part).is_dir():
            return folder / name / part
    return folder / {"camera": "CAMERA", "real": "Real"}[source] / part


class _Line(NamedTuple):
    """A line of a meta file; category is "" for what belongs to none of the six."""

    label: int
    class_id: int
    category: str
    model: str
    where: str


def _read_meta(path: Path) -> list[_Line]:
    lines: list[_Line] = []
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        words = text.split()
        if not words:
            continue
        where = f"{path}: line {number}"
        if len(words) not in (3, 4) or not (words[0].isdecimal() and words[1].isdecimal()):
            raise DatasetError(f"{where}: expected an instance id, a class id and a model")
        label, class_id = int(words[0]), int(words[1])
        if not 1 <= label < _BACKGROUND or any(line.label == label for line in lines):
            raise DatasetError(f"{where}: expected an instance id of its own, 1 to 254")
        if class_id > len(CLASSES):
            raise DatasetError(f"{where}: class {class_id}: expected 0 to {len(CLASSES)}")
        if any(part in ("..", "") or "/" in part for part in words[2:]):
            raise DatasetError(f"{where}: expected the name of a model, got {words[-1]!r}")
        category = CLASSES[class_id - 1] if class_id else ""
        lines.append(_Line(label, class_id, category, "/".join(words[2:]), where))
    return sorted(lines)


def _channels(path: Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 in RGB order."""
    image = read_image(path, cv2.IMREAD_UNCHANGED, _SIZE)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] < 3:
        raise DatasetError(f"{path}: expected three or four channels of 8 bits")
    return image[..., 2::-1]


def _read_depth(path: Path) -> NDArray[np.float32]:
    """(H, W) float32 metres, 0 where unknown."""
    image = read_image(path, cv2.IMREAD_UNCHANGED, _SIZE)
    if image.ndim == 3 and image.dtype == np.uint8:
        millimetres = image[..., 1].astype(np.uint16) * 256 + image[..., 2]
    elif image.ndim == 2 and image.dtype == np.uint16:
        millimetres = image
    else:
        raise DatasetError(f"{path}: expected 16 bits, or three channels of 8, got {image.dtype}")
    return np.where(millimetres == _NO_DEPTH, 0, millimetres).astype(np.float32) * np.float32(1e-3)
