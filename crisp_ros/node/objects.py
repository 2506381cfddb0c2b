"""The objects that the node has told others about, and what was made and sent of their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.track import TrackedObject


@dataclass
class KnownObject:
    """One object over time.

    Attributes:
        tracked: what the tracker last told of it.
        mesh: surface of this version of its shape, or None until somebody wants it.
        has_frame: its transform was broadcast, so that what lies in its frame can be shown.
        sent: what was published of this version ("mesh", "marker").
    """

    tracked: TrackedObject
    mesh: TriangleMesh | None = None
    has_frame: bool = False
    sent: set[str] = field(default_factory=set)

    @property
    def id(self) -> str:
        """Stable name."""
        return self.tracked.id

    @property
    def seen(self) -> bool:
        """The newest frame shows it; else it is held where it was."""
        return self.tracked.seen

    @property
    def estimate(self) -> ObjectEstimate:
        """Of the newest frame."""
        return self.tracked.estimate

    @property
    def shape(self) -> ObjectEstimate:
        """The estimate with the shape of this version."""
        return self.tracked.shape

    @property
    def version(self) -> int:
        """Of the shape; grows with each change."""
        return self.tracked.mesh_version


class KnownObjects:
    """All objects with a track. What others were told of any other object is taken back."""

    def __init__(self) -> None:
        self._objects: dict[str, KnownObject] = {}

    def __iter__(self) -> Iterator[KnownObject]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def __getitem__(self, id: str) -> KnownObject:
        return self._objects[id]

    def update(self, tracked: Iterable[TrackedObject]) -> None:
        """Brings all objects up to date; those that are not among a tracker's tracks are gone."""
        self._objects = {o.id: self._updated(o) for o in tracked}

    def clear(self) -> None:
        """Takes out all objects."""
        self._objects.clear()

    def _updated(self, tracked: TrackedObject) -> KnownObject:
        known = self._objects.get(tracked.id) or KnownObject(tracked)
        if tracked.mesh_version != known.version:
            known.mesh = None
            known.sent.clear()
        known.tracked = tracked
        return known
