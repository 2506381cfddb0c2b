"""The health of a data set folder: what is in it, and everything that is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.bop import BopDataset, BopFrame, BopImage
from crisp_ros.data.files import DatasetError, MeshError, exif_orientation, spelled_number
from crisp_ros.data.nocs import SUBSETS, NocsDataset, subset_folder
from crisp_ros.data.spe3r import Spe3rDataset

Kind = Literal["bop", "spe3r", "nocs"]

_SIZE_TOLERANCE = 0.05  # between a mesh and what models_info.json says of it
_MIN_SHARE = 0.1  # an object that is less visible need not have a pixel
_Image = TypeVar("_Image")


@dataclass
class Health:
    """Result of a check.

    Attributes:
        kind: of the data set.
        facts: counts and notes, in the order in which they are reported.
        problems: each names a file and what was expected there.
    """

    kind: Kind
    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"kind": self.kind, "facts": self.facts, "problems": self.problems}


def detect_kind(folder: Path) -> Kind:
    """Detect the layout of a data set folder. Raises DatasetError."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder")
    if (folder / "splits.csv").is_file():
        return "spe3r"
    if (folder / "obj_models").is_dir() or any(subset_folder(folder, s).is_dir() for s in SUBSETS):
        return "nocs"
    if (folder / "models").is_dir() or _bop_splits(folder):
        return "bop"
    raise DatasetError(
        f"{folder}: no known data set: expected models/ and scenes (BOP), splits.csv (SPE3R)"
        " or obj_models/ (NOCS)"
    )


