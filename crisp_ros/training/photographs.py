"""Training crops cut out of the annotated photographs of data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.bop import BopDataset
from crisp_ros.data.nocs import NocsDataset
from crisp_ros.data.spe3r import Spe3rDataset
from crisp_ros.observation.frame import Camera
from crisp_ros.synthesis.crop_set import (
    CROP_PX,
    crop_box,
    cropped_colour,
    cropped_pnc,
    save_shard,
)
from crisp_ros.synthesis.renderer import Placement, Renderer, Scene

MIN_VISIBLE_PX = 400
_SHARD_IMAGES = 400


class PhotographedObject(NamedTuple):
    """One object in a photograph.

    Attributes:
        rgb: (H, W, 3) uint8, the photograph.
        mask: (H, W) bool, its visible pixels of known PNC.
        pnc: (H, W, 3) metres.
        name: of the object.
        scale: its size over that of the object's mesh.
    """

    rgb: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    pnc: NDArray[np.float32]
    name: str
    scale: float = 1.0


class PhotographSource(Protocol):
    """Annotated images: what a data set has to offer for training.

    Attributes:
        images: their identifiers.
    """

    images: Sequence[Any]

    def objects(self, image: Any) -> Iterator[PhotographedObject]:
        """The annotated objects of one of them. Raises DatasetError."""


class BopPhotographs:
    """A split of a BOP data set.

    The coordinates come from the mesh at the annotated pose, not from depth, which has a sensor's
    noise: a pixel counts where mask and drawn mesh agree.

    Args:
        dataset: the split.
        meshes: by name, metres, object frame; other objects are left out.
    """

    def __init__(self, dataset: BopDataset, meshes: Mapping[str, trimesh.Trimesh]) -> None:
        self.images, self._dataset, self._meshes = dataset.images, dataset, meshes
        self._index = {name: k for k, name in enumerate(meshes)}
        self._renderers: dict[tuple[int, int], Renderer] = {}

    def objects(self, image: Any) -> Iterator[PhotographedObject]:
        frame = self._dataset.frame(image)
        height, width = frame.labels.shape
        K = frame.intrinsics
        camera = Camera.from_matrix(K, width, height)
        if (width, height) not in self._renderers:
            meshes = list(self._meshes.values())
            self._renderers[width, height] = Renderer(meshes, width, height)
        for instance in frame.instances:
            name = self._dataset.models[instance.obj_id].name
            if name not in self._index:
                continue
            # Drawn alone, so that no other's pose error takes pixels away.
            placement = Placement(self._index[name], instance.T_camera_object)
            drawn = self._renderers[width, height].render(Scene(camera, (placement,)))
            mask = (frame.labels == instance.label) & (drawn.instances == 1)
            yield PhotographedObject(frame.rgb, mask, drawn.pnc, name)


class Spe3rPhotographs:
    """A split of SPE3R, with the coordinate maps that `crisp data maps` has drawn."""

    def __init__(self, dataset: Spe3rDataset) -> None:
        self.images, self._dataset = dataset.images, dataset

    def objects(self, image: Any) -> Iterator[PhotographedObject]:
        frame = self._dataset.frame(image)
        yield PhotographedObject(
            frame.rgb, frame.labels == 1, frame.coordinates, frame.image.satellite
        )


class NocsPhotographs:
    """A subset of NOCS; its normalised coordinate maps become metric by each object's size."""

    def __init__(self, dataset: NocsDataset) -> None:
        self.images, self._dataset = dataset.images, dataset

    def objects(self, image: Any) -> Iterator[PhotographedObject]:
        frame = self._dataset.frame(image)
        for instance in frame.instances:
            yield PhotographedObject(
                frame.rgb,
                frame.labels == instance.label,
                frame.coordinates * np.float32(instance.diagonal_m),
                instance.model.name,
                instance.diagonal_m,
            )


def photograph_source(
    layout: str, folder: Path, split: str, meshes: Mapping[str, trimesh.Trimesh]
) -> PhotographSource:
    """A split of a data set in one of the layouts bop, spe3r and nocs. Raises DatasetError."""
    if layout == "spe3r":
        return Spe3rPhotographs(Spe3rDataset(folder, split))
    if layout == "nocs":
        return NocsPhotographs(NocsDataset(folder, split))
    return BopPhotographs(BopDataset(folder, split), meshes)


def write_photograph_shards(
    folder: Path,
    source: PhotographSource,
    names: Sequence[str],
    first_shard: int,
    crop_px: int = CROP_PX,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Cut all images of a source into shards of crops; a killed run is continued.

    Args:
        folder: of the shards, see `CropSet`.
        source: the images.
        names: of the meshes, in the order of their numbers; other objects are left out.
        first_shard: number of the first shard.
        crop_px: side of the crops.
        on_image: called after each image with the number done and the total.

    Raises:
        DatasetError: an image cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = list(source.images)
    numbers = {name: k for k, name in enumerate(names)}
    on_image(0, len(images))
    for start in range(0, len(images), _SHARD_IMAGES):
        part = images[start : start + _SHARD_IMAGES]
        done = folder / f"shard_{first_shard + start // _SHARD_IMAGES:04d}.json"
        if not done.exists():
            crops = []
            for count, image in enumerate(part, start=1):
                for found in source.objects(image):
                    box = crop_box(found.mask, MIN_VISIBLE_PX)
                    if box is not None and found.name in numbers:
                        colour = cropped_colour(found.rgb, box, crop_px)
                        pnc = cropped_pnc(found.pnc, found.mask, box, crop_px)
                        crops.append((colour, pnc, numbers[found.name], found.scale))
                on_image(start + count, len(images))
            shape = (len(crops), crop_px, crop_px, 3)
            arrays = {
                "rgb": np.array([c[0] for c in crops], np.uint8).reshape(shape),
                "pnc": np.array([c[1] for c in crops], np.int16).reshape(shape),
                "mesh": np.array([c[2] for c in crops], np.int64),
                "scale": np.array([c[3] for c in crops], np.float32),
            }
            save_shard(done, arrays, {"images": len(part)})
        on_image(start + len(part), len(images))
