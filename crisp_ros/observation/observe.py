"""Observations of a frame's labelled objects: crops for the network, depth points for solvers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.geometry.upload import upload
from crisp_ros.observation.crop_channels import (
    GREY,
    crop_points,
    geometry_channels,
    nearest_pixels,
)
from crisp_ros.observation.frame import Frame


@dataclass(frozen=True)
class ObservationSettings:
    """Settings of `observe`.

    Attributes:
        min_depth_m: smaller depth is invalid, metres.
        max_depth_m: larger depth is invalid, metres.
        points: depth points sampled per object, N.
        min_points: usable depth pixels that an object needs.
        margin: side of the square crop, relative to the longer edge of the mask's box.
        border_px: pixels closer to the mask's border are not sampled: colour and depth of a real
            camera disagree there by a few pixels.
        depth_jump: neighbouring pixels whose depth differs by a larger share are not sampled.
        min_share: least share of an object's usable pixels from which points are sampled; the
            border is reduced before pixels at jumps are used.
        min_fragment: unconnected parts of a mask below this share of it are ignored.
        max_objects: largest number of objects, the largest masks first; None for no limit.
        seed: of the sampling.
    """

    min_depth_m: float = 0.1
    max_depth_m: float = 10.0
    points: int = 1000
    min_points: int = 30
    margin: float = 1.2
    border_px: int = 4
    depth_jump: float = 0.02
    min_share: float = 0.33
    min_fragment: float = 0.02
    max_objects: int | None = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.min_depth_m < self.max_depth_m:
            raise ValueError(
                f"depth range is {self.min_depth_m} to {self.max_depth_m} m, expected 0 < min < max"
            )
        if not 1 <= self.min_points <= self.points:
            raise ValueError(
                f"min_points {self.min_points}, points {self.points}: expected 1 <= min <= points"
            )
        if self.margin < 1 or self.border_px < 0 or self.depth_jump <= 0:
            raise ValueError(
                f"margin {self.margin}, border_px {self.border_px}, depth_jump {self.depth_jump}: "
                "expected margin >= 1, border_px >= 0 and depth_jump > 0"
            )
        if not (0 <= self.min_fragment < 1 and 0 < self.min_share <= 1):
            raise ValueError(
                f"min_fragment {self.min_fragment}, min_share {self.min_share}: "
                "expected min_fragment in [0, 1) and min_share in (0, 1]"
            )
        if self.max_objects is not None and self.max_objects < 1:
            raise ValueError(f"max_objects is {self.max_objects}, expected at least 1, or None")


class Rejected(NamedTuple):
    """An object without an estimate.

    Attributes:
        label: of the object.
        reason: why it has none.
    """

    label: int
    reason: str


class Observations(NamedTuple):
    """The B usable objects of a frame, in ascending order of their labels.

    Attributes:
        labels: (B,) int64.
        crops: (B, 3, S, S) float32 RGB in [0, 1], or (B, 8, S, S) with `geometry_channels` after;
            or (B, 1, S, S) bool, the masks alone, of which `device_crops` makes the same.
        boxes: (B, 4) float32, left, top, width and height of each crop, px.
        points: (B, N, 3) float32, camera frame, metres, zero where padded.
        pixels: (B, N, 2) float32, (u, v) of each point.
        valid: (B, N) bool.
        rejected: the other objects of the frame.
    """

    labels: Tensor
    crops: Tensor
    boxes: Tensor
    points: Tensor
    pixels: Tensor
    valid: Tensor
    rejected: tuple[Rejected, ...]

    def rows(self, which: Tensor | slice) -> Observations:
        """Select some of the objects; `rejected` is empty."""
        return Observations(*(part[which] for part in self[:-1]), rejected=())

    def parts(self, size: int) -> Iterator[Observations]:
        """Split them into parts of `size` objects at most, in their order."""
        for start in range(0, len(self.labels), size):
            yield self.rows(slice(start, start + size))

    def to(self, device: torch.device) -> Observations:
        """Move the tensors to a device."""
        return Observations(*(upload(part, device) for part in self[:-1]), self.rejected)


def observe(
    frame: Frame,
    settings: ObservationSettings,
    crop_size: int,
    geometry: bool = False,
    crop_rule: str = "square",
    masks_alone: bool = False,
) -> Observations:
    """Extract the crops and depth points of all labels of a frame.

    A crop shows a box of the image, grey where it leaves the image, see `crop_rule`; a pixel u is
    at (u + 0.5 - left) / width * S - 0.5 in it. Points are sampled
    evenly over the mask at the resolution of the depth image, without replacement; a smaller object
    is padded. Pixels at the mask's border and at depth jumps mix two surfaces and are excluded as
    long as enough others remain. Beyond `max_objects` the smallest masks are rejected, which bounds
    the cost.

    Args:
        frame: the frame.
        settings: see `ObservationSettings`.
        crop_size: S, px.
        geometry: append mask and geometry channels to the crops, as some networks need.
        crop_rule: one of `CROP_RULES`: "square" shows a square around the mask's bounding box,
            "tight" this box itself, and "image" the whole image, both stretched to a square.
        masks_alone: leave all of the crops but the masks to the device.

    Raises:
        ValueError: geometry with another rule than "square".
    """
    if geometry and crop_rule != "square":
        raise ValueError(f"geometry channels need square crops, not {crop_rule} ones")
    jumps = _depth_jumps(frame.depth, settings)
    labels, surplus = _largest(mask_sizes(frame.labels), settings.max_objects)
    kept: list[_Object] = []
    rejected = surplus
    for label in labels:
        found = _object(frame, label, jumps, settings, crop_rule)
        if isinstance(found, Rejected):
            rejected.append(found)
        else:
            kept.append(found)
    if masks_alone:
        crops = torch.from_numpy(_crop_masks(frame, kept, crop_size))[:, None]
    else:
        crops = _colours(frame, kept, crop_size, crop_rule)
        if geometry:
            crops = torch.cat([crops, _geometry(frame, kept, settings, crop_size)], dim=1)
    return _stacked(frame, kept, crops, tuple(sorted(rejected)), settings)


class _Object(NamedTuple):
    label: int
    box: tuple[int, int, int, int]  # left, top, width and height of the crop, px
    u: NDArray[np.int64]  # of the usable depth pixels, in scan order
    v: NDArray[np.int64]


def mask_sizes(labels: NDArray[np.int32]) -> dict[int, int]:
    """Count the pixels of each label of (H, W); ascending labels, without the background."""
    flat = labels.ravel()
    # Labels form runs: sorting the values of runs is far cheaper than sorting pixels.
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    found, label_of_run = np.unique(flat[starts], return_inverse=True)
    pixels = np.bincount(label_of_run, np.diff(starts, append=flat.size)).astype(np.int64)
    sizes = dict(zip(found.tolist(), pixels.tolist(), strict=True))
    sizes.pop(0, None)
    return sizes


def _largest(sizes: dict[int, int], limit: int | None) -> tuple[list[int], list[Rejected]]:
    """Split labels into those of the largest masks, ascending, and the rejected others."""
    if limit is None or len(sizes) <= limit:
        return list(sizes), []
    by_size = sorted(sizes, key=sizes.get, reverse=True)
    reason = f"one of {len(sizes)} masks, of which the largest {limit} are estimated (max_objects)"
    return sorted(by_size[:limit]), [Rejected(label, reason) for label in by_size[limit:]]


def _depth_jumps(depth: NDArray[np.float32], settings: ObservationSettings) -> NDArray[np.bool_]:
    """Find the pixels (H, W) on both sides of a depth jump."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    farthest = cv2.dilate(depth, cross)
    nearest = cv2.erode(np.where(depth > 0, depth, np.float32(np.inf)), cross)
    return farthest - nearest > settings.depth_jump * depth


