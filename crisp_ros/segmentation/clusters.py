"""Connected surfaces of a depth image, split at depth edges and at concave edges."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from crisp_ros.validation import check_ranges, ranged

from .point_image import PointImage


@dataclass(frozen=True)
class ClusterSettings:
    """Settings of `connected_surfaces`.

    Attributes:
        jump_m: largest step in depth between neighbours of one surface, metres, at zero depth.
        jump_per_m2: what is added to it, metres per squared metre of depth, for the noise.
        max_slope: largest step in depth relative to the distance across the image, for surfaces
            seen at a grazing angle.
        bridge_px: pixels without depth across which neighbours are compared, in the reduced image.
        concave_deg: neighbours are separated where the surface bends inwards by more than this
            angle, degrees; 180 switches it off.
    """

    jump_m: float = ranged(0.003, 0.0005, 0.2)
    jump_per_m2: float = ranged(0.003, 0.0, 0.1)
    max_slope: float = ranged(0.7, 0.0, 20.0)
    bridge_px: int = ranged(4, 1, 50)
    concave_deg: float = ranged(40.0, 5.0, 180.0)

    def __post_init__(self) -> None:
        check_ranges(self)


def connected_surfaces(
    image: PointImage, foreground: NDArray[np.bool_], spacing: float, settings: ClusterSettings
) -> NDArray[np.int32]:
    """Label the connected surfaces of the foreground.

    Args:
        image: points and normals.
        foreground: (h, w) pixels with depth that may belong to objects.
        spacing: distance of neighbouring pixels at a depth of one metre, metres.
        settings: see `ClusterSettings`.

    Returns:
        (h, w) labels from 1, 0 outside the foreground.
    """
    numbers = np.full(foreground.shape, -1, np.int32)
    count = int(np.count_nonzero(foreground))
    numbers[foreground] = np.arange(count, dtype=np.int32)
    labels = np.zeros(foreground.shape, np.int32)
    if count == 0:
        return labels
    pairs = [_links(image, foreground, numbers, axis, spacing, settings) for axis in (0, 1)]
    first, second = np.concatenate(pairs, axis=1)
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    labels[foreground] = component + 1
    return labels


def _links(
    image: PointImage,
    foreground: NDArray[np.bool_],
    numbers: NDArray[np.int32],
    axis: int,
    spacing: float,
    settings: ClusterSettings,
) -> NDArray[np.int32]:
    """Numbers (2, K) of the pixels that are neighbours on one surface, along an image axis."""
    turned = axis == 0
    here = foreground.T if turned else foreground
    obstacle = (image.valid & ~foreground).T if turned else image.valid & ~foreground
    depth = image.points[..., 2].T if turned else image.points[..., 2]
    ids = numbers.T if turned else numbers
    rows, columns = np.nonzero(here)
    a, b = slice(None, -1), slice(1, None)
    distance = columns[b] - columns[a]
    passed = np.cumsum(obstacle, axis=1)
    linked = (rows[a] == rows[b]) & (distance <= settings.bridge_px)
    linked &= passed[rows[b], columns[b]] == passed[rows[a], columns[a]]
    z = depth[rows, columns]
    least = np.minimum(z[a], z[b])
    across = distance * spacing * least
    jump = settings.jump_m + settings.jump_per_m2 * least**2 + settings.max_slope * across
    linked &= np.abs(z[b] - z[a]) <= jump
    if settings.concave_deg < 180.0:
        concave = concave_edges(image, axis, settings.concave_deg)
        concave = concave.T if turned else concave
        linked &= ~concave[rows[a], columns[a]]
    return np.stack([ids[rows[a], columns[a]], ids[rows[b], columns[b]]])[:, linked]


def concave_edges(image: PointImage, axis: int, angle_deg: float) -> NDArray[np.bool_]:
    """Find where (h, w) the surface bends inwards between a pixel and the next along an axis.

    Normals a few pixels to either side are compared, as those at the edge itself are blurred.
    """
    reach = 3
    before, after = np.roll(image.normals, reach, axis), np.roll(image.normals, -reach - 1, axis)
    start, end = np.roll(image.points, reach, axis), np.roll(image.points, -reach - 1, axis)
    known = (before != 0.0).any(-1) & (after != 0.0).any(-1)
    bend = (before * after).sum(-1) < np.cos(np.deg2rad(angle_deg))
    inwards = ((after - before) * (end - start)).sum(-1) < 0.0
    concave = (known & bend & inwards).astype(np.uint8)
    return cv2.morphologyEx(concave, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) > 0
