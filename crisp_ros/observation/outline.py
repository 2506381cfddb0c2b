"""Outlines of objects in the image: where something nearer hides a part of the object."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crisp_ros.observation.frame import Frame

_RING_PX = 4  # width of the ring around a mask; depth at the outline itself mixes two surfaces
_NEARER_M = 0.02  # than the object next to it: the table in front of it is not
_NO_DEPTH_M = 1e3


def hidden_outline_share(frame: Frame, label: int) -> float:
    """Share of an object's outline behind which it may go on; 0 for a label without pixels.

    There something nearer is next to the object, or the image ends.

    Args:
        frame: with refined labels.
        label: of the object.
    """
    rows, columns = np.nonzero(frame.labels == label)
    if len(rows) == 0:
        return 0.0
    window = tuple(
        (int(part.min()) - _RING_PX, int(part.max()) + _RING_PX + 1) for part in (rows, columns)
    )
    own = _cut(frame.labels == label, window, False)
    depth = _cut(frame.depth, window, 0.0)
    outside = _cut(np.zeros(frame.labels.shape, bool), window, True)
    kernel = np.ones((2 * _RING_PX + 1,) * 2, np.uint8)
    ring = (cv2.dilate(own.astype(np.uint8), kernel) > 0) & ~own
    nearest = cv2.erode(np.where(own & (depth > 0), depth, np.float32(_NO_DEPTH_M)), kernel)
    nearer = (depth > 0) & (nearest < _NO_DEPTH_M) & (depth < nearest - _NEARER_M)
    return float((ring & (nearer | outside)).sum() / ring.sum())


def _cut(
    image: NDArray[np.generic], window: tuple[tuple[int, int], ...], beyond: float | bool
) -> NDArray[np.generic]:
    """A window (first, end) in rows and columns of an image, with a value beyond its borders."""
    inside = tuple(
        slice(max(first, 0), min(end, size))
        for (first, end), size in zip(window, image.shape, strict=True)
    )
    around = [
        (max(-first, 0), max(end - size, 0))
        for (first, end), size in zip(window, image.shape, strict=True)
    ]
    return np.pad(image[inside], around, constant_values=beyond)
