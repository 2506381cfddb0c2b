"""Overlap of two label images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]


class Overlap(NamedTuple):
    """Pixels that two masks share.

    Attributes:
        first, second: labels of the masks in the two images.
        shared: pixels in both masks.
        first_pixels, second_pixels: of each mask.
    """

    first: int
    second: int
    shared: int
    first_pixels: int
    second_pixels: int

    @property
    def f(self) -> float:
        """F measure: 2 shared / (first + second)."""
        return 2.0 * self.shared / (self.first_pixels + self.second_pixels)

    @property
    def iou(self) -> float:
        """Intersection over union."""
        return self.shared / (self.first_pixels + self.second_pixels - self.shared)


def overlaps(first: Labels, second: Labels) -> list[Overlap]:
    """List the pairs of masks of two label images (H, W) that share pixels; 0 is no mask."""
    names, columns, sizes = zip(*map(_numbered, (first, second)), strict=True)
    joint = np.bincount(
        columns[0] * len(names[1]) + columns[1], minlength=len(names[0]) * len(names[1])
    ).reshape(len(names[0]), len(names[1]))
    return [
        Overlap(
            int(names[0][a]), int(names[1][b]), int(joint[a, b]), int(sizes[0][a]), int(sizes[1][b])
        )
        for a, b in np.argwhere(joint > 0)
        if names[0][a] != 0 and names[1][b] != 0
    ]


def best_pairs(
    pairs: list[Overlap], measure: Callable[[Overlap], float], least: float = 0.0
) -> Iterator[Overlap]:
    """Choose pairs one to one, the largest measure first, as long as it is at least a value."""
    first: set[int] = set()
    second: set[int] = set()
    for pair in sorted(pairs, key=measure, reverse=True):
        if measure(pair) < least:
            return
        if pair.first not in first and pair.second not in second:
            first.add(pair.first)
            second.add(pair.second)
            yield pair


def _numbered(labels: Labels) -> tuple[Labels, NDArray[np.intp], NDArray[np.intp]]:
    """The labels that occur, the number of each pixel's label among them, and their pixels."""
    flat = labels.ravel()
    if flat.size and 0 <= flat.min() and flat.max() < 1 << 20:
        pixels = np.bincount(flat)
        names = np.flatnonzero(pixels)
        table = np.zeros(len(pixels), np.intp)
        table[names] = np.arange(len(names))
        return names, table[flat], pixels[names]
    names, numbers, pixels = np.unique(flat, return_inverse=True, return_counts=True)
    return names, numbers.reshape(-1), pixels