def _object(
    frame: Frame,
    label: int,
    jumps: NDArray[np.bool_],
    settings: ObservationSettings,
    crop_rule: str,
) -> _Object | Rejected:
    rows, columns = _window(frame.labels, label)
    mask = _without_fragments(frame.labels[rows, columns] == label, settings.min_fragment)
    depth = frame.depth[rows, columns]
    in_range = mask & (depth >= settings.min_depth_m) & (depth <= settings.max_depth_m)
    usable = int(np.count_nonzero(in_range))
    if usable < settings.min_points:
        return Rejected(label, _too_few_points(mask, depth, usable, settings))
    v, u = np.nonzero(_away_from_edges(mask, in_range, jumps[rows, columns], settings))
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    u, v = u + columns.start, v + rows.start
    if crop_rule == "tight":
        return _Object(label, (columns.start + left, rows.start + top, width, height), u, v)
    if crop_rule == "image":
        return _Object(label, (0, 0, *frame.labels.shape[::-1]), u, v)
    side = int(np.ceil(settings.margin * max(width, height)))
    centre = (columns.start + left + width / 2, rows.start + top + height / 2)
    box = (round(centre[0] - side / 2), round(centre[1] - side / 2), side, side)
    return _Object(label, box, u, v)


def _window(labels: NDArray[np.int32], label: int) -> tuple[slice, slice]:
    """Rows and columns of a label's box, with a margin of one pixel inside the image."""
    left, top, width, height = cv2.boundingRect((labels == label).view(np.uint8))
    return (
        slice(max(top - 1, 0), top + height + 1),
        slice(max(left - 1, 0), left + width + 1),
    )


