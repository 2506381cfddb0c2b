"""The objects that the node has told others about: their shapes' versions and their ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.pipeline import ObjectEstimate


@dataclass
class KnownObject:
    """One object over time.

    Attributes:
        id: stable name.
        estimate: the latest one.
        last_seen: stamp of the latest estimate, seconds.
        version: of the shape; grows by one with each change.
        shape: the estimate that this version of the shape was taken from.
        mesh: surface of this version, or None until somebody wants it.
        has_frame: its transform was broadcast, so that what lies in its frame can be shown.
        sent: what was published of this version ("mesh", "marker").
    """

    id: str
    estimate: ObjectEstimate
    last_seen: float
    version: int
    shape: ObjectEstimate
    mesh: TriangleMesh | None = None
    has_frame: bool = False
    sent: set[str] = field(default_factory=set)


class KnownObjects:
    """All objects that are in view or were until a moment ago."""

    def __init__(self) -> None:
        self._objects: dict[str, KnownObject] = {}
        # Outlives the objects, so that id and version together never name two shapes.
        self._versions: dict[str, int] = {}

    def __iter__(self) -> Iterable[KnownObject]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def updated(
        self,
        stamp_s: float,
        ids: Sequence[str],
        estimates: Sequence[ObjectEstimate],
        shape_change: float,
    ) -> list[KnownObject]:
        """The objects of a frame, brought up to date.

        Args:
            stamp_s: of the image, seconds.
            ids, estimates: of the frame's objects.
            shape_change: relative distance of shape codes from which on a shape has changed.
        """
        return [
            self._update(stamp_s, id, estimate, shape_change)
            for id, estimate in zip(ids, estimates, strict=True)
        ]

    def ended(self, stamp_s: float, timeout_s: float) -> list[KnownObject]:
        """Takes out the objects that were not seen for longer than a time."""
        gone = [o for o in self._objects.values() if stamp_s - o.last_seen > timeout_s]
        for known in gone:
            del self._objects[known.id]
        return gone

    def clear(self) -> list[KnownObject]:
        """Takes out all objects."""
        gone = list(self._objects.values())
        self._objects.clear()
        return gone

    def _update(
        self, stamp_s: float, id: str, estimate: ObjectEstimate, shape_change: float
    ) -> KnownObject:
        known = self._objects.get(id)
        if known is None:
            known = KnownObject(id, estimate, stamp_s, self._next_version(id), estimate)
            self._objects[id] = known
        elif code_distance(estimate.code, known.shape.code) > shape_change:
            known.version = self._next_version(id)
            known.shape = estimate
            known.mesh = None
            known.sent.clear()
        known.estimate = estimate
        known.last_seen = stamp_s
        return known

    def _next_version(self, id: str) -> int:
        self._versions[id] = self._versions.get(id, 0) + 1
        return self._versions[id]


def code_distance(code: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """|code - reference| / |reference|; infinite where the codes have different lengths."""
    if code.shape != reference.shape:
        return float("inf")
    scale = float(np.linalg.norm(reference))
    return float(np.linalg.norm(code - reference)) / max(scale, np.finfo(np.float32).tiny)
