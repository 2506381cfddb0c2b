"""Label images from detector boxes: depth separates the object from the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_BIN = 0.01  # relative width of the depth histogram's bins
_PLANE_TRIALS = 64
_PLANE_SAMPLES = 600  # pixels around a box at which planes are tried


class Box(NamedTuple):
    """A rotated box in an image.

    Attributes:
        label: greater than zero.
        u: column of the centre, px.
        v: row of the centre, px.
        width: px.
        height: px.
        angle: radians.
    """

    label: int
    u: float
    v: float
    width: float
    height: float
    angle: float = 0.0


@dataclass(frozen=True)
class BoxSettings:
    """Settings of `labels_in_boxes`.

    Attributes:
        depth_jump: largest difference between neighbours of one surface, as a share of the depth.
        reach: largest distance of an object's points from its most common depth, relative to the
            box's longer edge.
        plane_m: thickness of the supporting surface, metres along the viewing ray.
        plane_share: least share of the pixels around a box on such a surface.
        ring: width of the surroundings of a box, relative to its longer edge.
        fragment: parts of an object below this share of its largest part are dropped.
    """

    depth_jump: float = 0.015
    reach: float = 0.8
    plane_m: float = 0.008
    plane_share: float = 0.35
    ring: float = 0.2
    fragment: float = 0.05


def labels_in_boxes(
    depth: NDArray[np.float32], boxes: Sequence[Box], focal: float, settings: BoxSettings
) -> NDArray[np.int32]:
    """Segment the object in each box; the nearer one of overlapping objects gets the pixel.

    The supporting surface is fitted around the box and removed. The most common depth near the
    centre of the box is the object's; its pixels are connected to it without depth jumps, within
    the reach of an object of that size.

    Args:
        depth: (H, W) metres; not positive or not finite where invalid.
        boxes: of the objects, clipped to the image.
        focal: length, px, which gives the size of an object in metres.
        settings: see `BoxSettings`.

    Returns:
        (H, W), 0 for the background. A box without a usable depth has no pixels.
    """
    depth = np.where((depth > 0) & (depth < np.inf), depth, np.float32(0))
    labels = np.zeros(depth.shape, np.int32)
    nearest = np.full(depth.shape, np.inf, np.float32)
    for box in boxes:
        found = _foreground(depth, box, focal, settings)
        if found is None:
            continue
        rows, columns, mask, distance = found
        mask &= distance < nearest[rows, columns]
        labels[rows, columns][mask] = box.label
        nearest[rows, columns][mask] = distance
    return labels


class _Foreground(NamedTuple):
    rows: slice
    columns: slice
    mask: NDArray[np.bool_]
    distance: float


def _foreground(
    depth: NDArray[np.float32], box: Box, focal: float, settings: BoxSettings
) -> _Foreground | None:
    """Find the object's pixels in a window of the image, and its most common depth."""
    u, v, width, height, angle = map(float, box[1:])
    corners = cv2.boxPoints(((u, v), (width, height), np.degrees(angle)))
    margin = max(settings.ring * max(box.width, box.height), 6.0)
    rows = _clipped(corners[:, 1], margin, depth.shape[0])
    columns = _clipped(corners[:, 0], margin, depth.shape[1])
    z = depth[rows, columns]
    if z.size == 0:
        return None
    inside = np.zeros(z.shape, np.uint8)
    origin = (columns.start, rows.start)
    cv2.fillConvexPoly(inside, np.rint(corners - origin).astype(np.int32), 1)
    inside = inside.view(bool)
    weights = _centre_weights(z.shape, box, origin)
    reach = settings.reach * max(box.width, box.height) / focal
    # Before the supporting surface is removed, this depth may be the surface's, near the object.
    near = _near(z, _common_depth(z, weights, inside & (z > 0)), reach)
    candidates = inside & near & ~_on_plane(z, near & ~inside, settings)
    common = _common_depth(z, weights, candidates)
    candidates &= _near(z, common, reach)
    if not candidates.any():
        return None
    mask = _connected(candidates & ~_jumps(z, settings.depth_jump), weights, settings.fragment)
    # Pixels at jumps belong to the part that they touch; holes in the object are filled.
    mask = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool) & candidates
    return _Foreground(rows, columns, _fill_holes(mask), common)


def _clipped(values: NDArray[np.float32], margin: float, size: int) -> slice:
    low, high = np.floor(values.min() - margin), np.ceil(values.max() + margin) + 1
    return slice(int(np.clip(low, 0, size)), int(np.clip(high, 0, size)))


