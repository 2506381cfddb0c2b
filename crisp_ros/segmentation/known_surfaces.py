"""Correction of masks by objects whose surface and pose are known: parts of one are merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.validation import check_ranges, ranged

from .point_image import PointImage

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class MergeSettings:
    """Settings of `merged_parts`.

    Attributes:
        tolerance_m: largest distance of a mask's points from the surface, metres, at zero depth.
        tolerance_per_m2: what is added to it, metres per squared metre of depth, for the noise.
        min_share: a mask is a part of an object from this share of its points on its surface on.
        sampled: most points of a mask that are compared.
    """

    tolerance_m: float = ranged(0.005, 0.0005, 0.1)
    tolerance_per_m2: float = ranged(0.004, 0.0, 0.1)
    min_share: float = ranged(0.8, 0.0, 1.0)
    sampled: int = ranged(150, 10, 10000)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, eq=False)
class Surface:
    """Points on the surface of an object, searchable.

    Attributes:
        points: (N, 3) object frame, metres, spaced closely compared with `MergeSettings`.
    """

    points: NDArray[np.floating]
    _tree: cKDTree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", cKDTree(self.points))

    def are_near(
        self, points: NDArray[np.floating], tolerance_m: NDArray[np.floating]
    ) -> NDArray[np.bool_]:
        """Whether points (M, 3) are within their tolerances (M,) of the surface."""
        low, high = self.points.min(0), self.points.max(0)
        near = (
            (points >= low - tolerance_m[:, None]) & (points <= high + tolerance_m[:, None])
        ).all(-1)
        if near.any():
            limit = float(tolerance_m[near].max())
            distance, _ = self._tree.query(points[near], distance_upper_bound=limit)
            near[near] = distance <= tolerance_m[near]
        return near


@dataclass(frozen=True, eq=False)
class KnownObject:
    """An object whose shape and pose were certified.

    Attributes:
        surface: its shape.
        T_camera_object: (4, 4) expected pose in the optical frame.
    """

    surface: Surface
    T_camera_object: NDArray[np.floating]


KnownObjects = Callable[[], Sequence[KnownObject]]


def no_objects() -> Sequence[KnownObject]:
    """Nothing is known."""
    return ()


def merged_parts(
    labels: Labels, image: PointImage, known: Sequence[KnownObject], settings: MergeSettings
) -> Labels:
    """Merge the masks that are parts of the same known object.

    A mask belongs to the object on whose surface most of its points are. The pose may be that of
    the previous image: an object that has moved since explains no mask, and nothing is merged.

    Args:
        labels: (h, w) masks, 0 for the background.
        image: points of the same size.
        known: objects.
        settings: see `MergeSettings`.

    Returns:
        (h, w) labels; merged masks have the label of the largest.
    """
    parts: dict[int, list[tuple[int, int]]] = {}
    if not known:
        return labels
    T_object_camera = [invert(k.T_camera_object) for k in known]
    for label in np.unique(labels[labels > 0]).tolist():
        own = image.points[(labels == label) & image.valid]
        points = own[:: max(1, len(own) // settings.sampled)]
        if len(points) == 0:
            continue
        tolerance = settings.tolerance_m + settings.tolerance_per_m2 * points[:, 2] ** 2
        shares = [
            k.surface.are_near(transform(T, points), tolerance).mean()
            for k, T in zip(known, T_object_camera, strict=True)
        ]
        best = int(np.argmax(shares))
        if shares[best] >= settings.min_share:
            parts.setdefault(best, []).append((len(own), label))
    table = np.arange(int(labels.max(initial=0)) + 1, dtype=np.int32)
    for same in parts.values():
        table[[label for _, label in same]] = max(same)[1]
    return table[labels]
