"""Objects from votes: every foreground pixel votes for its object's centre."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class VoteSettings:
    """Settings of `voted_labels`.

    Attributes:
        blur_px: width of the Gaussian that makes a density of the votes, pixels of the network's
            output, as all lengths here.
        apart_px: least distance of two centres.
        min_votes: least density at a centre, relative to that of a small, well-voted object.
        max_objects: most centres; those with fewest votes are dropped.
    """

    blur_px: float = ranged(1.5, 0.5, 20.0)
    apart_px: int = ranged(5, 1, 50)
    min_votes: float = ranged(0.8, 0.0, 100.0)
    max_objects: int = ranged(100, 1, 1000)

    def __post_init__(self) -> None:
        check_ranges(self)


def voted_labels(
    foreground: NDArray[np.bool_], offset: NDArray[np.float32], settings: VoteSettings
) -> NDArray[np.int32]:
    """Assign each foreground pixel to the centre that is nearest to its vote.

    Args:
        foreground: (h, w).
        offset: (2, h, w) columns and rows to the object's centre, pixels.
        settings: see `VoteSettings`.

    Returns:
        (h, w) labels from 1, 0 outside the foreground.
    """
    labels = np.zeros(foreground.shape, np.int32)
    rows, columns = np.nonzero(foreground)
    if len(rows) == 0:
        return labels
    votes = np.stack([columns + offset[0][foreground], rows + offset[1][foreground]], axis=-1)
    height, width = foreground.shape
    inside = np.clip(np.rint(votes), 0, (width - 1, height - 1)).astype(int)
    density = np.bincount(inside[:, 1] * width + inside[:, 0], minlength=width * height)
    density = density.reshape(height, width).astype(np.float32)
    density = cv2.GaussianBlur(density, (0, 0), settings.blur_px)
    window = np.ones((2 * settings.apart_px + 1,) * 2, np.uint8)
    peak = (density >= cv2.dilate(density, window)) & (density > settings.min_votes)
    v, u = np.nonzero(peak)
    if len(v) == 0:
        return labels
    strongest = np.argsort(-density[v, u])[: settings.max_objects]
    _, nearest = cKDTree(np.stack([u, v], axis=-1)[strongest]).query(votes)
    labels[foreground] = nearest + 1
    return labels
