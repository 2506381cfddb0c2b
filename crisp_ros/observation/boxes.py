"""Labels from boxes: inside a detector's box the depth tells object from background."""

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
    """A box in an image: label > 0; centre u, v, width and height in px; angle in radians."""

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
        depth_jump: share of the depth by which neighbours of one surface differ at most.
        reach: how far an object reaches from its nearest common depth, over the box's longer edge.
        plane_m: thickness of the surface that objects stand on, metres along the viewing ray.
        plane_share: of the pixels around a box that have to lie on such a surface.
        ring: width of what counts as around a box, over its edges.
        fragment: parts of an object below this share of its largest part are left out.
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
    """A label image of what stands out in each box; where objects overlap, the nearer one has it.

    The surface that an object stands on is found around its box, and does not count. Of what is
    left, the depth most common near the middle of the box is the object's, and with it all that is
    connected to it without a jump of depth and not farther than an object of that size reaches.

    Args:
        depth: (H, W) metres; not positive or not finite where invalid.
        boxes: of the objects; where they leave the image they are cut.
        focal: length, px: tells how large in metres an object is.
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
    """The object's pixels in a window of the image, and its most common depth."""
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
    weights = _middle_weights(z.shape, box, origin)
    reach = settings.reach * max(box.width, box.height) / focal
    # With the surface that it stands on the depth is not the object's yet, but near it.
    near = _near(z, _common_depth(z, weights, inside & (z > 0)), reach)
    candidates = inside & near & ~_on_plane(z, near & ~inside, settings)
    common = _common_depth(z, weights, candidates)
    candidates &= _near(z, common, reach)
    if not candidates.any():
        return None
    mask = _connected(candidates & ~_jumps(z, settings.depth_jump), weights, settings.fragment)
    # Pixels at jumps belong to whichever part they touch; what lies within the object is its own.
    mask = cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool) & candidates
    return _Foreground(rows, columns, _without_holes(mask), common)


def _clipped(values: NDArray[np.float32], margin: float, size: int) -> slice:
    low, high = np.floor(values.min() - margin), np.ceil(values.max() + margin) + 1
    return slice(int(np.clip(low, 0, size)), int(np.clip(high, 0, size)))


def _middle_weights(
    shape: tuple[int, int], box: Box, origin: tuple[int, int]
) -> NDArray[np.float32]:
    """One in the middle of a box, falling to e^-2 at its edges."""
    v, u = np.ogrid[: shape[0], : shape[1]]
    du, dv = u + origin[0] - box.u, v + origin[1] - box.v
    c, s = np.cos(box.angle), np.sin(box.angle)
    x = (c * du + s * dv) / (box.width / 2)
    y = (c * dv - s * du) / (box.height / 2)
    return np.exp(-2 * (x * x + y * y)).astype(np.float32)


def _common_depth(
    z: NDArray[np.float32], weights: NDArray[np.float32], where: NDArray[np.bool_]
) -> float:
    """The mode of depths, of bins of equal relative width; NaN of nothing."""
    if not where.any():
        return float("nan")
    z, weights = z[where], weights[where]
    bins = np.floor(np.log(z) / _BIN).astype(np.int64)
    bins -= bins.min()
    counts = np.bincount(bins, weights)
    smooth = np.convolve(counts, np.ones(5))[2:-2]
    return float(np.median(z[np.abs(bins - int(smooth.argmax())) <= 2]))


def _near(z: NDArray[np.float32], common: float, reach: float) -> NDArray[np.bool_]:
    """Measured depths that an object reaches whose edges are `reach` per metre of distance."""
    return (z > 0) & (np.abs(z - common) <= reach * common)


def _without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with all that it surrounds."""
    outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    return cv2.drawContours(filled, outlines, -1, 1, cv2.FILLED).view(bool)


def _jumps(z: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Pixels whose depth differs too much from a neighbour's that is nearer."""
    nearest = cv2.erode(np.where(z > 0, z, np.float32(np.inf)), np.ones((3, 3), np.uint8))
    return z - nearest > share * z


def _connected(
    mask: NDArray[np.bool_], weights: NDArray[np.float32], fragment: float
) -> NDArray[np.bool_]:
    """The part with the most weight, and others that do not just reach in from the side."""
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
    """The pixels of the plane that most of the pixels around a box lie on; none without one.

    The inverse depth of a plane is an affine function of the pixel, whatever the camera.
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
    """Where depths z lie within a distance of planes of these inverse depths."""
    # |1 / inverse - z| <= m, without a division by what may be zero.
    return np.abs(1 - z * inverse) <= plane_m * np.abs(inverse)