def _without_fragments(mask: NDArray[np.bool_], min_share: float) -> NDArray[np.bool_]:
    """Remove small unconnected parts of a mask, artefacts of segmentation."""
    parts, part, statistics, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    if parts == 2:
        return mask
    areas = statistics[1:, cv2.CC_STAT_AREA]
    kept = np.append(False, areas >= min_share * areas.sum())
    return kept[part]


def _away_from_edges(
    mask: NDArray[np.bool_],
    in_range: NDArray[np.bool_],
    jumps: NDArray[np.bool_],
    settings: ObservationSettings,
) -> NDArray[np.bool_]:
    """Exclude pixels at depth jumps and at the mask's border, as far as enough others remain.

    The border of the image is none of the mask: a truncated object keeps its pixels there.
    """
    enough = max(settings.min_points, round(settings.min_share * np.count_nonzero(in_range)))
    kept = in_range & ~jumps
    if np.count_nonzero(kept) < enough:
        kept = in_range
    if mask.all():
        return kept
    to_border = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3)
    reach = 2 * settings.border_px + 1
    # A thin part, such as a handle, has no pixel far from the border: its core is used instead.
    core = cv2.dilate(to_border, np.ones((reach, reach), np.uint8))
    depth_inside = to_border / np.minimum(settings.border_px + 0.5, 0.8 * core).clip(0.5)
    innermost = np.partition(depth_inside[kept], -enough)[-enough]
    return kept & (depth_inside >= min(1.0, innermost))


def _too_few_points(
    mask: NDArray[np.bool_],
    depth: NDArray[np.float32],
    usable: int,
    settings: ObservationSettings,
) -> str:
    pixels = int(np.count_nonzero(mask))
    if pixels < settings.min_points:
        return f"mask of {pixels} px, needs {settings.min_points}"
    measured = depth[mask & (depth > 0)]
    if len(measured) < settings.min_points:
        return f"depth on {len(measured)} of {pixels} px, needs {settings.min_points}"
    return (
        f"{usable} of {len(measured)} depths in {settings.min_depth_m:g} to "
        f"{settings.max_depth_m:g} m, needs {settings.min_points}; median {np.median(measured):g} m"
    )


