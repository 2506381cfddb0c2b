"""Stored training crops: colour and PNC of one object each, rendered once and read many times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.atomic_file import write_atomically
from crisp_ros.observation.crop_channels import nearest_pixels
from crisp_ros.observation.frame import Camera

from .backgrounds import background
from .measured_depth import measured_depth
from .renderer import Rendering
from .renderers import SceneRenderer
from .scenes import ScatterSettings, Viewpoints, scattered_scene

CROP_PX = 128  # unless a recipe wants more
CROP_MARGIN = 1.5  # side over the longer edge of the visible box; leaves room to jitter
PNC_UNIT_M = 2e-5  # stored as int16: up to 0.65 m
DEPTH_UNIT_M = 1e-4  # stored as uint16: up to 6.5 m
NO_OBJECT = np.int16(-32768)
_FIRST_UNIT_M = 1e-5  # of shards that do not state theirs
SHARD_CROPS = 2048
_MIN_VISIBLE_PX = 900
_BACKGROUNDS = 48


class Crops(NamedTuple):
    """Crops of one object each, with a margin of CROP_MARGIN around it.

    Attributes:
        rgb: (n, s, s, 3) uint8.
        pnc: (n, s, s, 3) float32, metres in the object frame, NaN outside the object.
        mesh: (n,) int64, which mesh.
        depth: (n, s, s) float32, metres as a sensor measured it, 0 where it did not; None where
            the crops were stored without.
        labels: (n, s, s) uint8, 1 for the object, 0 for no object, others for its neighbours.
        camera: (n, 4) float32, fx, fy, cx and cy of the crop, px.
    """

    rgb: NDArray[np.uint8]
    pnc: NDArray[np.float32]
    mesh: NDArray[np.int64]
    depth: NDArray[np.float32] | None = None
    labels: NDArray[np.uint8] | None = None
    camera: NDArray[np.float32] | None = None


class CropSet:
    """The complete shards of a folder, memory mapped, whether `write_shard` made them from
    renders or others from photographs.

    Attributes:
        mesh: (n,) int64 mesh index of every crop.
        scale: (n,) float32, how many times as large as the mesh each crop's object is.
        has_depth: whether all crops were stored with depth.

    Raises:
        FileNotFoundError: no complete shard.
    """

    def __init__(self, folder: Path) -> None:
        done = sorted(folder.glob("shard_*.json"))
        about = {p: json.loads(p.read_text()) for p in done}
        done = [p for p in done if about[p]["crops"] > 0]
        if not done:
            raise FileNotFoundError(f"{folder}: no complete shard (shard_*.json); render one first")
        self._unit_m = [np.float32(about[p].get("pnc_unit_m", _FIRST_UNIT_M)) for p in done]
        self._rgb = [np.load(p.with_suffix(".rgb.npy"), mmap_mode="r") for p in done]
        self._pnc = [np.load(p.with_suffix(".pnc.npy"), mmap_mode="r") for p in done]
        self.mesh = np.concatenate([np.load(p.with_suffix(".mesh.npy")) for p in done])
        self.scale = np.concatenate([_scales(p, about[p]["crops"]) for p in done])
        self.has_depth = all(p.with_suffix(".depth.npy").exists() for p in done)
        self._geometry = [_Geometry.of(p) for p in done] if self.has_depth else []
        self._first = np.cumsum([0, *(len(shard) for shard in self._rgb)])

    def __len__(self) -> int:
        return len(self.mesh)

    def batch(self, indices: NDArray[np.int64]) -> Crops:
        """The crops of global indices."""
        shards = np.searchsorted(self._first, indices, side="right") - 1
        at = list(zip(shards, indices - self._first[shards], strict=True))
        pnc = np.stack([self._metres(shard, row) for shard, row in at])
        crops = Crops(np.stack([self._rgb[s][r] for s, r in at]), pnc, self.mesh[indices])
        if not self.has_depth:
            return crops
        depth, labels, camera = zip(*(self._geometry[s].row(r) for s, r in at), strict=True)
        metres = np.stack(depth) * np.float32(DEPTH_UNIT_M)
        return crops._replace(depth=metres, labels=np.stack(labels), camera=np.stack(camera))

    def _metres(self, shard: int, row: int) -> NDArray[np.float32]:
        units = self._pnc[shard][row]
        return np.where(units == NO_OBJECT, np.float32(np.nan), units * self._unit_m[shard])


class _Geometry(NamedTuple):
    """A shard's depth in units of DEPTH_UNIT_M, labels and camera; see `Crops`."""

    depth: NDArray[np.uint16]
    labels: NDArray[np.uint8]
    camera: NDArray[np.float32]

    @classmethod
    def of(cls, done: Path) -> _Geometry:
        return cls(*(np.load(done.with_suffix(f".{n}.npy"), mmap_mode="r") for n in cls._fields))

    def row(self, index: int) -> _Geometry:
        return _Geometry(*(part[index] for part in self))


