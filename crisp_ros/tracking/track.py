"""One object over time: what a tracker keeps of it, and what it tells of it."""

from __future__ import annotations

import dataclasses
import enum
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.pose_filter import PoseFilter
from crisp_ros.tracking.symmetry_voting import TurnVotes
from crisp_ros.tracking.view_buffer import ViewBuffer

_VELOCITY_TIME_S = 0.2  # over which the velocity is smoothed
_FASTEST_M_S = 2.0
_EXTRAPOLATED_S = 0.3  # farther ahead, a velocity says nothing


class TrackState(enum.Enum):
    """What is known of a track.

    TENTATIVE: seen, but neither certified nor often enough to be believed.
    VISIBLE: seen in this frame or a moment ago.
    HIDDEN: not seen for longer; it is taken to rest where it was.
    """

    TENTATIVE = "tentative"
    VISIBLE = "visible"
    HIDDEN = "hidden"


@dataclass(frozen=True, eq=False)
class TrackedObject:
    """One object in one frame.

    Attributes:
        id: stable name, fit for a TF frame; never given to another object.
        state: see `TrackState`.
        seen: this frame shows it.
        estimate: pose and certificate in this frame; of an object that was not seen in it, where
            it is taken to be, not certified.
        T_fixed_object: (4, 4) the same pose in the fixed frame.
        shape: the estimate whose code and box are those of `mesh_version`: make meshes from it.
        mesh_version: starts at one and grows with every change of the shape.
        views_used: frames whose points took part in the shape.
        degenerate: those views fit another library shape as well.
        smallest_eigenvalue: how well those fix the shape (`Degeneracy.tangent_eigenvalue`); NaN
            where it was not computed.
        class_name: the segmentation's last name for it, or "".
        first_seen_s, last_seen_s: stamps, seconds.
        sightings: frames in which it was seen.
    """

    id: str
    state: TrackState
    seen: bool
    estimate: ObjectEstimate
    T_fixed_object: NDArray[np.float64]
    shape: ObjectEstimate
    mesh_version: int
    views_used: int
    degenerate: bool
    smallest_eigenvalue: float
    class_name: str
    first_seen_s: float
    last_seen_s: float
    sightings: int


@dataclass(eq=False)
class Track:
    """A tracker's memory of one object.

    Attributes:
        id, class_name, first_seen_s, last_seen_s, sightings: as in `TrackedObject`.
        estimate: the last one; its pose is relative to the camera of that time.
        T_fixed_object: (4, 4) the last pose.
        centre: (3,) of the shape's box in the fixed frame, and its velocity (3,), m/s.
        confirmed: it is more than tentative.
        shape: the estimate whose code and box are those of `mesh_version`.
        shape_certified, shape_score: the best that a frame said of it.
        reference: (4, 4) the pose that symmetric poses keep near to, and whether it is certified
            and when it was taken.
        votes: of the frames, which of the look-alike poses it has.
        views: of it, from the first one on.
        views_used, smallest_eigenvalue: at the last solve.
        degenerate: when other shapes were last tried on its views, and
        views_checked: ... how many these were.
        waits_since_s: when the first view came that was not used for the shape yet, if any.
        conflicts: frames in a row whose own certified shape is not the track's, which fails there.
        surface: points (1, M, 3) on the shape, once they were needed.
    """

    id: str
    class_name: str
    first_seen_s: float
    last_seen_s: float
    estimate: ObjectEstimate
    T_fixed_object: NDArray[np.float64]
    centre: NDArray[np.float64]
    shape: ObjectEstimate
    shape_certified: bool
    shape_score: float
    pose_filter: PoseFilter | None
    votes: TurnVotes
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    sightings: int = 0
    confirmed: bool = False
    mesh_version: int = 1
    reference: NDArray[np.float64] | None = None
    reference_certified: bool = False
    reference_s: float = -math.inf
    views: ViewBuffer | None = None
    views_used: int = 1
    smallest_eigenvalue: float = math.nan
    degenerate: bool = False
    views_checked: int = 0
    waits_since_s: float | None = None
    conflicts: int = 0
    surface: SurfacePoints | None = None

    def expected_centre(self, stamp_s: float) -> NDArray[np.float64]:
        """Where the middle of its box should be now, (3,) fixed frame, metres."""
        return self.centre + self.velocity * min(stamp_s - self.last_seen_s, _EXTRAPOLATED_S)

    def move(self, T_fixed_object: NDArray[np.float64], stamp_s: float, trusted: bool) -> None:
        """Takes the pose of a new sighting; one that is not trusted says nothing of where it will
        be expected next."""
        if not trusted:
            self.T_fixed_object, self.last_seen_s = T_fixed_object, stamp_s
            self.sightings += 1
            return
        middle = (self.shape.lower + self.shape.upper) / 2.0
        centre = T_fixed_object[:3, :3] @ middle + T_fixed_object[:3, 3]
        elapsed = stamp_s - self.last_seen_s
        if elapsed > _EXTRAPOLATED_S or self.sightings == 0:
            self.velocity = np.zeros(3)
        elif elapsed > 0:
            measured = (centre - self.centre) / elapsed
            share = 1.0 - math.exp(-elapsed / _VELOCITY_TIME_S)
            velocity = self.velocity + share * (measured - self.velocity)
            self.velocity = velocity / max(1.0, float(np.linalg.norm(velocity)) / _FASTEST_M_S)
        self.T_fixed_object, self.centre, self.last_seen_s = T_fixed_object, centre, stamp_s
        self.sightings += 1

    def take_shape(self, shape: ObjectEstimate) -> None:
        """Takes another shape, which needs another mesh."""
        # The middle of the box may jump; that is no motion.
        old, new = ((s.lower + s.upper) / 2.0 for s in (self.shape, shape))
        self.centre = self.centre + self.T_fixed_object[:3, :3] @ (new - old)
        self.shape, self.surface = shape, None
        self.degenerate, self.views_checked = False, 0
        self.mesh_version += 1

    def follow(self, own: ObjectEstimate) -> None:
        """Takes the shape of a single view, and forgets the views, which showed another."""
        self.take_shape(own)
        self.shape_certified, self.shape_score = own.certified, own.score
        self.views_used, self.smallest_eigenvalue = 1, math.nan
        self.waits_since_s, self.conflicts = None, 0
        if self.views is not None:
            self.views.clear()

    def told(self, state: TrackState, seen: bool, estimate: ObjectEstimate) -> TrackedObject:
        """What to tell of it in a frame."""
        return TrackedObject(
            id=self.id,
            state=state,
            seen=seen,
            estimate=estimate,
            T_fixed_object=self.T_fixed_object,
            shape=self.shape,
            mesh_version=self.mesh_version,
            views_used=self.views_used,
            degenerate=self.degenerate,
            smallest_eigenvalue=self.smallest_eigenvalue,
            class_name=self.class_name,
            first_seen_s=self.first_seen_s,
            last_seen_s=self.last_seen_s,
            sightings=self.sightings,
        )


class Sighting(NamedTuple):
    """A track and its estimate of this frame, with the equivalent pose that suits the track."""

    track: Track
    estimate: ObjectEstimate


def posed(estimate: ObjectEstimate, T_camera_object: NDArray[np.float64]) -> ObjectEstimate:
    """The estimate at another pose (4, 4)."""
    return dataclasses.replace(estimate, T_camera_object=T_camera_object)


def invert(T: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse (4, 4) of a rigid motion."""
    inverse = np.eye(4)
    inverse[:3, :3] = T[:3, :3].T
    inverse[:3, 3] = -T[:3, :3].T @ T[:3, 3]
    return inverse
