"""The reference set of a model: rendered crops with ground truth, and the guard's limits."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from crisp_ros.adaptation.samples import POINTS
from crisp_ros.adaptation.tensor_file import (
    TensorFileError,
    encode_tensor_file,
    read_tensor_file,
)
from crisp_ros.correction.batch import evenly_spaced
from crisp_ros.data.atomic_file import write_atomically
from crisp_ros.data.bop import BopFrame
from crisp_ros.geometry.se3 import invert
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.maps import crop_grid
from crisp_ros.network.model import CrispNetwork
from crisp_ros.observation.crop_channels import GEOMETRY_CHANNELS, quantise_crops
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.observe import ObservationSettings, observe
from crisp_ros.synthesis.scattered_frames import DomainSettings
from crisp_ros.synthesis.scattered_models import ScatteredModels

SUFFIX = ".reference.safetensors"
LARGEST_FILE = 3_000_000  # bytes

_FRAMES_PER_CROP = 40  # maximum number of rendered frames per crop of a shape
_FORMAT = "crisp_ros_reference_1"
_ZERO = 32768  # 16-bit value of 0 in the geometry images
_GEOMETRY = ("grid", "points", "T_object_camera", "shape")


class ReferenceSetError(ValueError):
    """A reference set that cannot be built or used."""


class Accuracy(NamedTuple):
    """Accuracy of heads without the corrector, which would hide a loss of accuracy.

    Attributes:
        pose: area under the ADD-S accuracy curve to 2 cm, of the registration, 0 to 1.
        shape: share of codes that are nearest to the right library shape, 0 to 1.
    """

    pose: float
    shape: float


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of the guard, stored in the reference set, so that no parameter changes them.

    Attributes:
        accuracy_loss: by which pose and shape accuracy may be lower than those of the original
            model.
        live_loss: by which the live score may be lower than that of the heads in use.
        quantile: of the certificate in the live score.
        threshold_m: of the certificate in the live score, metres.
    """

    accuracy_loss: float = 0.01
    live_loss: float = 0.005
    quantile: float = 0.98
    threshold_m: float = 0.01


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceSet:
    """R rendered objects with their ground truth.

    Attributes:
        model: SHA-256 of the model.
        original: accuracy of this model; NaN until it is measured.
        limits: see `Limits`.
        crops: (R, C, S, S) integers, see `quantise_crops`.
        grid: (R, N, 2) in [-1, 1], positions of the points in their crops.
        points: (R, N, 3) camera frame, metres.
        T_object_camera: (R, 4, 4) true poses.
        shape: (R,) library index.
    """

    model: str
    original: Accuracy
    limits: Limits
    crops: Tensor
    grid: Tensor
    points: Tensor
    T_object_camera: Tensor
    shape: Tensor

    def __len__(self) -> int:
        return len(self.crops)


def reference_crops(
    model: Model,
    frames: Iterable[BopFrame],
    names: dict[int, str],
    crops_per_shape: int = 6,
    points: int = POINTS // 2,
) -> ReferenceSet:
    """Build a reference set from annotated frames, with the same number of crops of each object.

    Args:
        model: with a shape library and the checksum of its file in the header.
        frames: read until there are enough crops of every object.
        names: of the frames' objects by id, as in the library.
        crops_per_shape: number of crops of each object.
        points: number of depth points per crop.

    Raises:
        ReferenceSetError: the model has no library or no checksum, an object is not in the library,
            or the frames show an object too rarely.
    """
    if model.library is None or "sha256" not in model.header:
        raise ReferenceSetError("a reference set needs a model file that has a shape library")
    index = {name: k for k, name in enumerate(model.library.names)}
    unknown = sorted(set(names.values()) - set(index))
    if unknown:
        raise ReferenceSetError(
            f"objects that are not in the model's library: {', '.join(unknown)}"
        )
    wanted = {index[name] for name in names.values()}
    settings = ObservationSettings(points=points, min_points=points, max_objects=None)
    count: Counter[int] = Counter()
    kept: list[tuple[Tensor, ...]] = []
    for frame in frames:
        for instance, parts in _objects(frame, settings, model.network):
            shape = index[names[instance.obj_id]]
            if count[shape] < crops_per_shape:
                count[shape] += 1
                kept.append((*parts, torch.tensor(shape)))
        if all(count[shape] == crops_per_shape for shape in wanted):
            break
    else:
        few = [n for n in names.values() if count[index[n]] < crops_per_shape]
        raise ReferenceSetError(
            f"the frames show fewer than {crops_per_shape} usable views of {', '.join(few)}: "
            "give more frames"
        )
    nothing = Accuracy(float("nan"), float("nan"))
    tensors = (torch.stack(part) for part in zip(*kept, strict=True))
    return ReferenceSet(model.header["sha256"], nothing, Limits(), *tensors)


