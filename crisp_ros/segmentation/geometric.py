"""Objects by geometry alone: what rises from a plane, split at depth edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.camera import Camera
from crisp_ros.validation import check_ranges, ranged

from .clusters import ClusterSettings, connected_surfaces
from .planes import Plane, PlaneSettings, find_planes, tolerance
from .point_image import PointImage, point_image


@dataclass(frozen=True)
class GeometricSettings:
    """Settings of the geometric segmentation.

    Attributes:
        width: of the reduced image, pixels.
        near_m, far_m: range of usable depth, metres.
        min_height_m: an object rises at least this far above its support, metres.
        max_height_m: what is farther above a support does not stand on it, metres.
        min_size_m, max_size_m: least and greatest length of an object, metres.
        min_pixels: least number of pixels of an object in the reduced image.
        fill: pixels without depth are filled up to this share of the object's width.
        plane: of the supports.
        cluster: of the objects.
    """

    width: int = ranged(320, 40, 1280)
    near_m: float = ranged(0.15, 0.01, 10.0)
    far_m: float = ranged(3.0, 0.1, 20.0)
    min_height_m: float = ranged(0.01, 0.001, 0.5)
    max_height_m: float = ranged(0.6, 0.02, 5.0)
    min_size_m: float = ranged(0.02, 0.002, 1.0)
    max_size_m: float = ranged(0.5, 0.02, 5.0)
    min_pixels: int = ranged(40, 1, 10000)
    fill: float = ranged(0.15, 0.0, 1.0)
    plane: PlaneSettings = field(default_factory=PlaneSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    def __post_init__(self) -> None:
        check_ranges(self)


class Foreground(NamedTuple):
    """The pixels that may belong to objects.

    Attributes:
        mask: (h, w) pixels with depth.
        support: index of the plane that most of it stands on, None without one.
        height: (h, w) above that plane, metres, 0 without one.
    """

    mask: NDArray[np.bool_]
    support: int | None
    height: NDArray[np.float32]


class Geometry(NamedTuple):
    """Planes of an image and what stands on them, at the reduced size.

    Attributes:
        image: points and normals.
        planes: of the room, the largest first.
        foreground: see `Foreground`.
        reasons: why there may be no objects.
    """

    image: PointImage
    planes: list[Plane]
    foreground: Foreground
    reasons: list[str]


class Masks(NamedTuple):
    """Masks at the reduced size.

    Attributes:
        labels: (h, w) int32 from 1, 0 for the background.
        reasons: why parts of the image were not taken for objects.
    """

    labels: NDArray[np.int32]
    reasons: list[str]


def scene_geometry(
    depth: NDArray[np.floating],
    camera: Camera,
    settings: GeometricSettings,
    previous: Sequence[Plane] = (),
) -> Geometry:
    """Find the planes of a depth image and what stands on them.

    Args:
        depth: (H, W) metres; what is not a positive number is not measured.
        camera: of the image.
        settings: see `GeometricSettings`.
        previous: planes of the previous image.
    """
    image = point_image(depth, camera, settings.width, (settings.near_m, settings.far_m))
    if not image.valid.any():
        height = np.zeros(image.valid.shape, np.float32)
        text = f"no depth from {settings.near_m:g} to {settings.far_m:g} m"
        return Geometry(image, [], Foreground(image.valid, None, height), [text])
    planes = find_planes(image.points, image.normals, image.valid, settings.plane, previous)
    foreground = standing(image, planes, settings)
    reasons = []
    if not planes:
        reasons = ["no plane found: everything in range may be an object"]
    elif not foreground.mask.any():
        reasons = ["nothing rises from the planes found"]
    return Geometry(image, planes, foreground, reasons)


def geometric_masks(geometry: Geometry, focal_px: float, settings: GeometricSettings) -> Masks:
    """Separate what stands on the planes by geometry alone.

    Args:
        geometry: of the image.
        focal_px: focal length of the full image, pixels.
        settings: see `GeometricSettings`.
    """
    image = geometry.image
    spacing = image.step / focal_px
    parts = connected_surfaces(image, geometry.foreground.mask, spacing, settings.cluster)
    labels, reasons = of_object_size(parts, image, geometry.foreground, settings)
    return Masks(filled(labels, image.valid, settings.fill), reasons)


def standing(image: PointImage, planes: Sequence[Plane], settings: GeometricSettings) -> Foreground:
    """Separate what stands on a plane from planes, walls and what is beyond them."""
    if not planes:
        return Foreground(image.valid.copy(), None, np.zeros(image.valid.shape, np.float32))
    heights = np.stack([plane.height(image.points) for plane in planes])
    slack = tolerance(image.points[..., 2], settings.plane)
    on_a_plane = (np.abs(heights) < slack).any(0)
    loose = image.valid & ~on_a_plane
    mask = np.zeros_like(loose)
    carried = []
    for plane, height in zip(planes, heights, strict=True):
        above = loose & (height > 0.0) & (height < settings.max_height_m)
        above[above] = plane.is_within(image.points[above], settings.plane.reach_m)
        carried.append(np.count_nonzero(above))
        mask |= above
    support = int(np.argmax(carried)) if max(carried) > 0 else 0
    return Foreground(mask, support, np.where(image.valid, heights[support], np.float32(0.0)))


def of_object_size(
    labels: NDArray[np.int32],
    image: PointImage,
    foreground: Foreground,
    settings: GeometricSettings,
) -> Masks:
    """Renumber the parts that can be objects from 1, and say why the others cannot."""
    count = int(labels.max(initial=0))
    pixels = np.bincount(labels.ravel(), minlength=count + 1)
    keep = pixels >= settings.min_pixels
    keep[0] = False
    small, large, reasons = int(np.count_nonzero(~keep[1:])), 0, []
    flat = 0
    for label in np.flatnonzero(keep):
        own = (labels == label) & image.valid
        if np.count_nonzero(own) < settings.min_pixels:
            keep[label], small = False, small + 1
            continue
        # A mask may reach a few pixels into the background: only what rises from a plane counts.
        rising = own & foreground.mask
        size = _length(image.points[rising if rising.any() else own])
        if size < settings.min_size_m:
            keep[label], small = False, small + 1
        elif size > settings.max_size_m:
            keep[label], large = False, large + 1
        elif foreground.support is not None and (
            np.quantile(foreground.height[own], 0.9) < settings.min_height_m
        ):
            keep[label], flat = False, flat + 1
    if large:
        reasons.append(f"{large} parts are longer than {settings.max_size_m:g} m")
    if flat:
        reasons.append(f"{flat} parts are lower than {settings.min_height_m:g} m")
    if small and not keep.any():
        reasons.append(
            f"{small} parts are smaller than {settings.min_size_m:g} m or "
            f"{settings.min_pixels} pixels"
        )
    number = np.zeros(count + 1, np.int32)
    number[keep] = np.arange(1, np.count_nonzero(keep) + 1)
    return Masks(number[labels], reasons)


def _length(points: NDArray[np.float32]) -> float:
    """Extent of points (N, 3) along their longest principal axis, without the outermost 2 %."""
    some = points[:: max(1, len(points) // 500)]
    apart = some - some.mean(0)
    _, vectors = np.linalg.eigh(apart.T @ apart)
    low, high = np.quantile(apart @ vectors[:, 2], (0.01, 0.99))
    return float(high - low)


def filled(labels: NDArray[np.int32], valid: NDArray[np.bool_], share: float) -> NDArray[np.int32]:
    """Give pixels without depth that an object encloses to that object.

    Args:
        labels: (h, w).
        valid: (h, w) where depth was measured; such pixels keep their label.
        share: the gaps of an object are closed up to this share of the root of its area.
    """
    result = labels.copy()
    free = ~valid
    if share <= 0.0 or not free.any():
        return result
    for label in range(1, int(labels.max(initial=0)) + 1):
        own = (labels == label).astype(np.uint8)
        area = cv2.countNonZero(own)
        if area == 0:
            continue
        radius = max(1, round(share * area**0.5))
        u, v, width, height = cv2.boundingRect(own)
        pad = radius + 1
        patch = np.pad(own[v : v + height, u : u + width], pad)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
        closed = cv2.morphologyEx(patch, cv2.MORPH_CLOSE, disc)[pad:-pad, pad:-pad] > 0
        area_of = (slice(v, v + height), slice(u, u + width))
        result[area_of][closed & free[area_of] & (result[area_of] == 0)] = label
    return result
