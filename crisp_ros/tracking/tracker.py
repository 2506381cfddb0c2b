"""Tracking: assigns estimates to objects over time, and stabilises their poses and shapes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crisp_ros.correction.certificate import score
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.symmetry_motions import SymmetryKind
from crisp_ros.correction.verification import VerificationSettings, Verifier
from crisp_ros.geometry.se3 import invert
from crisp_ros.geometry.symmetry_group import box_corners, nearest_symmetric_pose
from crisp_ros.network.cpu_threads import single_threaded
from crisp_ros.observation.observe import Rejected
from crisp_ros.pipeline import FrameEstimate, ObjectEstimate, Trace
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.tracking.pose_filter import largest_motion
from crisp_ros.tracking.refit import Measurements
from crisp_ros.tracking.shape_manager import ShapeManager
from crisp_ros.tracking.symmetry_voting import SymmetryVoting
from crisp_ros.tracking.track import (
    Detection,
    Track,
    TrackedObject,
    TrackState,
    with_pose,
)
from crisp_ros.tracking.track_list import TrackList
from crisp_ros.tracking.tracker_settings import TrackerSettings


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
    measurements: Measurements | None
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
        field: ShapeField,
        library: PreparedLibrary | None = None,
        settings: TrackerSettings | None = None,
        verification: VerificationSettings | None = None,
        device: torch.device | str = "cpu",
        prior_field: ShapeField | None = None,
    ) -> None:
        """Start without tracks.

        Args:
            field: f_d, of the estimator.
            library: of the estimator; without it shapes come from single views and symmetries are
                not known.
            settings: see `TrackerSettings`.
            verification: of the estimator, for poses that are fitted here; see `verification`.
            device: of the estimator.
            prior_field: of the estimator, for shapes of its second model.
        """
        self._field, self._library, self._device = field, library, torch.device(device)
        self._prior_field = prior_field
        self._verifier = Verifier(field, library, verification or VerificationSettings())
        settings = settings or TrackerSettings()
        self._tracks = TrackList(library, settings)
        self._unfinished: _Unfinished | None = None
        self.restart(settings)

    @property
    def settings(self) -> TrackerSettings:
        """May be replaced between frames, but for the parts `shapes` and `symmetry_votes`."""
        return self._tracks.settings

    @settings.setter
    def settings(self, settings: TrackerSettings) -> None:
        self._tracks.settings = settings

    @property
    def verification(self) -> VerificationSettings:
        """Settings of the estimator's verification; may be replaced between frames."""
        return self._verifier.settings

    @verification.setter
    def verification(self, settings: VerificationSettings) -> None:
        self._verifier.settings = settings

    def __len__(self) -> int:
        return len(self._tracks)

    @property
    def expected(self) -> tuple[ExpectedObject, ...]:
        """The objects seen in the last frame, at their poses relative to its camera."""
        return tuple(
            ExpectedObject(
                track.estimate.T_camera_object,
                track.estimate.lower,
                track.estimate.upper,
                track.estimate.shape_index,
                track.detections,
                track.shape_certified,
                track.estimate.of_prior_model,
            )
            for track in self._tracks
            if track.last_seen_s == self._stamp_s
        )

    def restart(self, settings: TrackerSettings) -> tuple[str, ...]:
        """End all tracks as `reset` does, and continue with other settings."""
        self._tracks.settings = settings
        self._shapes = ShapeManager(
            self._field,
            self._library,
            self._verifier,
            settings.shapes,
            self._device,
            self._prior_field,
        )
        self._voting = None
        if self._library is not None:
            self._voting = SymmetryVoting(self._library, settings.symmetry_votes)
        return self.reset()

    def reset(self) -> tuple[str, ...]:
        """End all tracks and return their ids, which are not given again."""
        self._unfinished = None
        self._stamp_s = -math.inf
        return self._tracks.end_all()

    @single_threaded()
    @torch.no_grad()
    def update(
        self,
        stamp_s: float,
        trace: Trace,
        T_fixed_camera: NDArray[np.floating] | None = None,
        names: Mapping[int, str] | None = None,
    ) -> TrackedFrame:
        """Track the objects of one frame.

        Args:
            stamp_s: of the image, seconds.
            trace: of the estimator; without solutions shapes come from single views.
            T_fixed_camera: (4, 4) pose of the camera in a frame in which objects rest; identity
                where there is none, which is right for a camera that does not move.
            names: class names of labels, as far as known.

        Raises:
            ValueError: the stamp or the camera's pose is not finite, or that is no rigid motion.
        """
        T_fixed_camera = _checked_pose(stamp_s, T_fixed_camera)
        self.finish()
        restarted = stamp_s < self._stamp_s - self.settings.time_jump_s
        ended = self.reset() if restarted else ()
        self._stamp_s = stamp_s = max(stamp_s, self._stamp_s)
        ended += self._tracks.end_expired(stamp_s)
        measurements = Measurements.of(trace)
        detections, rejected = self._detect(
            trace.estimate.objects, measurements is not None, T_fixed_camera, names or {}
        )
        overruled = {}
        if self._voting is not None:
            overruled = self._voting.overruled(detections, T_fixed_camera)
        final, fit_ms = self._shapes.assign_shapes(detections, measurements, overruled)
        objects = tuple(
            self._update_track(detection.track, estimate, T_fixed_camera)
            for detection, estimate in zip(detections, final, strict=True)
        )
        seen = {detection.track.id for detection in detections}
        unseen = tuple(
            self._unseen_object(track, T_fixed_camera)
            for track in self._tracks
            if track.id not in seen
        )
        self._unfinished = _Unfinished(detections, final, measurements, stamp_s)
        ended += self._tracks.end_surplus()
        return TrackedFrame(objects, unseen, ended, rejected, restarted, fit_ms)

    @single_threaded()
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
        self._shapes.store_views(detections, final, last.measurements, last.stamp_s)
        tracks = [detection.track for detection in detections]
        self._shapes.solve(tracks)
        self._shapes.check_ambiguity(tracks)
        if self._voting is not None:
            self._voting.prepare(tracks)

    def _detect(
        self,
        estimates: Sequence[ObjectEstimate],
        measured: bool,
        T_fixed_camera: NDArray[np.float64],
        names: Mapping[int, str],
    ) -> tuple[list[Detection], tuple[Rejected, ...]]:
        """Assign the finite estimates to tracks, and choose the nearest symmetric poses."""
        rows = [row for row, estimate in enumerate(estimates) if _is_finite(estimate)]
        finite = [estimates[row] for row in rows]
        tracks = self._tracks.assign(self._stamp_s, finite, T_fixed_camera, names)
        detections = [
            Detection(
                track,
                self._nearest_to_reference(track, estimate, T_fixed_camera),
                row if measured else None,
            )
            for track, estimate, row in zip(tracks, finite, rows, strict=True)
        ]
        rejected = tuple(
            Rejected(estimate.label, "the estimate is not finite")
            for estimate in estimates
            if not _is_finite(estimate)
        )
        return detections, rejected

    def _nearest_to_reference(
        self, track: Track, estimate: ObjectEstimate, T_fixed_camera: NDArray[np.float64]
    ) -> ObjectEstimate:
        """Choose the equivalent pose of an estimate that is nearest to the track's reference."""
        if self._library is None or estimate.shape_index < 0 or track.reference is None:
            return estimate
        group = self._library.symmetry_group(estimate.shape_index, SymmetryKind.EXACT)
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
        track.update_hull(estimate, T_fixed_camera, self.settings.hull_change_m)
        return track.snapshot(state, True, estimate, T_fixed_camera)

    def _unseen_object(self, track: Track, T_fixed_camera: NDArray[np.float64]) -> TrackedObject:
        """The state of a track that was not seen in this frame."""
        unseen_s = self._stamp_s - track.last_seen_s
        estimate = dataclasses.replace(
            with_pose(track.estimate, invert(T_fixed_camera) @ track.T_fixed_object),
            certified=False,
            orientation_certified=False,
            score=0.0,
            reason=f"not seen for {unseen_s:.1f} s",
            covariance=None,
        )
        state = TrackState.VISIBLE if unseen_s <= self.settings.visible_s else TrackState.HIDDEN
        state = state if track.confirmed else TrackState.TENTATIVE
        return track.snapshot(state, False, estimate, T_fixed_camera)


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
        orientation_certified=estimate.orientation_certified and certified,
        score=float(score(margin, torch.tensor(certified))),
        reason=reason,
    )


def _is_finite(estimate: ObjectEstimate) -> bool:
    parts = (estimate.T_camera_object, estimate.code, estimate.lower, estimate.upper)
    return all(bool(np.isfinite(part).all()) for part in parts)


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
