"""Objects that were published, with their surfaces and what was sent of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.track import TrackedObject


class MeshKey(NamedTuple):
    """Key of a mesh: all that it depends on.

    Attributes:
        version: of the shape.
        max_faces: upper bound of its triangles.
    """

    version: int
    max_faces: int


@dataclass
class PublishedObject:
    """One object over time.

    Attributes:
        tracked: its latest state in the tracker.
        frame_id: TF frame that was last broadcast for it, "" before the first broadcast; markers
            need it to exist.
        fixed_frame_id: frame of its `tracked.T_fixed_object`, "" before it is known.
        mesh: its surface, None before it is needed.
        mesh_key: of `mesh`.
        sent_mesh: key of the mesh that was last published.
        sent_marker: key of the mesh in the marker that was last published, and its frame.
    """

    tracked: TrackedObject
    frame_id: str = ""
    fixed_frame_id: str = ""
    mesh: TriangleMesh | None = None
    mesh_key: MeshKey | None = None
    sent_mesh: MeshKey | None = None
    sent_marker: tuple[MeshKey, str] | None = None

    @property
    def id(self) -> str:
        """Stable name."""
        return self.tracked.id

    @property
    def is_seen(self) -> bool:
        """Whether the latest frame shows it; otherwise it is held at its last pose."""
        return self.tracked.seen

    @property
    def estimate(self) -> ObjectEstimate:
        """Estimate of the latest frame."""
        return self.tracked.estimate

    @property
    def shape(self) -> ObjectEstimate:
        """Estimate with the shape of this version."""
        return self.tracked.shape

    @property
    def marker_frame(self) -> str:
        """Frame of its marker: its own, or for an observed hull without one the fixed frame."""
        if self.frame_id or not self.shape.is_observed:
            return self.frame_id
        return self.fixed_frame_id

    @property
    def version(self) -> int:
        """Version of the shape, which grows with each change."""
        return self.tracked.mesh_version


class PublishedObjects:
    """All objects with a track, by id."""

    def __init__(self) -> None:
        self._objects: dict[str, PublishedObject] = {}

    def __iter__(self) -> Iterator[PublishedObject]:
        return iter(self._objects.values())

    def __len__(self) -> int:
        return len(self._objects)

    def __getitem__(self, id: str) -> PublishedObject:
        return self._objects[id]

    def update(self, tracked: Iterable[TrackedObject]) -> None:
        """Replace the states of all objects; objects without a track are removed."""
        before, self._objects = self._objects, {}
        for track in tracked:
            published = before.get(track.id) or PublishedObject(track)
            published.tracked = track
            self._objects[track.id] = published

    def clear(self) -> None:
        """Remove all objects."""
        self._objects.clear()
