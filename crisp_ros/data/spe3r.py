"""SPE3R v1.1: images of satellites before black space, their masks, poses and meshes.

    DIR/camera.json                                   pinhole camera of all images
    DIR/splits.csv                                    one line a satellite: name, train or test
    DIR/SATELLITE/labels.json                         one entry an image: file name and pose
    DIR/SATELLITE/images/NAME.jpg, masks/NAME.png     mask: the satellite is above 128
    DIR/SATELLITE/models/model_normalized.obj         object frame, the unit of the poses
    DIR/SATELLITE/depths/NAME.png                     16 bits, 65,536 steps are 100 m; made by us
    DIR/SATELLITE/nocs/NAME.png                       3 x 16 bits, 65,536 steps are 1 m from -0.5 m

The last two are no part of the published data: `crisp data maps DIR` draws them from the meshes.
The meshes have about the size of a unit cube, and lengths are called metres here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from crisp_ros.data.files import (
    DatasetError,
    array,
    read_image,
    read_json,
    read_rgb,
    read_text,
    read_uint16,
)
from crisp_ros.data.meshes import load_mesh

Split = Literal["train", "validation", "test", "all"]

MAX_DEPTH_M = 100.0
DEPTH_STEP_M = MAX_DEPTH_M / 65536
COORDINATE_STEP_M = 1.0 / 65536
COORDINATE_OFFSET_M = 0.5
WRONG_POSES = ("aquarius_ud",)  # labelled wrongly in v1.1; left out, as the paper does
_HALF = 500  # of a satellite's images; of each half the last fifth is for validation
_TRAINED = 400


class Spe3rImage(NamedTuple):
    """The place of an image in its data set: the satellite's name, the number of its label."""

    satellite: str
    index: int


@dataclass(frozen=True)
class Spe3rLabel:
    """One annotated image: its file name without ending, and T_camera_object (4, 4), metres."""

    name: str
    T_camera_object: NDArray[np.float64]


@dataclass(frozen=True)
class Satellite:
    """One satellite with its labels, in the order of labels.json."""

    name: str
    folder: Path
    labels: tuple[Spe3rLabel, ...]

    @property
    def mesh_path(self) -> Path:
        """Path of its mesh."""
        return self.folder / "models" / "model_normalized.obj"

    @cached_property
    def mesh(self) -> trimesh.Trimesh:
        """Its mesh, metres, read when first asked for. Raises MeshError."""
        return load_mesh(self.mesh_path)


@dataclass(frozen=True)
class Spe3rFrame:
    """One image with all that is known of it.

    Attributes:
        rgb: (H, W, 3) uint8; the images are grey.
        depth: (H, W) float32 metres, 0 where there is no satellite.
        labels: (H, W) int32, 1 on the satellite, 0 elsewhere.
        coordinates: (H, W, 3) float32 object-frame metres, 0 where depth is.
        intrinsics: (3, 3) pixels.
        T_camera_object: (4, 4) metres.
    """

    image: Spe3rImage
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.int32]
    coordinates: NDArray[np.float32]
    intrinsics: NDArray[np.float64]
    T_camera_object: NDArray[np.float64]


