"""Geometry and network together: surfaces split where the network sees several objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from crisp_ros.validation import check_ranges, ranged

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class FusionSettings:
    """Settings of `fused_labels`; pixels are those of the reduced image.

    Attributes:
        foreground: least probability of a pixel that only the network takes for an object.
        veto: pixels of surfaces are dropped below this probability.
        border: parts of a surface are one object where the mean probability of a border along
            their common edge is below this value.
        part_pixels: least size of a part of a surface, pixels;
        part_share: and as a share of the surface.
        join_pixels: what only the network sees joins an object of its centre of at least this size.
    """

    foreground: float = ranged(0.6, 0.0, 1.0)
    veto: float = ranged(0.05, 0.0, 1.0)
    border: float = ranged(0.1, 0.0, 1.0)
    part_pixels: int = ranged(60, 1, 10000)
    part_share: float = ranged(0.08, 0.0, 1.0)
    join_pixels: int = ranged(40, 1, 10000)

    def __post_init__(self) -> None:
        check_ranges(self)


def fused_labels(
    surfaces: Labels,
    votes: Labels,
    foreground: NDArray[np.float32],
    border: NDArray[np.float32],
    settings: FusionSettings,
) -> Labels:
    """Combine connected surfaces with the network's votes.

    Args:
        surfaces: (h, w) labels of surfaces, 0 for the background.
        votes: (h, w) labels by voted centres, 0 for the background.
        foreground: (h, w) probability of an object.
        border: (h, w) probability that another object is next to the pixel.
        settings: see `FusionSettings`.

    Returns:
        (h, w) labels from 1, 0 for the background.
    """
    kept = np.where(foreground >= settings.veto, surfaces, 0)
    result, count = np.zeros_like(surfaces), 0
    for label, area in enumerate(find_objects(kept), start=1):
        if area is None:
            continue
        own = kept[area] == label
        parts = _parts(own, votes[area], border[area], settings)
        result[area][own] = parts[own] + count
        count += int(parts.max())
    alone = (foreground > settings.foreground) & (result == 0) & (votes > 0)
    return _with_votes(result, np.where(alone, votes, 0), votes, count, settings)


def _parts(
    own: NDArray[np.bool_], votes: Labels, border: NDArray[np.float32], settings: FusionSettings
) -> Labels:
    """Split a surface by its votes; parts from 1."""
    pixels = np.bincount(votes[own])
    least = max(settings.part_pixels, settings.part_share * np.count_nonzero(own))
    large = np.flatnonzero(pixels >= least)
    large = large[large > 0]
    if len(large) < 2:
        return own.astype(np.int32)
    number = np.zeros(max(int(votes.max()), int(large.max())) + 1, np.int32)
    number[large] = np.arange(1, len(large) + 1)
    seeds = np.where(own, number[votes], 0)
    nearest = distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    parts = np.where(own, seeds[tuple(nearest)], 0)
    return _joined(parts, border, settings.border)


def _joined(parts: Labels, border: NDArray[np.float32], most: float) -> Labels:
    """Join parts whose common edge is no border."""
    count = int(parts.max()) + 1
    keys, values = [], []
    for a, b, here, there in (
        (parts[:, :-1], parts[:, 1:], border[:, :-1], border[:, 1:]),
        (parts[:-1], parts[1:], border[:-1], border[1:]),
    ):
        meet = (a != b) & (a > 0) & (b > 0)
        keys.append(np.minimum(a, b)[meet] * count + np.maximum(a, b)[meet])
        values.append(np.maximum(here, there)[meet])
    key = np.concatenate(keys)
    total = np.bincount(key, np.concatenate(values), minlength=count * count)
    length = np.bincount(key, minlength=count * count)
    joined = np.flatnonzero((length > 0) & (total < most * length))
    graph = coo_matrix(
        (np.ones(len(joined)), (joined // count, joined % count)), shape=(count, count)
    )
    _, group = connected_components(graph, directed=False)
    group = np.where(np.arange(count) > 0, group + 1 - group[0], 0)
    _, number = np.unique(group, return_inverse=True)
    return number[parts].astype(np.int32)


def _with_votes(
    labels: Labels, alone: Labels, votes: Labels, count: int, settings: FusionSettings
) -> Labels:
    """Add what only the network sees: to the object with its centre, or as a new object."""
    result = labels.copy()
    for vote, area in enumerate(find_objects(votes), start=1):
        if area is None:
            continue
        fresh = alone[area] == vote
        pixels = int(np.count_nonzero(fresh))
        if pixels == 0:
            continue
        known = labels[area][(votes[area] == vote) & (labels[area] > 0)]
        if len(known) >= settings.join_pixels:
            result[area][fresh] = np.bincount(known).argmax()
        elif pixels >= settings.part_pixels:
            count += 1
            result[area][fresh] = count
    return result