def _stacked(
    frame: Frame,
    objects: list[_Object],
    crops: Tensor,
    rejected: tuple[Rejected, ...],
    settings: ObservationSettings,
) -> Observations:
    count, n = len(objects), settings.points
    pixels = np.zeros((count, n, 2), np.float32)
    depth = np.zeros((count, n), np.float32)
    valid = np.zeros((count, n), bool)
    for i, found in enumerate(objects):
        chosen = _stratified_sample(
            len(found.u), n, np.random.default_rng((settings.seed, found.label))
        )
        u, v = found.u[chosen], found.v[chosen]
        pixels[i, : len(u)] = np.stack((u, v), axis=-1)
        depth[i, : len(u)] = frame.depth[v, u]
        valid[i, : len(u)] = True
    points = frame.camera.back_project(pixels[..., 0], pixels[..., 1], depth)
    return Observations(
        labels=torch.tensor([o.label for o in objects], dtype=torch.int64),
        crops=crops,
        boxes=torch.tensor([o.box for o in objects], dtype=torch.float32).reshape(count, 4),
        points=torch.from_numpy(points.astype(np.float32)),
        pixels=torch.from_numpy(pixels),
        valid=torch.from_numpy(valid),
        rejected=rejected,
    )


def _colours(frame: Frame, objects: list[_Object], crop_size: int, crop_rule: str) -> Tensor:
    """Colours (B, 3, S, S) of crops."""
    crops = np.empty((len(objects), crop_size, crop_size, 3), np.uint8)
    for i, found in enumerate(objects):
        crops[i] = _crop(frame.rgb, found.box, crop_size, crop_rule)
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255.0).contiguous()


def _crop_masks(frame: Frame, objects: list[_Object], crop_size: int) -> NDArray[np.bool_]:
    """The pixels (B, S, S) of square crops that show the objects."""
    masks = np.zeros((len(objects), crop_size, crop_size), bool)
    for i, found in enumerate(objects):
        at, inside = nearest_pixels(found.box[:3], frame.labels.shape, crop_size)
        masks[i] = inside & (frame.labels[at] == found.label)
    return masks


def _geometry(
    frame: Frame, objects: list[_Object], settings: ObservationSettings, crop_size: int
) -> Tensor:
    """Mask and geometry channels (B, 5, S, S) of crops."""
    points = np.zeros((len(objects), 3, crop_size, crop_size), np.float32)
    for i, found in enumerate(objects):
        points[i] = crop_points(frame.depth, found.box[:3], crop_size, frame.camera)
    z = points[:, 2]
    points *= ((z >= settings.min_depth_m) & (z <= settings.max_depth_m))[:, None]
    return geometry_channels(
        torch.from_numpy(points), torch.from_numpy(_crop_masks(frame, objects, crop_size))
    )


def _crop(
    rgb: NDArray[np.uint8], box: tuple[int, int, int, int], crop_size: int, crop_rule: str
) -> NDArray[np.uint8]:
    """Cut a box out of an image and resample it to a square (S, S, 3).

    A square is averaged where it shrinks. A tight box is interpolated in any case, as the released
    code does, whose networks were trained on the aliasing.
    """
    left, top, across, down = box
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + across, width), min(top + down, height)
    part = rgb[y0:y1, x0:x1]
    if part.shape[:2] != (down, across):
        whole = np.full((down, across, 3), GREY, np.uint8)
        whole[y0 - top : y1 - top, x0 - left : x1 - left] = part
        part = whole
    shrinks = across > crop_size and crop_rule == "square"
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(part, (crop_size, crop_size), interpolation=method)


def _stratified_sample(count: int, wanted: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw at most `wanted` distinct numbers below `count`, ascending, one from each stratum."""
    if count <= wanted:
        return np.arange(count)
    bounds = np.arange(wanted + 1) * count // wanted
    return rng.integers(bounds[:-1], bounds[1:])
