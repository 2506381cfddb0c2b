"""Widths of object masks in the image."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_ANGLES = np.arange(8) * np.pi / 8
WIDTH_DIRECTIONS = np.stack((np.cos(_ANGLES), np.sin(_ANGLES)))
"""(2, D) unit vectors in the image, along which widths are measured."""
_SPUR = np.ones((3, 3), np.uint8)  # narrower parts of a mask do not count


def mask_widths(labels: NDArray[np.int32], wanted: Sequence[int]) -> NDArray[np.float32]:
    """Measure the widths of masks along `WIDTH_DIRECTIONS`.

    Args:
        labels: (H, W).
        wanted: B labels.

    Returns:
        (B, D) px; NaN for masks that are empty or reach the border of the image.
    """
    widths = np.full((len(wanted), len(_ANGLES)), np.nan, np.float32)
    for row, label in enumerate(wanted):
        mask = (labels == label).view(np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        bottom, right = top + height, left + width
        if min(left, top) < 1 or bottom >= mask.shape[0] or right >= mask.shape[1]:
            continue
        opened = cv2.morphologyEx(
            mask[top - 1 : bottom + 1, left - 1 : right + 1], cv2.MORPH_OPEN, _SPUR
        )
        contours, _ = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if contours:
            along = np.concatenate(contours)[:, 0] @ WIDTH_DIRECTIONS
            # Contours run through the centres of the outermost pixels.
            extent = np.abs(WIDTH_DIRECTIONS).sum(0)
            widths[row] = along.max(0) - along.min(0) + extent
    return widths
