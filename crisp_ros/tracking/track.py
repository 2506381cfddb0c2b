"""One object over time: the tracker's memory of it, and its public state in a frame."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.surface import SurfacePoints
from crisp_ros.geometry.se3 import transform_point
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.pose_filter import PoseFilter
from crisp_ros.tracking.track_hull import TrackHull
from crisp_ros.tracking.view_buffer import ViewBuffer

_VELOCITY_TIME_S = 0.2  # time constant of the velocity's smoothing
_FASTEST_M_S = 2.0
_EXTRAPOLATED_S = 0.3  # farther ahead, a velocity predicts nothing


class TrackState(enum.Enum):
    """State of a track.

    TENTATIVE: seen, but neither certified nor often enough to be confirmed.
    VISIBLE: seen in this frame or shortly before.
    HIDDEN: not seen for longer; it is assumed to rest where it was.
    """

    TENTATIVE = "tentative"
    VISIBLE = "visible"
    HIDDEN = "hidden"


@dataclass(frozen=True, eq=False)
class TrackedObject:
    """State of one object in one frame.

    Attributes:
        id: stable name, valid as a TF frame; never given to another object.
        state: see `TrackState`.
        seen: this frame shows it.
        estimate: pose and certificate in this frame; of an object that was not seen in it, at its
            assumed pose and not certified.
        T_fixed_object: (4, 4) the same pose in the fixed frame.
        shape: the estimate whose code and box are those of `mesh_version`: make meshes from it.
        mesh_version: starts at one and grows with every change of the shape.
        views_used: frames whose points took part in the shape.
        degenerate: those views fit another library shape as well.
        smallest_eigenvalue: how well those fix the shape (`Degeneracy.tangent_eigenvalue`); NaN
            where it was not computed.
        class_name: last name from the segmentation, or "".
        first_seen_s: stamp, seconds.
        last_seen_s: stamp, seconds.
        detections: number of frames in which it was seen.
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
    detections: int


