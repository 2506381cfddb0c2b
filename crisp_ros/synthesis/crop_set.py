"""Stored training crops: colour and PNC of one object each, rendered once and read many times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.atomic_file import write_atomically

from .backgrounds import background
from .renderer import Rendering
from .renderers import SceneRenderer
from .scenes import ScatterSettings, Viewpoints, scattered_scene

CROP_PX = 128  # unless a recipe wants more
CROP_MARGIN = 1.5  # side over the longer edge of the visible box; leaves room to jitter
PNC_UNIT_M = 2e-5  # stored as int16: up to 0.65 m
NO_OBJECT = np.int16(-32768)
_FIRST_UNIT_M = 1e-5  # of shards that do not state theirs
SHARD_CROPS = 2048
_MIN_VISIBLE_PX = 900
_BACKGROUNDS = 48


class Crops(NamedTuple):
    """Crops of one object each, with a margin of CROP_MARGIN around it.

    rgb: (n, s, s, 3) uint8. pnc: the same shape, float32, metres in the object frame, NaN outside
    the object. mesh: (n,) int64, which mesh.
    """

    rgb: NDArray[np.uint8]
    pnc: NDArray[np.float32]
    mesh: NDArray[np.int64]


class CropSet:
    """The complete shards of a folder, memory mapped: whoever made them, `write_shard` from
    renders or others from photographs.

    Attributes:
        mesh: (n,) int64 mesh index of every crop.
        scale: (n,) float32, how many times as large as the mesh each crop's object is.

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
        self._first = np.cumsum([0, *(len(shard) for shard in self._rgb)])

    def __len__(self) -> int:
        return len(self.mesh)

    def batch(self, indices: NDArray[np.int64]) -> Crops:
        """The crops of global indices."""
        shards = np.searchsorted(self._first, indices, side="right") - 1
        at = list(zip(shards, indices - self._first[shards], strict=True))
        pnc = np.stack([self._metres(shard, row) for shard, row in at])
        return Crops(np.stack([self._rgb[s][r] for s, r in at]), pnc, self.mesh[indices])

    def _metres(self, shard: int, row: int) -> NDArray[np.float32]:
        units = self._pnc[shard][row]
        return np.where(units == NO_OBJECT, np.float32(np.nan), units * self._unit_m[shard])


def _scales(done: Path, crops: int) -> NDArray[np.float32]:
    path = done.with_suffix(".scale.npy")
    return np.load(path) if path.exists() else np.ones(crops, np.float32)


def write_shard(
    folder: Path,
    number: int,
    meshes: Sequence[trimesh.Trimesh],
    viewpoints_by_mesh: Sequence[Viewpoints],
    settings: ScatterSettings,
    seed: int,
    renderer: SceneRenderer,
    crops: int = SHARD_CROPS,
    crop_px: int = CROP_PX,
) -> bool:
    """Renders shard `number` unless it is there already; a killed run leaves no half shard.

    Returns:
        Whether anything was rendered. The content depends on (seed, number) alone.
    """
    done = folder / f"shard_{number:04d}.json"
    if done.exists():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, number])
    rgb = np.empty((crops, crop_px, crop_px, 3), np.uint8)
    pnc = np.empty((crops, crop_px, crop_px, 3), np.int16)
    mesh = np.empty(crops, np.int64)
    backgrounds = [background(renderer.width, renderer.height, rng) for _ in range(_BACKGROUNDS)]
    count = 0
    while count < crops:
        scene = scattered_scene(viewpoints_by_mesh, renderer.width, renderer.height, settings, rng)
        rendering = renderer.render(scene)
        image = composite(rendering, varied(backgrounds[rng.integers(_BACKGROUNDS)], rng))
        for i, placement in enumerate(scene.placements):
            box = crop_box(rendering.instances == i + 1)
            if box is None or count == crops:
                continue
            rgb[count] = cropped_colour(image, box, crop_px)
            pnc[count] = cropped_pnc(rendering.pnc, rendering.instances == i + 1, box, crop_px)
            mesh[count] = placement.mesh
            count += 1
    save_shard(done, rgb, pnc, mesh, {"seed": seed, "objects": len(meshes)})
    return True


def save_shard(
    done: Path,
    rgb: NDArray[np.uint8],
    pnc: NDArray[np.int16],
    mesh: NDArray[np.int64],
    about: Mapping[str, Any],
    scale: NDArray[np.float32] | None = None,
) -> None:
    """Writes the arrays of a shard and last its JSON file `done`, which makes it complete.

    Args:
        done: shard_NNNN.json in the folder of the shards.
        rgb, mesh: as in `Crops`. pnc: in units of PNC_UNIT_M, NO_OBJECT outside the object.
        about: goes into the JSON file, beside the number of crops.
        scale: see `CropSet`; None: every object is as large as its mesh.
    """
    arrays = {"rgb": rgb, "pnc": pnc, "mesh": mesh, "scale": scale}
    for name, array in arrays.items():
        if array is not None:
            np.save(done.with_suffix(f".{name}.npy"), array)
    about = {"crops": len(mesh), "pnc_unit_m": PNC_UNIT_M, **about}
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
    left, top, side = (round(v) for v in box)
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
    left, top, side = (round(v) for v in box)
    height, width = mask.shape
    steps = np.floor((np.arange(crop_px) + 0.5) * side / crop_px).astype(int)
    u, v = np.clip(left + steps, 0, width - 1), np.clip(top + steps, 0, height - 1)
    inside = (left + steps == u)[None, :] & (top + steps == v)[:, None]
    at = np.ix_(v, u)
    seen = inside & mask[at]
    units = np.rint(np.where(seen[..., None], pnc[at], 0.0) / PNC_UNIT_M)
    seen &= (np.abs(units) <= np.iinfo(np.int16).max).all(-1)
    return np.where(seen[..., None], units, NO_OBJECT).astype(np.int16)