def check_dataset(
    folder: Path,
    every: int = 1,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Health:
    """Read all annotations and meshes, and every n-th image.

    Args:
        on_image: called after each image with the number done and the total of its part.

    Raises:
        DatasetError: the folder has none of the known layouts.
    """
    health = Health(detect_kind(folder))
    check = {"bop": _check_bop, "spe3r": _check_spe3r, "nocs": _check_nocs}[health.kind]
    check(folder, health, every, on_image)
    return health


def _check_bop(folder: Path, health: Health, every: int, on_image: Callable) -> None:
    splits = _bop_splits(folder)
    if not splits:
        health.problems.append(f"{folder}: no split; expected test/, train_pbr/, ... with scenes")
    checked = False
    for split in splits:
        try:
            dataset = BopDataset(folder, split)
            images = dataset.images
        except DatasetError as error:
            health.problems.append(str(error))
            continue
        if not checked:  # the models are those of all splits
            checked = True
            health.facts["models"] = str(len(dataset.models))
            health.problems += _bop_models(dataset)
        scenes = {image.scene_id for image in images}
        facts = f"{len(images)} images of {len(scenes)} scenes"
        if dataset.targets is not None:
            facts += f", {len(dataset.targets) - len(images)} targets elsewhere"
        health.facts[split] = facts
        frames = _read(images[::every], dataset.frame, dataset, health, on_image)
        shown = Counter(i.obj_id for f in frames for i in _bop_instances(dataset, f, health))
        health.facts[f"{split}, instances"] = f"{sum(shown.values())} of {len(shown)} objects"


def _bop_splits(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and _has_scenes(path))


def _has_scenes(folder: Path) -> bool:
    return any(
        p.is_dir() and len(p.name) == 6 and spelled_number(p.name) is not None
        for p in folder.iterdir()
    )


def _bop_models(dataset: BopDataset) -> Iterator[str]:
    for model in dataset.models.values():
        try:
            lower, upper = model.mesh.bounds
        except MeshError as error:
            yield str(error)
            continue
        yield from (f"{model.path}: {note}" for note in model.mesh.metadata["notes"])
        off = np.abs(np.concatenate([lower - model.lower, upper - model.upper])).max()
        if off > _SIZE_TOLERANCE * model.diameter_m:
            yield (
                f"{model.path}: its box is {1e3 * off:.3g} mm off that of models_info.json;"
                " expected millimetres in both"
            )


def _bop_instances(dataset: BopDataset, frame: BopFrame, health: Health) -> Iterator[Any]:
    """The instances of a frame; what the images say against their annotations is a problem."""
    where = f"{dataset.folder / dataset.split}/{frame.scene_id:06d}: image {frame.image_id}"
    image = BopImage(frame.scene_id, frame.image_id)
    for instance in frame.instances:
        yield instance
        named = f"{where}: object {instance.obj_id}"
        if instance.obj_id not in dataset.models:
            health.problems.append(f"{named}: expected a model of it in models_info.json")
            continue
        if instance.visible_px == 0:
            if (instance.visible_share or 0.0) >= _MIN_SHARE:
                health.problems.append(f"{named}: its mask is empty, but it is said to be visible")
            continue
        depths = frame.depth[(frame.labels == instance.label) & (frame.depth > 0)]
        off = _off(depths, float(instance.T_camera_object[2, 3]))
        if off > dataset.models[instance.obj_id].diameter_m:
            health.problems.append(
                f"{named}: its depth is {off:.2f} m off its pose; expected less than its diameter"
            )
    if dataset.targets is not None:
        shown = {instance.obj_id for instance in frame.instances}
        for obj_id in set(dataset.targets[image]) - shown:
            health.problems.append(f"{where}: object {obj_id} is a target, but not annotated")


def _off(depths: NDArray[np.float32], z: float) -> float:
    return abs(float(np.median(depths)) - z) if len(depths) else 0.0


def _check_spe3r(folder: Path, health: Health, every: int, on_image: Callable) -> None:
    try:
        dataset = Spe3rDataset(folder, "all")
    except DatasetError as error:
        health.problems.append(str(error))
        return
    health.facts["satellites"] = str(len(dataset.satellites))
    health.facts["images"] = str(len(dataset.images))
    for satellite in dataset.satellites.values():
        try:
            reach = float(np.abs(satellite.mesh.bounds).max())
        except MeshError as error:
            health.problems.append(str(error))
            continue
        if reach > 0.5:
            health.problems.append(
                f"{satellite.mesh_path}: reaches {reach:.3g} units from its origin; expected 0.5"
            )
    mapped = [s for s in dataset.satellites.values() if (s.folder / "depths").is_dir()]
    health.facts["with depth and coordinate maps"] = str(len(mapped))
    names = {satellite.name for satellite in mapped}
    with_maps = [image for image in dataset.images if image.satellite in names]
    without = [image for image in dataset.images if image.satellite not in names]
    for frame in _read(with_maps[::every], dataset.frame, dataset, health, on_image):
        if not frame.labels.any():
            path = dataset.satellites[frame.image.satellite].folder / "masks"
            health.problems.append(f"{path}: image {frame.image.index}: its mask and map disagree")
    for _ in _read(without[::every], dataset.picture, dataset, health, on_image):
        pass


def _check_nocs(folder: Path, health: Health, every: int, on_image: Callable) -> None:
    found = [subset for subset in SUBSETS if subset_folder(folder, subset).is_dir()]
    if not found:
        health.problems.append(f"{folder}: no images; expected CAMERA/ or Real/ and obj_models/")
    for subset in found:
        try:
            dataset = NocsDataset(folder, subset)
            images = dataset.images
        except DatasetError as error:
            health.problems.append(str(error))
            continue
        published = sum(dataset.truth_path(image) is not None for image in images)
        scenes = {image.scene for image in images}
        health.facts[subset] = (
            f"{len(images)} images of {len(scenes)} scenes, {published} with published poses"
        )
        counts: Counter[str] = Counter()
        read: set[Path] = set()
        for frame in _read(images[::every], dataset.frame, dataset, health, on_image):
            for instance in frame.instances:
                counts[instance.category] += 1
                if instance.model.path not in read:
                    read.add(instance.model.path)
                    _load(instance.model, health)
                depths = frame.depth[(frame.labels == instance.label) & (frame.depth > 0)]
                off = _off(depths, float(instance.T_camera_object[2, 3]))
                if off > instance.diagonal_m:
                    health.problems.append(
                        f"{dataset.images_folder}/{frame.image.scene}/{frame.image.index}: instance"
                        f" {instance.label}: its depth is {off:.2f} m off its pose"
                    )
        health.facts[f"{subset}, instances"] = ", ".join(f"{n} {c}" for c, n in counts.items())


def _load(model: Any, health: Health) -> None:
    try:
        _ = model.mesh  # reads the file
    except MeshError as error:
        health.problems.append(str(error))


def _read(
    images: Sequence[_Image],
    read: Callable[[_Image], Any],
    dataset: Any,
    health: Health,
    on_image: Callable[[int, int], None],
) -> Iterator[Any]:
    """The frames that can be read; why others cannot is a problem."""
    rotated: list[Path] = []
    for done, image in enumerate(images, start=1):
        try:
            frame = read(image)
        except (DatasetError, MeshError) as error:
            health.problems.append(str(error))
        else:
            path = dataset.colour_path(image)
            if exif_orientation(path) != 1:
                rotated.append(path)
            yield frame
        on_image(done, len(images))
    if rotated:
        more = f" (and {len(rotated) - 1} more)" if len(rotated) > 1 else ""
        health.problems.append(
            f"{rotated[0]}{more}: EXIF orientation {exif_orientation(rotated[0])}, which other"
            " programs apply and this one ignores: annotations and depth refer to stored pixels;"
            " remove the tag (exiftool -Orientation= -r DIR)"
        )