def _scales(done: Path, crops: int) -> NDArray[np.float32]:
    path = done.with_suffix(".scale.npy")
    return np.load(path) if path.exists() else np.ones(crops, np.float32)


@dataclass(frozen=True)
class ShardSettings:
    """Settings of a rendered shard of crops.

    Attributes:
        scatter: how the scenes are drawn.
        crops: how many.
        crop_px: side of the stored crops.
        depth: whether measured depth, labels and camera are stored with colour and PNC.
    """

    scatter: ScatterSettings = field(default_factory=ScatterSettings)
    crops: int = SHARD_CROPS
    crop_px: int = CROP_PX
    depth: bool = False


def write_shard(
    folder: Path,
    number: int,
    viewpoints_by_mesh: Sequence[Viewpoints],
    settings: ShardSettings,
    seed: int,
    renderer: SceneRenderer,
) -> bool:
    """Render shard `number` unless it is there already; a killed run leaves no half shard.

    Returns:
        Whether anything was rendered. The content depends on (seed, number) alone.
    """
    done = folder / f"shard_{number:04d}.json"
    if done.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, number])
    shard = _empty_shard(settings)
    backgrounds = [background(renderer.width, renderer.height, rng) for _ in range(_BACKGROUNDS)]
    count = 0
    while count < settings.crops:
        scene = scattered_scene(
            viewpoints_by_mesh, renderer.width, renderer.height, settings.scatter, rng
        )
        rendering = renderer.render(scene)
        image = composite(rendering, varied(backgrounds[rng.integers(_BACKGROUNDS)], rng))
        depth = measured_depth(rendering, scene.camera, rng) if settings.depth else None
        for i, placement in enumerate(scene.placements):
            mask = rendering.instances == i + 1
            box = crop_box(mask)
            if box is None or count == settings.crops:
                continue
            px = settings.crop_px
            shard["rgb"][count] = cropped_colour(image, box, px)
            shard["pnc"][count] = cropped_pnc(rendering.pnc, mask, box, px)
            shard["mesh"][count] = placement.mesh
            if depth is not None:
                shard["depth"][count] = cropped_depth(depth, box, px)
                shard["labels"][count] = cropped_labels(rendering.instances, i + 1, box, px)
                shard["camera"][count] = cropped_camera(scene.camera, box, px)
            count += 1
    save_shard(done, shard, {"seed": seed, "objects": len(viewpoints_by_mesh)})
    return True


def _empty_shard(settings: ShardSettings) -> dict[str, NDArray[np.generic]]:
    n, px = settings.crops, settings.crop_px
    shard = {
        "rgb": np.empty((n, px, px, 3), np.uint8),
        "pnc": np.empty((n, px, px, 3), np.int16),
        "mesh": np.empty(n, np.int64),
    }
    if settings.depth:
        shard["depth"] = np.empty((n, px, px), np.uint16)
        shard["labels"] = np.empty((n, px, px), np.uint8)
        shard["camera"] = np.empty((n, 4), np.float32)
    return shard


def save_shard(
    done: Path, arrays: Mapping[str, NDArray[np.generic]], about: Mapping[str, Any]
) -> None:
    """Write the arrays of a shard and last its JSON file `done`, which makes it complete.

    Args:
        done: shard_NNNN.json in the folder of the shards.
        arrays: rgb and mesh as in `Crops`; pnc in units of PNC_UNIT_M, NO_OBJECT outside the
            object; where there is depth, depth in units of DEPTH_UNIT_M, labels and camera as in
            `Crops`; scale as in `CropSet`, where objects are not as large as their meshes.
        about: goes into the JSON file, with the number of crops.
    """
    for name, array in arrays.items():
        np.save(done.with_suffix(f".{name}.npy"), array)
    about = {"crops": len(arrays["mesh"]), "pnc_unit_m": PNC_UNIT_M, **about}
    write_atomically(done, json.dumps(about))


