"""Tracking: assigns estimates to objects over time, and stabilises their poses and shapes."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crisp_ros.correction.certificate import CertificateSettings, score
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.correction.visibility import VisibilitySettings
from crisp_ros.geometry.se3 import invert
from crisp_ros.geometry.symmetry_group import box_corners, nearest_symmetric_pose
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.observation.observe import Rejected
from crisp_ros.pipeline import FrameEstimate, ObjectEstimate
from crisp_ros.tracking.association import AssociationSettings, Candidates, assign, costs
from crisp_ros.tracking.depth_points import DepthPoints
from crisp_ros.tracking.known_shapes import KnownShapes
from crisp_ros.tracking.look_alikes import LookAlikes
from crisp_ros.tracking.pose_filter import PoseFilter, PoseFilterSettings, largest_motion
from crisp_ros.tracking.refit import refit_to_track_shape
from crisp_ros.tracking.shape_manager import ShapeManager, ShapeManagerSettings
from crisp_ros.tracking.symmetry_voting import SymmetryVoting
from crisp_ros.tracking.track import (
    Detection,
    Track,
    TrackedObject,
    TrackState,
    box_centre,
    with_pose,
)
from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class TrackerSettings:
    """Settings of the `Tracker`.

    Attributes:
        association: of estimates with tracks.
        shapes: of the tracks' shapes.
        pose_filter: None leaves poses as they are estimated.
        birth_detections: a track is tentative until it is certified or was seen so often.
        tentative_s: a tentative track ends when it is not seen for longer, seconds.
        visible_s: a track that is not seen for longer is hidden, seconds.
        death_s: a confirmed track ends when it is not seen for longer, seconds.
        time_jump_s: a stamp that is earlier than the last by more than this is a jump back in time,
            and all tracks end; one that is earlier by less counts as equal to the last.
        symmetry_tolerance: see `KnownShapes`.
        reference_s: an uncertified pose becomes the reference of symmetric poses only when the last
            certified one is older than this, seconds.
        symmetry_votes: number of certified frames that decide between poses that look alike to
            depth; 1 follows every frame.
        max_tracks: the longest unseen end when there are more.
    """

    association: AssociationSettings = field(default_factory=AssociationSettings)
    shapes: ShapeManagerSettings = field(default_factory=ShapeManagerSettings)
    pose_filter: PoseFilterSettings | None = None
    birth_detections: int = ranged(3, 1, 1000)
    tentative_s: float = ranged(0.5, 0.0, 60.0)
    visible_s: float = ranged(0.3, 0.0, 60.0)
    death_s: float = ranged(5.0, 0.0, 86400.0)
    time_jump_s: float = ranged(0.1, 0.0, 60.0)
    symmetry_tolerance: float = ranged(0.25, 0.0, 1.0)
    reference_s: float = ranged(1.0, 0.0, 60.0)
    symmetry_votes: int = ranged(25, 1, 1000)
    max_tracks: int = ranged(100, 1, 10000)

    def __post_init__(self) -> None:
        check_ranges(self)


class TrackedFrame(NamedTuple):
    """The tracked objects of one frame.

    Attributes:
        objects: those seen, in the order of their estimates.
        unseen: the other tracks, at their assumed poses.
        ended: ids that are gone for good.
        rejected: estimates that cannot be tracked.
        restarted: time had jumped back, and all earlier tracks ended.
        fit_ms: milliseconds spent on fitting poses to the tracks' shapes.
    """

    objects: tuple[TrackedObject, ...]
    unseen: tuple[TrackedObject, ...]
    ended: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    restarted: bool
    fit_ms: float

    @property
    def held(self) -> tuple[TrackedObject, ...]:
        """The unseen objects that are confirmed."""
        return tuple(o for o in self.unseen if o.state is not TrackState.TENTATIVE)

    def estimate_of(self, frame: FrameEstimate) -> FrameEstimate:
        """Replace the objects of a frame's estimate by the tracked ones."""
        return dataclasses.replace(
            frame,
            objects=tuple(o.estimate for o in self.objects),
            rejected=(*frame.rejected, *self.rejected),
        )


class _Unfinished(NamedTuple):
    """The part of a frame that `Tracker.finish` needs."""

    detections: Sequence[Detection]
    final: Sequence[ObjectEstimate]
    depth: DepthPoints | None
    stamp_s: float