@dataclass(eq=False)
class Track:
    """A tracker's memory of one object.

    Attributes:
        id: as in `TrackedObject`.
        class_name: as in `TrackedObject`.
        first_seen_s: as in `TrackedObject`.
        last_seen_s: as in `TrackedObject`.
        estimate: the last one; its pose is relative to the camera of that time.
        T_fixed_object: (4, 4) the last pose.
        centre: (3,) of the shape's box, fixed frame, metres.
        shape: the estimate whose code and box are those of `mesh_version`.
        shape_certified: a frame certified this shape.
        shape_score: best score of this shape in a frame.
        pose_filter: smooths the poses; None leaves them as they are estimated.
        velocity: (3,) of the centre, m/s.
        detections: as in `TrackedObject`.
        confirmed: it is no longer tentative.
        mesh_version: as in `TrackedObject`.
        reference: (4, 4) the pose that symmetric poses are kept near to.
        reference_certified: that pose was certified.
        reference_s: its stamp.
        views: buffered views, from the first one on.
        views_used: at the last solve.
        smallest_eigenvalue: at the last solve.
        degenerate: when other shapes were last fitted to its views.
        views_checked: number of these views.
        waiting_since_s: stamp of the first view that the shape does not use yet; None without any.
        conflicts: consecutive frames whose own certified shape is not the track's, which fails.
        surface: points (1, M, 3) on the shape, once they were needed.
        hull: that is published while no shape explains the object; None otherwise.
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
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    detections: int = 0
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
    waiting_since_s: float | None = None
    conflicts: int = 0
    surface: SurfacePoints | None = None
    hull: TrackHull | None = None

    def expected_centre(self, stamp_s: float) -> NDArray[np.float64]:
        """Predict the centre (3,) of its box at a stamp, fixed frame, metres."""
        return self.centre + self.velocity * min(stamp_s - self.last_seen_s, _EXTRAPOLATED_S)

    def update_motion(
        self, T_fixed_object: NDArray[np.float64], stamp_s: float, trusted: bool
    ) -> None:
        """Take the pose of a new detection; an untrusted one does not move the prediction."""
        if trusted:
            centre = box_centre(self.shape, T_fixed_object)
            self._update_velocity(centre, stamp_s - self.last_seen_s)
            self.centre = centre
        self.T_fixed_object, self.last_seen_s = T_fixed_object, stamp_s
        self.detections += 1

    def _update_velocity(self, centre: NDArray[np.float64], elapsed_s: float) -> None:
        if elapsed_s > _EXTRAPOLATED_S or self.detections == 0:
            self.velocity = np.zeros(3)
        elif elapsed_s > 0:
            measured = (centre - self.centre) / elapsed_s
            share = 1.0 - math.exp(-elapsed_s / _VELOCITY_TIME_S)
            velocity = self.velocity + share * (measured - self.velocity)
            self.velocity = velocity / max(1.0, float(np.linalg.norm(velocity)) / _FASTEST_M_S)

    def replace_shape(self, shape: ObjectEstimate) -> None:
        """Take another shape, which needs another mesh."""
        # The centre of the box may jump; that is no motion.
        old, new = (box_centre(s, self.T_fixed_object) for s in (self.shape, shape))
        self.centre = self.centre + (new - old)
        self.shape, self.surface = shape, None
        self.degenerate, self.views_checked = False, 0
        self.mesh_version += 1

    def restart_shape(self, own: ObjectEstimate) -> None:
        """Take the shape of a single view, and drop the views, which showed another one."""
        if self.pose_filter is not None and own.of_prior_model != self.shape.of_prior_model:
            self.pose_filter.reset()  # the object frame is another one
        self.replace_shape(own)
        self.shape_certified, self.shape_score = own.certified, own.score
        self.views_used, self.smallest_eigenvalue = 1, math.nan
        self.waiting_since_s, self.conflicts = None, 0
        if self.views is not None:
            self.views.clear()

    def shape_fields(self) -> dict[str, Any]:
        """The fields of an `ObjectEstimate` that describe the track's shape."""
        names = ("code", "lower", "upper", "shape_index", "shape_source", "of_prior_model")
        return {name: getattr(self.shape, name) for name in names}

    def update_hull(
        self, estimate: ObjectEstimate, T_fixed_camera: NDArray[np.float64], change_m: float
    ) -> None:
        """Take the hull of an unknown object from a frame, or drop it where a shape explains it.

        Args:
            estimate: of this frame.
            T_fixed_camera: (4, 4).
            change_m: the hull stays where the new one differs by less, metres.
        """
        if self.shape_certified or estimate.certified or estimate.hull is None:
            new = None
        else:
            new = TrackHull.of(estimate.hull, T_fixed_camera)
        old = self.hull
        if old is not None and new is not None and old.difference(new) <= change_m:
            return
        if (old is not None or new is not None) and self.detections > 1:
            self.mesh_version += 1
        self.hull = new

    def snapshot(
        self,
        state: TrackState,
        seen: bool,
        estimate: ObjectEstimate,
        T_fixed_camera: NDArray[np.float64],
    ) -> TrackedObject:
        """Copy the public state in a frame."""
        shape, T_fixed_object = self.shape, self.T_fixed_object
        if self.hull is not None:
            estimate = shape = self.hull.shown(estimate, T_fixed_camera)
            T_fixed_object = self.hull.T_fixed_hull
        return TrackedObject(
            id=self.id,
            state=state,
            seen=seen,
            estimate=estimate,
            T_fixed_object=T_fixed_object,
            shape=shape,
            mesh_version=self.mesh_version,
            views_used=self.views_used,
            degenerate=self.degenerate,
            smallest_eigenvalue=self.smallest_eigenvalue,
            class_name=self.class_name,
            first_seen_s=self.first_seen_s,
            last_seen_s=self.last_seen_s,
            detections=self.detections,
        )


class Detection(NamedTuple):
    """An estimate of a frame with the track that it was assigned to.

    Attributes:
        track: of the object.
        estimate: of this frame, at the symmetric pose nearest to the track's reference.
        row: of the estimate in the frame's measurements; None where there are none.
    """

    track: Track
    estimate: ObjectEstimate
    row: int | None


def with_pose(estimate: ObjectEstimate, T_camera_object: NDArray[np.float64]) -> ObjectEstimate:
    """Copy an estimate with another pose (4, 4)."""
    return dataclasses.replace(estimate, T_camera_object=T_camera_object)


def stack_shapes(estimates: Sequence[ObjectEstimate], device: torch.device) -> Shapes:
    """Stack the shapes of B estimates on a device."""
    code, lower, upper = (
        torch.from_numpy(np.stack([getattr(e, part) for e in estimates]).astype(np.float32))
        for part in ("code", "lower", "upper")
    )
    index = torch.tensor([e.shape_index for e in estimates], dtype=torch.long)
    return Shapes(*(part.to(device) for part in (code, lower, upper, index)))


def box_centre(
    estimate: ObjectEstimate, T_target_object: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The centre (3,) of an estimate's box in some frame, by default the object's.

    No symmetry of the shape moves it.
    """
    centre = (estimate.lower + estimate.upper) / 2.0
    return centre if T_target_object is None else transform_point(T_target_object, centre)