def composite(rendering: Rendering, behind: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The rendered colours over a background, edges softened as a lens would."""
    image = np.where(rendering.instances[..., None] > 0, rendering.rgb, behind)
    return cv2.GaussianBlur(image, (0, 0), 0.6)


def varied(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A background mirrored, shifted and recoloured, so that a few serve for many frames."""
    if rng.random() < 0.5:
        image = image[:, ::-1]
    image = np.roll(image, rng.integers(image.shape[1]), axis=1)
    gain = rng.uniform(0.4, 1.4, 3)
    lookup = np.clip(np.arange(256)[:, None] * gain + rng.uniform(-30, 30), 0, 255).astype(np.uint8)
    return cv2.merge([cv2.LUT(np.ascontiguousarray(image[..., c]), lookup[:, c]) for c in range(3)])


def crop_box(
    mask: NDArray[np.bool_], min_px: int = _MIN_VISIBLE_PX
) -> tuple[float, float, float] | None:
    """(left, top, side) in pixels of the square around a mask; None where too little is visible."""
    if np.count_nonzero(mask) < min_px:
        return None
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    side = CROP_MARGIN * max(width, height)
    return left + width / 2 - side / 2, top + height / 2 - side / 2, side


def cropped_colour(
    image: NDArray[np.uint8], box: tuple[float, float, float], crop_px: int = CROP_PX
) -> NDArray[np.uint8]:
    """The (crop_px, crop_px, 3) square of an image, grey outside it, averaged when it shrinks."""
    left, top, side = _whole(box)
    square = np.full((side, side, 3), 128, np.uint8)
    height, width = image.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    square[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    method = cv2.INTER_AREA if side > crop_px else cv2.INTER_LINEAR
    return cv2.resize(square, (crop_px, crop_px), interpolation=method)


def cropped_pnc(
    pnc: NDArray[np.float32],
    mask: NDArray[np.bool_],
    box: tuple[float, float, float],
    crop_px: int = CROP_PX,
) -> NDArray[np.int16]:
    """The (crop_px, crop_px, 3) square of an object's PNC map, as shards store it.

    Args:
        pnc: (H, W, 3) metres. mask: (H, W), where they are the object's.
        box: left, top, side, pixels.
        crop_px: side of the result.
    """
    at, inside = nearest_pixels(_whole(box), mask.shape, crop_px)
    seen = inside & mask[at]
    units = np.rint(np.where(seen[..., None], pnc[at], 0.0) / PNC_UNIT_M)
    seen &= (np.abs(units) <= np.iinfo(np.int16).max).all(-1)
    return np.where(seen[..., None], units, NO_OBJECT).astype(np.int16)


def cropped_depth(
    depth: NDArray[np.float32], box: tuple[float, float, float], crop_px: int = CROP_PX
) -> NDArray[np.uint16]:
    """The (crop_px, crop_px) square of a depth image in metres, as shards store it."""
    at, inside = nearest_pixels(_whole(box), depth.shape, crop_px)
    units = np.rint(depth[at] / DEPTH_UNIT_M)
    return np.where(inside & (units <= np.iinfo(np.uint16).max), units, 0).astype(np.uint16)


def cropped_labels(
    instances: NDArray[np.int32],
    own: int,
    box: tuple[float, float, float],
    crop_px: int = CROP_PX,
) -> NDArray[np.uint8]:
    """The (crop_px, crop_px) square of an instance image, as shards store it: 1 for `own`."""
    at, inside = nearest_pixels(_whole(box), instances.shape, crop_px)
    square = np.where(inside, instances[at], 0)
    return np.where(square == own, 1, np.where(square > 0, square + 1, 0)).astype(np.uint8)


def cropped_camera(
    camera: Camera, box: tuple[float, float, float], crop_px: int = CROP_PX
) -> NDArray[np.float32]:
    """fx, fy, cx and cy (4,) of the camera that sees a crop, px."""
    left, top, side = _whole(box)
    scale = crop_px / side
    centre = (camera.cx + 0.5 - left) * scale - 0.5, (camera.cy + 0.5 - top) * scale - 0.5
    return np.array([camera.fx * scale, camera.fy * scale, *centre], np.float32)


def _whole(box: tuple[float, float, float]) -> tuple[int, int, int]:
    left, top, side = box
    return round(left), round(top), round(side)