def rendered_reference(
    model: Model,
    objects: ScatteredModels,
    domain: DomainSettings,
    crops_per_shape: int = 6,
    seed: int = 2026,
    points: int = POINTS // 2,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> ReferenceSet:
    """Build a reference set from rendered frames of scattered objects; see `reference_crops`.

    Args:
        model: with a shape library and the checksum of its file in the header.
        objects: the scattered objects.
        domain: light and backgrounds of the frames.
        crops_per_shape: number of crops of each object.
        seed: of the frames.
        points: number of depth points per crop.
        on_frame: called with the number of rendered frames and their maximum.

    Raises:
        ReferenceSetError: see `reference_crops`.
        RendererError: there is no renderer.
    """
    frames = objects.frames(domain, _FRAMES_PER_CROP * crops_per_shape, seed, on_frame)
    return reference_crops(model, frames, objects.names, crops_per_shape, points)


def _objects(frame: BopFrame, settings: ObservationSettings, network: CrispNetwork):
    """Yield (instance, (crop, grid, points, T_object_camera)) for the usable objects of a frame."""
    shown = Frame.from_recorded(frame)
    seen = observe(
        shown,
        settings,
        network.crop_size,
        network.sees_geometry,
        network.crop_rule,
    )
    chosen = evenly_spaced(seen.valid, settings.points)[..., None]
    points = seen.points.gather(1, chosen.expand(-1, -1, 3))
    grid = crop_grid(seen.pixels, seen.boxes).gather(1, chosen.expand(-1, -1, 2)).half().float()
    crops = quantise_crops(seen.crops)
    instances = {instance.label: instance for instance in frame.instances}
    for i, label in enumerate(seen.labels.tolist()):
        T = invert(torch.from_numpy(instances[label].T_camera_object)).float()
        yield instances[label], (crops[i], grid[i], points[i], T)


def reference_path(checkpoint: Path) -> Path:
    """Return the path of the reference set of a model file: next to it."""
    return checkpoint.with_name(checkpoint.name.removesuffix(".safetensors") + SUFFIX)


def save_reference(path: Path | str, reference: ReferenceSet) -> None:
    """Write a reference set, with the crops as PNG without loss.

    Raises:
        ReferenceSetError: the file would be larger than 3 MB.
        OSError: the file cannot be written.
    """
    tensors = {name: getattr(reference, name) for name in _GEOMETRY}
    tensors["grid"] = tensors["grid"].half()
    tensors |= _packed("", [_colour_picture(crop) for crop in reference.crops])
    if reference.crops.shape[1] > 3:
        tensors |= _packed("geometry_", [_geometry_picture(crop) for crop in reference.crops])
    header = {
        "model": reference.model,
        "original": reference.original._asdict(),
        "limits": dataclasses.asdict(reference.limits),
    }
    contents = encode_tensor_file(_FORMAT, header, tensors)
    if len(contents) > LARGEST_FILE:
        raise ReferenceSetError(
            f"{path}: {len(reference)} crops take {len(contents) / 1e6:.1f} MB, more than "
            f"{LARGEST_FILE / 1e6:g} MB: take fewer of each shape"
        )
    write_atomically(Path(path), contents)


def load_reference(path: Path | str, model: Model) -> ReferenceSet:
    """Read the reference set of a model, or of a self-trained version of it.

    Raises:
        ReferenceSetError: the file is missing, damaged, or of another model.
    """
    path = Path(path)
    try:
        header, tensors = read_tensor_file(path, _FORMAT)
    except TensorFileError as error:
        raise ReferenceSetError(
            f"reference set {path}: {error}; make one by `crisp render reference`"
        ) from error
    if header["model"] != original_of(model):
        raise ReferenceSetError(
            f"reference set {path} was made for model {header['model'][:12]}, not for "
            f"{original_of(model)[:12]}: make one by `crisp render reference`"
        )
    crops = torch.stack([_colour(picture) for picture in _unpacked("", tensors)])
    if "geometry_pictures" in tensors:
        geometry = [_geometry(picture) for picture in _unpacked("geometry_", tensors)]
        crops = torch.cat([crops.to(torch.int16), torch.stack(geometry)], dim=1)
    tensors["grid"] = tensors["grid"].float()
    return ReferenceSet(
        header["model"],
        Accuracy(**header["original"]),
        Limits(**header["limits"]),
        crops,
        *(tensors[name] for name in _GEOMETRY),
    )


def original_of(model: Model) -> str:
    """Return the checksum of the model that self-training started from, or of the model itself."""
    adapted: dict[str, Any] = model.header.get("self_training", {})
    return str(adapted.get("original", model.header.get("sha256", "")))


def _packed(prefix: str, pictures: list[np.ndarray]) -> dict[str, Tensor]:
    """Concatenate PNG files and list their lengths."""
    return {
        f"{prefix}pictures": torch.from_numpy(np.concatenate(pictures)),
        f"{prefix}lengths": torch.tensor([len(picture) for picture in pictures]),
    }


def _unpacked(prefix: str, tensors: dict[str, Tensor]) -> list[np.ndarray]:
    pictures = tensors[f"{prefix}pictures"].numpy()
    return np.split(pictures, tensors[f"{prefix}lengths"].cumsum(0)[:-1].numpy())


def _colour_picture(crop: Tensor) -> np.ndarray:
    return _encoded(crop[:3].to(torch.uint8).permute(1, 2, 0).numpy())


def _colour(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(cv2.imdecode(picture, cv2.IMREAD_COLOR)).permute(2, 0, 1).contiguous()


def _geometry_picture(crop: Tensor) -> np.ndarray:
    """Encode the geometry channels, one below the other, as one 16-bit image."""
    rows = crop[3:].flatten(0, 1).to(torch.int32) + _ZERO
    return _encoded(rows.numpy().astype(np.uint16))


def _geometry(picture: np.ndarray) -> Tensor:
    rows = cv2.imdecode(picture, cv2.IMREAD_UNCHANGED).astype(np.int32) - _ZERO
    return torch.from_numpy(rows.astype(np.int16)).unflatten(0, (GEOMETRY_CHANNELS, -1))


def _encoded(pixels: np.ndarray) -> np.ndarray:
    done, picture = cv2.imencode(".png", pixels, (cv2.IMWRITE_PNG_COMPRESSION, 9))
    if not done:
        raise ReferenceSetError("a crop could not be written as PNG")
    return picture.reshape(-1)
