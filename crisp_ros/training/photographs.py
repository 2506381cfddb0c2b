"""Training crops cut out of annotated photographs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.bop import BopFrame
from crisp_ros.synthesis.crop_set import (
    CROP_PX,
    crop_box,
    cropped_colour,
    cropped_pnc,
    save_shard,
)
from crisp_ros.synthesis.renderer import PinholeCamera, Placement, Renderer, Scene

_SHARD_IMAGES = 400


class PhotographSource(Protocol):
    """Annotated images: what a reader of a data set has to offer for training."""

    @property
    def images(self) -> Sequence[Any]:
        """Whatever tells the images apart."""

    def frame(self, image: Any) -> BopFrame:
        """One of them, with labels and poses."""


def write_photograph_shards(
    folder: Path,
    source: PhotographSource,
    mesh_of: Mapping[int, int],
    meshes: Sequence[trimesh.Trimesh],
    first_shard: int,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Cuts all images of a source into shards of crops; a killed run is continued.

    The coordinates come from the mesh at the annotated pose, not from depth: no sensor's noise, and
    data sets without depth serve as well. A pixel counts where mask and drawn mesh agree.

    Args:
        folder: of the shards, see `CropSet`.
        source: the images.
        mesh_of: index of the mesh of each object id; objects that are not in it are left out.
        meshes: metres, object frame.
        first_shard: number of the first shard.
        on_image: called after each image with the number done and the total.

    Raises:
        DatasetError: an image cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    images = list(source.images)
    renderers: dict[tuple[int, int], Renderer] = {}
    on_image(0, len(images))
    for start in range(0, len(images), _SHARD_IMAGES):
        part = images[start : start + _SHARD_IMAGES]
        done = folder / f"shard_{first_shard + start // _SHARD_IMAGES:04d}.json"
        if not done.exists():
            crops: list[tuple[NDArray[np.uint8], NDArray[np.int16], int]] = []
            for number, image in enumerate(part, start=1):
                crops += _crops(source.frame(image), mesh_of, meshes, renderers)
                on_image(start + number, len(images))
            rgb = np.array([c[0] for c in crops], np.uint8).reshape(-1, CROP_PX, CROP_PX, 3)
            pnc = np.array([c[1] for c in crops], np.int16).reshape(-1, CROP_PX, CROP_PX, 3)
            mesh = np.array([c[2] for c in crops], np.int64)
            save_shard(done, rgb, pnc, mesh, {"images": len(part)})
        on_image(start + len(part), len(images))
    for renderer in renderers.values():
        renderer.release()


def _crops(
    frame: BopFrame,
    mesh_of: Mapping[int, int],
    meshes: Sequence[trimesh.Trimesh],
    renderers: dict[tuple[int, int], Renderer],
) -> list[tuple[NDArray[np.uint8], NDArray[np.int16], int]]:
    """Colour, coordinates and mesh of every usable object of an image."""
    height, width = frame.labels.shape
    if (width, height) not in renderers:
        renderers[width, height] = Renderer(meshes, width, height)
    known = [i for i in frame.instances if i.obj_id in mesh_of]
    K = frame.intrinsics
    camera = PinholeCamera(K[0, 0], K[1, 1], K[0, 2], K[1, 2], width, height)
    result = []
    for instance in known:
        mask = frame.labels == instance.label
        box = crop_box(mask)
        if box is None:
            continue
        mesh = mesh_of[instance.obj_id]
        # Alone, so that no other's pose error takes pixels away.
        scene = Scene(camera, (Placement(mesh, instance.T_camera_object),))
        drawn = renderers[width, height].render(scene)
        drawn = replace(drawn, instances=drawn.instances * mask)
        result.append((cropped_colour(frame.rgb, box), cropped_pnc(drawn, 1, box), mesh))
    return result