def _centre_weights(
    shape: tuple[int, int], box: Box, origin: tuple[int, int]
) -> NDArray[np.float32]:
    """Weights: one at the centre of a box, e^-2 at its edges."""
    v, u = np.ogrid[: shape[0], : shape[1]]
    du, dv = u + origin[0] - box.u, v + origin[1] - box.v
    c, s = np.cos(box.angle), np.sin(box.angle)
    x = (c * du + s * dv) / (box.width / 2)
    y = (c * dv - s * du) / (box.height / 2)
    return np.exp(-2 * (x * x + y * y)).astype(np.float32)


def _common_depth(
    z: NDArray[np.float32], weights: NDArray[np.float32], where: NDArray[np.bool_]
) -> float:
    """The mode of depths, in bins of equal relative width; NaN without any."""
    if not where.any():
        return float("nan")
    z, weights = z[where], weights[where]
    bins = np.floor(np.log(z) / _BIN).astype(np.int64)
    bins -= bins.min()
    counts = np.bincount(bins, weights)
    smooth = np.convolve(counts, np.ones(5))[2:-2]
    return float(np.median(z[np.abs(bins - int(smooth.argmax())) <= 2]))


def _near(z: NDArray[np.float32], common: float, reach: float) -> NDArray[np.bool_]:
    """Measured depths within `reach` times the common depth."""
    return (z > 0) & (np.abs(z - common) <= reach * common)


def _fill_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill the holes of a mask."""
    outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    return cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED).view(bool)


def _jumps(z: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Pixels that are much farther than a neighbour."""
    nearest = cv2.erode(np.where(z > 0, z, np.float32(np.inf)), np.ones((3, 3), np.uint8))
    return z - nearest > share * z


def _connected(
    mask: NDArray[np.bool_], weights: NDArray[np.float32], fragment: float
) -> NDArray[np.bool_]:
    """Select the part with the most weight, and others that are as central as it is."""
    parts, part = cv2.connectedComponents(mask.view(np.uint8), connectivity=4)
    if parts == 1:
        return mask
    flat = part.ravel()
    area = np.bincount(flat, minlength=parts)
    weight = np.bincount(flat, weights.ravel(), minlength=parts)
    weight[0] = 0
    main = int(weight.argmax())
    mean = weight / np.maximum(area, 1)
    kept = (area >= fragment * area[main]) & (mean >= 0.5 * mean[main])
    kept[0], kept[main] = False, True
    return kept[part]


def _on_plane(
    z: NDArray[np.float32], around: NDArray[np.bool_], settings: BoxSettings
) -> NDArray[np.bool_]:
    """Find the pixels of the dominant plane around a box; none without one.

    The inverse depth of a plane is an affine function of the pixel, for any pinhole camera.
    """
    v, u = np.nonzero(around)
    if len(u) < 30:
        return np.zeros(z.shape, bool)
    rng = np.random.default_rng(0)
    if len(u) > _PLANE_SAMPLES:
        chosen = rng.choice(len(u), _PLANE_SAMPLES, replace=False)
        u, v = u[chosen], v[chosen]
    pixels = np.stack([u, v, np.ones_like(u)], axis=-1).astype(np.float64)
    depths = z[v, u].astype(np.float64)
    triples = rng.integers(0, len(u), (_PLANE_TRIALS, 3))
    triples = triples[np.abs(np.linalg.det(pixels[triples])) > 1]  # more than a line
    if len(triples) == 0:
        return np.zeros(z.shape, bool)
    planes = np.linalg.solve(pixels[triples], 1 / depths[triples][..., None])[..., 0]
    near = _near_plane(pixels @ planes.T, depths[:, None], settings.plane_m)
    best = int(near.sum(0).argmax())
    if near[:, best].mean() < settings.plane_share:
        return np.zeros(z.shape, bool)
    on = near[:, best]
    plane = np.linalg.lstsq(pixels[on], 1 / depths[on], rcond=None)[0]
    v, u = np.ogrid[: z.shape[0], : z.shape[1]]
    return _near_plane(plane[0] * u + plane[1] * v + plane[2], z, settings.plane_m)


def _near_plane(
    inverse: NDArray[np.floating], z: NDArray[np.floating], plane_m: float
) -> NDArray[np.bool_]:
    """Whether depths z are within a distance of planes of these inverse depths."""
    # |1 / inverse - z| <= m, without a division by zero.
    return np.abs(1 - z * inverse) <= plane_m * np.abs(inverse)