class Spe3rDataset:
    """A data set folder; labels are read and checked, images and maps when asked for.

    Args:
        folder: as downloaded.
        split: train and validation share the satellites of training (of each thousand images
            number 1 to 400 and 501 to 900 against the rest); test has satellites of its own.

    Raises:
        DatasetError: a file is missing or malformed.
    """

    def __init__(self, folder: str | Path, split: Split = "test") -> None:
        self.folder = Path(folder)
        if split not in get_args(Split):
            raise DatasetError(f"split {split}: expected one of {', '.join(get_args(Split))}")
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: no such folder; expected splits.csv in it")
        self.split = split
        self.intrinsics, self.size = _read_camera(self.folder / "camera.json")
        wanted = {"train": ("train",), "validation": ("train",), "test": ("test",)}.get(split)
        self.satellites = {
            name: _read_satellite(self.folder / name)
            for name, kind in _read_splits(self.folder / "splits.csv").items()
            if name not in WRONG_POSES and (wanted is None or kind in wanted)
        }
        if not self.satellites:
            raise DatasetError(f"{self.folder / 'splits.csv'}: no satellite of split {split}")

    @cached_property
    def images(self) -> tuple[Spe3rImage, ...]:
        """Every image of the split."""
        return tuple(
            Spe3rImage(satellite.name, index)
            for satellite in self.satellites.values()
            for index in range(len(satellite.labels))
            if self._holds(index)
        )

    def _holds(self, index: int) -> bool:
        if self.split == "train":
            return index % _HALF < _TRAINED
        return self.split != "validation" or index % _HALF >= _TRAINED

    def frames(self) -> Iterator[Spe3rFrame]:
        """Read `images` one after the other."""
        for image in self.images:
            yield self.frame(image)

    def frame(self, image: Spe3rImage) -> Spe3rFrame:
        """Read one image with its mask and its derived maps.

        Raises:
            DatasetError: a file is missing or not of the expected kind or size.
        """
        satellite = self.satellites[image.satellite]
        label = satellite.labels[image.index]
        rgb, mask = self.picture(image)
        depth_path = satellite.folder / "depths" / f"{label.name}.png"
        if not depth_path.is_file():
            raise DatasetError(f"{depth_path}: no such map; make them by: crisp data maps DIR")
        raw = read_uint16(depth_path, self.size)
        steps = read_uint16(satellite.folder / "nocs" / f"{label.name}.png", self.size, 3)
        seen = raw > 0
        coordinates = steps * COORDINATE_STEP_M - COORDINATE_OFFSET_M
        return Spe3rFrame(
            image=image,
            rgb=rgb,
            depth=(raw * DEPTH_STEP_M).astype(np.float32),
            labels=(mask & seen).astype(np.int32),
            coordinates=np.where(seen[..., None], coordinates, 0.0).astype(np.float32),
            intrinsics=self.intrinsics,
            T_camera_object=label.T_camera_object,
        )

    def colour_path(self, image: Spe3rImage) -> Path:
        """The file of the colour image."""
        satellite = self.satellites[image.satellite]
        return satellite.folder / "images" / f"{satellite.labels[image.index].name}.jpg"

    def picture(self, image: Spe3rImage) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The colour image (H, W, 3) and mask (H, W) alone. Raises DatasetError."""
        satellite = self.satellites[image.satellite]
        name = satellite.labels[image.index].name
        path = self.colour_path(image)
        rgb = read_rgb(path)
        if rgb.shape[:2] != self.size:
            height, width = self.size
            raise DatasetError(
                f"{path}: {rgb.shape[1]} x {rgb.shape[0]} pixels,"
                f" but camera.json has {width} x {height}"
            )
        mask_path = satellite.folder / "masks" / f"{name}.png"
        mask = read_image(mask_path, cv2.IMREAD_GRAYSCALE, self.size)
        return rgb, mask > 128


def _read_camera(path: Path) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Intrinsics (3, 3), and height and width of the images."""
    content = read_json(path, dict)
    matrix = array(content, "cameraMatrix", (3, 3), path)
    width, height = (int(array(content, key, (), path)) for key in ("Nu", "Nv"))
    if min(matrix[0, 0], matrix[1, 1], width, height) <= 0:
        raise DatasetError(f"{path}: focal lengths and image size must be positive")
    if "distCoeffs" in content and array(content, "distCoeffs", (-1,), path).any():
        raise DatasetError(f"{path}: distCoeffs: expected a camera without distortion")
    return matrix, (height, width)


def _read_splits(path: Path) -> dict[str, str]:
    kinds: dict[str, str] = {}
    for number, row in enumerate(csv.reader(io.StringIO(read_text(path))), start=1):
        if not row:
            continue
        fields = [field.strip() for field in row]
        if len(fields) < 2 or fields[1] not in ("train", "test"):
            raise DatasetError(f"{path}: line {number}: expected NAME,train or NAME,test")
        if not fields[0] or Path(fields[0]).name != fields[0] or fields[0] in kinds:
            raise DatasetError(f"{path}: line {number}: expected the name of one more satellite")
        kinds[fields[0]] = fields[1]
    return kinds


def _read_satellite(folder: Path) -> Satellite:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder, but splits.csv lists it")
    path = folder / "labels.json"
    labels = tuple(
        _label(entry, f"{path}: entry {index}") for index, entry in enumerate(read_json(path, list))
    )
    satellite = Satellite(folder.name, folder, labels)
    if not satellite.mesh_path.is_file():
        raise DatasetError(f"{satellite.mesh_path}: no such file; expected the satellite's mesh")
    return satellite


def _label(entry: Any, where: str) -> Spe3rLabel:
    name = entry.get("filename") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise DatasetError(f"{where}: filename: expected the name of an image")
    quaternion = array(entry, "q_vbs2tango_true", (4,), where)  # scalar first
    if not 0.9 < np.linalg.norm(quaternion) < 1.1:
        raise DatasetError(f"{where}: q_vbs2tango_true: expected a unit quaternion")
    T_camera_object = np.eye(4)
    T_camera_object[:3, :3] = Rotation.from_quat(np.roll(quaternion, -1)).as_matrix()
    T_camera_object[:3, 3] = array(entry, "r_Vo2To_vbs_true", (3,), where)
    return Spe3rLabel(Path(name).stem, T_camera_object)
