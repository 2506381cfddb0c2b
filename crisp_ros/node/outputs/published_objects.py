"""The objects that the node has told others about, and what was made and sent of their shapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.track import TrackedObject


@dataclass
class KnownObject:
    """One object over time.

    Attributes:
        tracked: what the tracker last told of it.
        frame_id: TF frame that was last broadcast for it, so that what lies in it can be shown;
            "" before the first.
        mesh: its surface, or None until somebody wants it.
        mesh_of: version of the shape, and most triangles, that `mesh` was made for.
        mesh_sent: `mesh_of` of the mesh that was last published.
        marker_sent: ... of the last marker, and its frame.
    """

    tracked: TrackedObject
    frame_id: str = ""
    mesh: TriangleMesh | None = None
    mesh_of: tuple[int, int] | None = None
    mesh_sent: tuple[int, int] | None = None
    marker_sent: tuple[tuple[int, int], str] | None = None

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
        before, self._objects = self._objects, {}
        for o in tracked:
            known = self._objects[o.id] = before.get(o.id) or KnownObject(o)
            known.tracked = o

    def clear(self) -> None:
        """Takes out all objects."""
        self._objects.clear()