class Tracker:
    """Tracks the objects of a stream of frames; not thread-safe.

    The steps of a frame:

    1. Estimates are assigned to tracks by their position in a fixed frame, class, label and shape
       (`costs`, `assign`). The remaining ones start new tracks.
    2. Of a symmetric shape's equivalent poses, the one nearest to the track's last certified pose
       is chosen. The symmetries of the frame's own shape count: a mug that looks like a cup while
       its handle is hidden has a cup's ambiguity. Where only the print distinguishes poses, the
       last frames vote (`SymmetryVoting`), and the certificate of an overruled frame is tested
       again.
    3. Where the frame's shape is not the track's, the frame's points are fitted to the track's, and
       the certificate is tested again. A track keeps its shape: without a certified view the best
       score decides, with one the views together (5), and otherwise only a lasting conflict.
    4. The pose is smoothed, if enabled. The certificate's residual then grows by the largest motion
       of the shape's box, an upper bound, as a signed distance changes by no more than the motion.
    5. `finish`, after the frame's result was published, or at the latest when the next frame comes:
       certified views from new directions are stored, and the shape is solved for from all of them.
       A shape that changed applies from the next frame on.

    An object that is not seen is assumed to rest where it was, in the fixed frame: after a moment
    it is hidden, after some seconds its track ends.
    """

    def __init__(
        self,
        decoder: ShapeDecoder,
        library: ShapeLibrary | None = None,
        settings: TrackerSettings | None = None,
        certificate: CertificateSettings | None = None,
        visibility: VisibilitySettings | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """Start without tracks.

        Args:
            decoder: f_d, on the estimator's device.
            library: of the model, on the same device; without it shapes come from single views and
                symmetries are not known.
            settings: see `TrackerSettings`.
            certificate: of the estimator, for poses that are fitted here; may be replaced between
                frames, as may `visibility`.
            visibility: of the estimator.
            device: of the estimator.
        """
        self.certificate = certificate or CertificateSettings()
        self.visibility = visibility
        self._library, self._device = library, torch.device(device)
        self._field = DecoderField(decoder)
        self._prepared = PreparedLibrary(self._field, library) if library is not None else None
        self._look_alikes = LookAlikes(decoder, library) if library is not None else None
        self._tracks: list[Track] = []
        self._unfinished: _Unfinished | None = None
        self._count = 0
        self.restart(settings or TrackerSettings())

    def __len__(self) -> int:
        return len(self._tracks)

    def restart(self, settings: TrackerSettings) -> tuple[str, ...]:
        """End all tracks as `reset` does, and continue with other settings."""
        self.settings = settings
        self._known = KnownShapes(self._library, settings.symmetry_tolerance)
        self._shapes = ShapeManager(
            self._field, self._prepared, self._known, settings.shapes, self._device
        )
        self._voting = self._look_alikes and SymmetryVoting(
            self._look_alikes, settings.symmetry_votes
        )
        return self.reset()

    def reset(self) -> tuple[str, ...]:
        """End all tracks and return their ids, which are not given again."""
        ended = tuple(track.id for track in self._tracks)
        self._tracks.clear()
        self._unfinished = None
        self._stamp_s = -math.inf
        return ended

    @torch.no_grad()
    def update(
        self,
        stamp_s: float,
        estimates: Sequence[ObjectEstimate],
        T_fixed_camera: NDArray[np.floating] | None = None,
        names: Mapping[int, str] | None = None,
        depth: DepthPoints | None = None,
    ) -> TrackedFrame:
        """Track the estimates of one frame.

        Args:
            stamp_s: of the image, seconds.
            estimates: the frame's objects.
            T_fixed_camera: (4, 4) pose of the camera in a frame in which objects rest; identity
                where there is none, which is right for a camera that does not move.
            names: class names of labels, as far as known.
            depth: the points behind the estimates; without them shapes come from single views.

        Raises:
            ValueError: the stamp or the camera's pose is not finite, or that is no rigid motion.
        """
        T_fixed_camera = _checked_pose(stamp_s, T_fixed_camera)
        self.finish()
        restarted = stamp_s < self._stamp_s - self.settings.time_jump_s
        ended = self.reset() if restarted else ()
        self._stamp_s = stamp_s = max(stamp_s, self._stamp_s)
        ended += self._end_expired(stamp_s)
        finite = [estimate for estimate in estimates if _is_finite(estimate)]
        rejected = tuple(
            Rejected(estimate.label, "the estimate is not finite")
            for estimate in estimates
            if not _is_finite(estimate)
        )
        tracks = self._assign(finite, T_fixed_camera, names or {})
        detections = [
            Detection(track, self._nearest_to_reference(track, estimate, T_fixed_camera))
            for track, estimate in zip(tracks, finite, strict=True)
        ]
        overruled = {}
        if self._voting is not None:
            overruled = self._voting.overruled(detections, self._known, T_fixed_camera)
        final, fit_ms = self._shapes.assign_shapes(
            detections,
            lambda some, pose: refit_to_track_shape(
                self._field, some, depth, self.certificate, self.visibility, pose
            ),
            overruled,
        )
        objects = tuple(
            self._update_track(detection.track, estimate, T_fixed_camera)
            for detection, estimate in zip(detections, final, strict=True)
        )
        seen = {track.id for track in tracks}
        unseen = tuple(
            self._unseen_object(track, T_fixed_camera)
            for track in self._tracks
            if track.id not in seen
        )
        self._unfinished = _Unfinished(detections, final, depth, stamp_s)
        ended += self._end_surplus()
        return TrackedFrame(objects, unseen, ended, rejected, restarted, fit_ms)

    @torch.no_grad()
    def finish(self) -> None:
        """Store the last frame's views, and solve for shapes, which apply from the next frame on.

        To be called once the frame's result was published; `update` does it otherwise.
        """
        last, self._unfinished = self._unfinished, None
        if last is None:
            return
        alive = {track.id for track in self._tracks}
        rows = [i for i, detection in enumerate(last.detections) if detection.track.id in alive]
        detections = [last.detections[i] for i in rows]
        final = [last.final[i] for i in rows]
        self._shapes.store_views(detections, final, last.depth, last.stamp_s)
        tracks = [detection.track for detection in detections]
        self._shapes.solve(tracks)
        self._shapes.check_ambiguity(tracks, self.certificate)
        if self._voting is not None:
            self._voting.prepare(tracks, self._known)

    def _end_expired(self, stamp_s: float) -> tuple[str, ...]:
        """End the tracks that were not seen for too long."""
        limits = {True: self.settings.death_s, False: self.settings.tentative_s}
        expired = [t for t in self._tracks if stamp_s - t.last_seen_s > limits[t.confirmed]]
        return self._end(expired)

    def _end_surplus(self) -> tuple[str, ...]:
        """End the longest unseen tracks where there are too many."""
        by_age = sorted(self._tracks, key=lambda t: (t.last_seen_s, t.first_seen_s))
        return self._end(by_age[: max(0, len(by_age) - self.settings.max_tracks)])

    def _end(self, tracks: Sequence[Track]) -> tuple[str, ...]:
        ids = {track.id for track in tracks}
        if ids:
            self._tracks = [t for t in self._tracks if t.id not in ids]
        return tuple(track.id for track in tracks)

    def _assign(
        self,
        estimates: Sequence[ObjectEstimate],
        T_fixed_camera: NDArray[np.float64],
        names: Mapping[int, str],
    ) -> list[Track]:
        """Find or start the track of each estimate."""
        old: dict[int, Track] = {}
        if self._tracks and estimates:
            tracks = Candidates(
                np.stack([t.expected_centre(self._stamp_s) for t in self._tracks]),
                np.array([t.estimate.label for t in self._tracks]),
                tuple(t.class_name for t in self._tracks),
            )
            candidates = Candidates(
                np.stack([box_centre(e, T_fixed_camera @ e.T_camera_object) for e in estimates]),
                np.array([e.label for e in estimates]),
                tuple(names.get(e.label, "") for e in estimates),
            )
            shapes = self._known.difference(
                np.stack([t.estimate.code for t in self._tracks]),
                np.stack([e.code for e in estimates]),
            )
            unseen_s = np.array([self._stamp_s - t.last_seen_s for t in self._tracks])
            matrix = costs(tracks, unseen_s, candidates, shapes, self.settings.association)
            old = {column: self._tracks[row] for row, column in assign(matrix)}
        result = []
        for i, estimate in enumerate(estimates):
            name = names.get(estimate.label, "")
            track = old.get(i) or self._start_track(estimate, T_fixed_camera, name)
            track.class_name = name or track.class_name
            result.append(track)
        return result

    def _start_track(
        self, estimate: ObjectEstimate, T_fixed_camera: NDArray[np.float64], name: str
    ) -> Track:
        self._count += 1
        smoothing = self.settings.pose_filter
        T = T_fixed_camera @ estimate.T_camera_object
        track = Track(
            id=f"{_tf_name(name)}_{self._count}",
            class_name=name,
            first_seen_s=self._stamp_s,
            last_seen_s=self._stamp_s,
            estimate=estimate,
            T_fixed_object=T,
            centre=box_centre(estimate, T),
            shape=estimate,
            shape_certified=estimate.certified,
            shape_score=estimate.score,
            pose_filter=PoseFilter(smoothing) if smoothing is not None else None,
        )
        self._tracks.append(track)
        return track

    def _nearest_to_reference(
        self, track: Track, estimate: ObjectEstimate, T_fixed_camera: NDArray[np.float64]
    ) -> ObjectEstimate:
        """Choose the equivalent pose of an estimate that is nearest to the track's reference."""
        group = self._known.symmetries(self._known.index(estimate.code))
        if group is None or track.reference is None:
            return estimate
        T = nearest_symmetric_pose(
            T_fixed_camera @ estimate.T_camera_object,
            track.reference,
            group,
            estimate.lower,
            estimate.upper,
        )
        return with_pose(estimate, invert(T_fixed_camera) @ T)

    def _update_track(
        self, track: Track, estimate: ObjectEstimate, T_fixed_camera: NDArray[np.float64]
    ) -> TrackedObject:
        """Update a track with its final estimate of a frame."""
        T = T_fixed_camera @ estimate.T_camera_object
        if track.pose_filter is not None:
            corners = box_corners(estimate.lower, estimate.upper)
            smooth = track.pose_filter.update(T, self._stamp_s, corners)
            estimate = _inflate_residual(estimate, largest_motion(smooth, T, corners))
            estimate = with_pose(estimate, invert(T_fixed_camera) @ smooth)
            T = smooth
        age_s = self._stamp_s - track.reference_s
        trusted = estimate.certified or not track.reference_certified
        trusted |= age_s > self.settings.reference_s
        if trusted:
            track.reference, track.reference_s = T, self._stamp_s
            track.reference_certified = estimate.certified
        track.update_motion(T, self._stamp_s, trusted)
        track.estimate = estimate
        track.confirmed |= estimate.certified or track.detections >= self.settings.birth_detections
        state = TrackState.VISIBLE if track.confirmed else TrackState.TENTATIVE
        return track.snapshot(state, True, estimate)

    def _unseen_object(self, track: Track, T_fixed_camera: NDArray[np.float64]) -> TrackedObject:
        """The state of a track that was not seen in this frame."""
        unseen_s = self._stamp_s - track.last_seen_s
        estimate = dataclasses.replace(
            with_pose(track.estimate, invert(T_fixed_camera) @ track.T_fixed_object),
            certified=False,
            score=0.0,
            reason=f"not seen for {unseen_s:.1f} s",
            covariance=None,
        )
        state = TrackState.VISIBLE if unseen_s <= self.settings.visible_s else TrackState.HIDDEN
        return track.snapshot(state if track.confirmed else TrackState.TENTATIVE, False, estimate)


def _inflate_residual(estimate: ObjectEstimate, motion_m: float) -> ObjectEstimate:
    """Bound the residual of an estimate whose shape was moved by at most `motion_m`."""
    residual = estimate.residual_m + motion_m
    certified = estimate.certified and residual <= estimate.threshold_m
    reason = estimate.reason
    if estimate.certified and not certified:
        reason = f"smoothing moved the shape by {1e3 * motion_m:.3g} mm"
    margin = torch.tensor(1.0 - residual / estimate.threshold_m)
    return dataclasses.replace(
        estimate,
        residual_m=residual,
        certified=certified,
        score=float(score(margin, torch.tensor(certified))),
        reason=reason,
    )


def _is_finite(estimate: ObjectEstimate) -> bool:
    parts = (estimate.T_camera_object, estimate.code, estimate.lower, estimate.upper)
    return all(bool(np.isfinite(part).all()) for part in parts)


def _tf_name(class_name: str) -> str:
    """Replace what a TF frame's name cannot contain by underscores."""
    return re.sub(r"\W+", "_", class_name, flags=re.ASCII).strip("_") or "object"


def _checked_pose(
    stamp_s: float, T_fixed_camera: NDArray[np.floating] | None
) -> NDArray[np.float64]:
    if not math.isfinite(stamp_s):
        raise ValueError(f"stamp_s is {stamp_s}: expected a time in seconds")
    if T_fixed_camera is None:
        return np.eye(4)
    T = np.asarray(T_fixed_camera, np.float64)
    # No NaN passes these.
    rigid = T.shape == (4, 4) and np.abs(T[:3, :3] @ T[:3, :3].T - np.eye(3)).max() < 1e-3
    if not (rigid and np.isfinite(T[:3, 3]).all() and np.linalg.det(T[:3, :3]) > 0):
        raise ValueError(
            f"T_fixed_camera is {T.tolist()}: expected the (4, 4) matrix of a rigid motion"
        )
    return T
