"""The shapes of tracks: kept stable, and solved for from all views."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.correction.library_tests import LibraryTestSettings, find_ambiguity
from crisp_ros.correction.pose_lm import PoseLmSettings
from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.correction.shape_source import ShapeSource
from crisp_ros.correction.verification import Verifier
from crisp_ros.geometry.se3 import invert
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.multi_view_shape import (
    MultiViewShapeSettings,
    multi_view_shape,
    shape_distances,
)
from crisp_ros.tracking.refit import Measurements, refit_to_track_shape
from crisp_ros.tracking.track import Detection, Track, box_centre, stack_shapes
from crisp_ros.tracking.view_buffer import Insertion, ViewBuffer, ViewBufferSettings, stack_views
from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class ShapeManagerSettings:
    """Settings of `ShapeManager`.

    Attributes:
        views: of the view buffers.
        multi_view: of the shape solved from all views.
        pose: of the solver that fits a frame or a view to a track's shape.
        joint: when a shape changes, the poses of its views are fitted to the new one.
        solves_per_frame: most tracks whose shape is solved for in one frame; the others wait for
            the next frame.
        alternatives: other library shapes are fitted to a track's views, to test whether these
            determine the shape: to the first view, to three times as many as last time, and after a
            change of the shape. None disables the test.
        checks_per_frame: most tracks that are tested in one frame.
        conflict_frames: the frame's own certified shape replaces the track's, and its views, when
            the track's has failed in so many consecutive frames.
    """

    views: ViewBufferSettings = field(default_factory=ViewBufferSettings)
    multi_view: MultiViewShapeSettings = field(default_factory=MultiViewShapeSettings)
    pose: PoseLmSettings = field(default_factory=PoseLmSettings)
    joint: bool = True
    solves_per_frame: int = ranged(1, 1, 1000)
    alternatives: LibraryTestSettings | None = field(default_factory=LibraryTestSettings)
    checks_per_frame: int = ranged(1, 1, 1000)
    conflict_frames: int = ranged(10, 1, 10000)

    def __post_init__(self) -> None:
        check_ranges(self)


class ShapeManager:
    """Decides which shape each track has.

    A track without a certified view takes the shape with the best score so far. From the first
    certified view on it keeps its shape until the views together show another one, or until it
    fails where the frame's own shape is certified, in many consecutive frames. Shapes, and with
    them meshes, therefore change seldom.
    """

    def __init__(
        self,
        field: ShapeField,
        library: PreparedLibrary | None,
        verifier: Verifier,
        settings: ShapeManagerSettings,
        device: torch.device,
        prior_field: ShapeField | None = None,
    ) -> None:
        """Take field and library into use.

        Args:
            field: f_d.
            library: the known shapes; without it no shapes are solved for.
            verifier: of refitted estimates.
            settings: see `ShapeManagerSettings`.
            device: of field and library.
            prior_field: of the shapes of the estimator's second model.
        """
        self._prior_field = prior_field
        self._field = field
        self._library = library
        self._verifier = verifier
        self._settings = settings
        self._device = device

    def assign_shapes(
        self,
        detections: Sequence[Detection],
        measurements: Measurements | None,
        overruled: Mapping[int, ObjectEstimate],
    ) -> tuple[list[ObjectEstimate], float]:
        """Fit the estimates to the shapes of their tracks; some tracks take other shapes.

        Args:
            detections: of one frame.
            measurements: of this frame; without them estimates keep their own shapes.
            overruled: estimates of some detections, by index, at a pose that looks alike to depth;
                used where they are certified there too, if necessary after a fit.

        Returns:
            The final estimates, and the time of the fits in milliseconds.
        """
        refit = partial(refit_to_track_shape, self._field, self._verifier)
        final = [detection.estimate for detection in detections]
        other = self._keep_or_take_shapes(detections)
        start = time.perf_counter()
        moved = {i: detections[i]._replace(estimate=e) for i, e in overruled.items()}
        # Poses that look alike nearly always fit as well as those they replace.
        in_place = dict(zip(moved, refit(list(moved.values()), measurements, None), strict=True))
        final = self._with_certified(final, in_place)
        moved = {i: d for i, d in moved.items() if not _is_certified(in_place[i])}
        chosen = [*(detections[i] for i in other), *moved.values()]
        fitted = refit(chosen, measurements, self._settings.pose)
        fit_ms = 1e3 * (time.perf_counter() - start)
        final = self._with_certified(final, dict(zip(moved, fitted[len(other) :], strict=True)))
        self._resolve_conflicts(detections, final, dict(zip(other, fitted, strict=False)))
        for i, (track, *_) in enumerate(detections):
            track.shape_certified |= final[i].certified
            track.shape_score = max(track.shape_score, final[i].score)
        return final, fit_ms

    def _keep_or_take_shapes(self, detections: Sequence[Detection]) -> list[int]:
        """Give uncertified tracks better shapes; return the detections to fit to their track's."""
        kept = []
        for i in self._with_other_shape(detections):
            track, own, _ = detections[i]
            if self._takes(track, own):
                track.restart_shape(own)
            else:
                kept.append(i)
        return kept

    @staticmethod
    def _takes(track: Track, own: ObjectEstimate) -> bool:
        """Whether a track takes the other shape that a frame shows."""
        if own.of_prior_model != track.shape.of_prior_model:
            # What the library has certified needs no prior. Otherwise the frame decides: a prior's
            # shape is not fitted again here.
            return track.shape.of_prior_model or not track.shape_certified
        # The estimator itself keeps a prior's shapes, and may have changed their frame.
        better = own.certified or own.score > track.shape_score
        return own.shape_source == "prior" or (not track.shape_certified and better)

    @staticmethod
    def _with_certified(
        estimates: Sequence[ObjectEstimate], others: Mapping[int, ObjectEstimate | None]
    ) -> list[ObjectEstimate]:
        """Replace estimates by the certified ones of others, by index."""
        certified = {i: e for i, e in others.items() if e is not None and e.certified}
        return [certified.get(i, estimate) for i, estimate in enumerate(estimates)]

    def _resolve_conflicts(
        self,
        detections: Sequence[Detection],
        final: list[ObjectEstimate],
        fitted: Mapping[int, ObjectEstimate | None],
    ) -> None:
        """Use the fits, unless the frame's own shape has been certified instead for too long."""
        for i, (track, own, _) in enumerate(detections):
            estimate = fitted.get(i)
            if estimate is not None:
                final[i] = estimate
            if i not in fitted or not own.certified or _is_certified(estimate):
                track.conflicts = 0
                continue
            track.conflicts += 1
            if track.conflicts >= self._settings.conflict_frames:
                track.restart_shape(own)
                final[i] = own

    def store_views(
        self,
        detections: Sequence[Detection],
        final: Sequence[ObjectEstimate],
        measurements: Measurements | None,
        stamp_s: float,
    ) -> None:
        """Store the views of one frame, posed for the track's shape where that is certified."""
        if measurements is None:
            return
        points, _, _, valid = measurements.hypotheses.correspondences
        for (track, own, row), fitted in zip(detections, final, strict=True):
            estimate = fitted if fitted.certified else own
            wanted = estimate.certified or not self._settings.views.certified_only
            # Views are of the library's shapes: those of a second model are not solved for.
            if row is None or not wanted or estimate.of_prior_model:
                continue
            if track.views is None:
                centre = box_centre(track.shape)
                track.views = ViewBuffer(self._settings.views, centre, self._device)
            inserted = track.views.add(
                points[row],
                valid[row],
                invert(estimate.T_camera_object),
                estimate.certified,
                estimate.score,
            )
            is_new = inserted is Insertion.NEW and len(track.views) > 1
            if is_new and track.waiting_since_s is None:
                track.waiting_since_s = stamp_s

    def solve(self, tracks: Iterable[Track]) -> None:
        """Solve for the shapes of tracks that have new views, the longest waiting first."""
        waiting = [t for t in tracks if t.waiting_since_s is not None and t.views is not None]
        waiting.sort(key=lambda t: t.waiting_since_s or 0.0)
        waiting = waiting[: self._settings.solves_per_frame]
        if not waiting or self._library is None:
            return
        solved = multi_view_shape(
            self._field,
            self._library,
            stack_views([t.views.pooled() for t in waiting if t.views is not None]),
            stack_shapes([t.shape for t in waiting], self._device),
            self._settings.multi_view,
        )
        changed, eigenvalues = solved.changed.tolist(), solved.tangent_eigenvalue.tolist()
        for i, track in enumerate(waiting):
            track.waiting_since_s = None
            if changed[i]:
                self._change_shape(track, solved.shapes.rows(torch.tensor(i)))
            track.views_used = max(1, len(track.views or ()))
            track.smallest_eigenvalue = eigenvalues[i]

    def check_ambiguity(self, tracks: Iterable[Track]) -> None:
        """Fit other library shapes to tracks that have three times the views of last time."""
        settings = self._settings.alternatives
        due = [t for t in tracks if t.views and len(t.views) >= max(1, 3 * t.views_checked)]
        due = due[: self._settings.checks_per_frame]
        if settings is None or self._library is None or not due:
            return
        views = stack_views([t.views.pooled() for t in due if t.views])
        shapes = stack_shapes([t.shape for t in due], self._device)
        hypotheses = Hypotheses.of_points(views.points, views.valid, shapes)
        certificate = self._verifier.settings.certificate
        found = find_ambiguity(self._field, hypotheses, self._library, certificate, settings)
        results = found.degenerate.tolist(), found.tangent_eigenvalue.tolist()
        for track, degenerate, eigenvalue in zip(due, *results, strict=True):
            track.degenerate, track.smallest_eigenvalue = degenerate, eigenvalue
            track.views_checked = len(track.views or ())

    def _change_shape(self, track: Track, shape: Shapes) -> None:
        """Give a track another shape, one without leading dimensions."""
        changed = dataclasses.replace(
            track.shape,
            code=shape.codes.float().cpu().numpy(),
            lower=shape.lower.double().cpu().numpy(),
            upper=shape.upper.double().cpu().numpy(),
            shape_index=int(shape.index),
            shape_source=(ShapeSource.LIBRARY if shape.index >= 0 else ShapeSource.ACTIVE).text,
        )
        track.replace_shape(changed)
        track.shape_score = 0.0
        if self._settings.joint and track.views is not None:
            track.views.refit_poses(self._field, shape, self._settings.pose)

    def _with_other_shape(self, detections: Sequence[Detection]) -> list[int]:
        """Find the detections that show another shape than their track's.

        Two library shapes are compared by index; others by their signed distances.
        """
        other: list[int] = []
        unsure: dict[bool, list[int]] = {False: [], True: []}
        for i, (track, estimate, _) in enumerate(detections):
            own, kept = estimate.shape_index, track.shape.shape_index
            if own >= 0 and kept >= 0:
                if own != kept:
                    other.append(i)
            elif estimate.of_prior_model != track.shape.of_prior_model:
                other.append(i)
            elif not np.array_equal(estimate.code, track.shape.code):
                unsure[estimate.of_prior_model].append(i)
        fields = {False: self._field, True: self._prior_field}
        for of_prior_model, rows in unsure.items():
            if not rows:
                continue
            pairs = [(detections[i].estimate, detections[i].track.shape) for i in rows]
            apart = shape_distances(
                fields[of_prior_model],
                *(stack_shapes(part, self._device) for part in zip(*pairs, strict=True)),
            ).tolist()
            limit = self._settings.multi_view.change_m
            other += [i for i, d in zip(rows, apart, strict=True) if d > limit]
        return sorted(other)


def _is_certified(estimate: ObjectEstimate | None) -> bool:
    return estimate is not None and estimate.certified
