"""The shapes of tracks: kept steady, and solved for from all views."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.correction.certificate import CertificateSettings
from crisp_ros.correction.library_tests import Fitted, LibraryCheckSettings, alternatives
from crisp_ros.correction.pose_lm import SecondOrderSettings
from crisp_ros.correction.surface import SurfacePoints, library_surfaces, surface_points
from crisp_ros.correction.visibility import VisibilitySettings
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.depth_points import DepthPoints
from crisp_ros.tracking.known_shapes import KnownShapes
from crisp_ros.tracking.multi_view_shape import PooledShapeSettings, pooled_shape, shape_distances
from crisp_ros.tracking.refit import reposed
from crisp_ros.tracking.track import Sighting, Track, invert
from crisp_ros.tracking.view_buffer import Added, ViewBuffer, ViewBufferSettings, stacked
from crisp_ros.validation import check_ranges, ranged

_SURFACE_POINTS = 128  # on shapes that are compared


@dataclass(frozen=True)
class TrackShapesSettings:
    """Settings of `TrackShapes`.

    Attributes:
        views, pooled, pose: of the view buffers, of the shape solved from them, and of the solver
            that fits a frame or a view to a track's shape.
        joint: when a shape changes, the poses of its views are fitted to the new one.
        solves_per_frame: most tracks whose shape is solved for in one frame; the others wait for
            the next.
        alternatives: other library shapes are tried on a track's views: do these fix the
            shape: on the first one, on three times as many as last time, and on another shape. None
            leaves that out.
        checks_per_frame: most tracks on which they are tried in one frame.
        conflict_frames: the frame's own certified shape replaces the track's, and its views, when
            the track's has failed in so many frames in a row.
    """

    views: ViewBufferSettings = field(default_factory=ViewBufferSettings)
    pooled: PooledShapeSettings = field(default_factory=PooledShapeSettings)
    pose: SecondOrderSettings = field(default_factory=SecondOrderSettings)
    joint: bool = True
    solves_per_frame: int = ranged(1, 1, 1000)
    alternatives: LibraryCheckSettings | None = field(default_factory=LibraryCheckSettings)
    checks_per_frame: int = ranged(1, 1, 1000)
    conflict_frames: int = ranged(10, 1, 10000)

    def __post_init__(self) -> None:
        check_ranges(self)


class TrackShapes:
    """Decides which shape each track has.

    A track without a certified view takes the shape of the best score so far. From the first
    certified one on it keeps its shape, until the views together say otherwise, or until it fails
    where the frame's own shape is certified, in many frames in a row. So a shape changes seldom,
    and with it the mesh.
    """

    def __init__(
        self,
        decoder: ShapeDecoder,
        library: ShapeLibrary | None,
        known: KnownShapes,
        settings: TrackShapesSettings,
        device: torch.device,
    ) -> None:
        """Takes decoder and library into use; without a library nothing is solved for."""
        self._decoder = decoder
        self._library = library
        self._known = known
        self._settings = settings
        self._device = device
        self._library_surfaces: SurfacePoints | None = None

    def settled(
        self,
        sightings: Sequence[Sighting],
        depth: DepthPoints | None,
        certificate: CertificateSettings,
        visibility: VisibilitySettings | None,
        turned: Mapping[int, ObjectEstimate] | None = None,
    ) -> tuple[list[ObjectEstimate], float]:
        """The estimates, fitted to the shapes of their tracks; some tracks take other shapes.

        The second is what the fits took, milliseconds.

        Args:
            sightings: of one frame.
            depth: its points; an estimate without any keeps its own shape.
            certificate, visibility: of the estimator.
            turned: estimates of some sightings, by index, at another pose that looks alike; kept
                where they are certified there too, if need be after they are fitted there.
        """
        turned = turned or {}
        final = [sighting.estimate for sighting in sightings]
        other = []
        for i in self._of_other_shape(sightings):
            track, own = sightings[i]
            if not track.shape_certified and (own.certified or own.score > track.shape_score):
                track.follow(own)
            else:
                other.append(i)
        start = time.perf_counter()
        alike = {i: Sighting(sightings[i].track, estimate) for i, estimate in turned.items()}
        seen = depth, certificate, visibility
        # Look-alikes fit as well as what they replace, nearly always.
        for i, estimate in zip(
            list(alike), reposed(self._decoder, list(alike.values()), *seen, None), strict=True
        ):
            if estimate is not None and estimate.certified:
                final[i] = estimate
                del alike[i]
        chosen = [sightings[i] for i in other] + list(alike.values())
        fitted = reposed(self._decoder, chosen, *seen, self._settings.pose)
        fit_ms = 1e3 * (time.perf_counter() - start)
        for i, estimate in zip(alike, fitted[len(other) :], strict=True):
            if estimate is not None and estimate.certified:
                final[i] = estimate
        conflicts = set()
        for i, estimate in zip(other, fitted[: len(other)], strict=True):
            track, own = sightings[i]
            if estimate is not None:
                final[i] = estimate
            if own.certified and not (estimate is not None and estimate.certified):
                conflicts.add(i)
                track.conflicts += 1
                if track.conflicts >= self._settings.conflict_frames:
                    track.follow(own)
                    final[i] = own
        for i, (track, _) in enumerate(sightings):
            track.conflicts = track.conflicts if i in conflicts else 0
            track.shape_certified |= final[i].certified
            track.shape_score = max(track.shape_score, final[i].score)
        return final, fit_ms

    def keep_views(
        self,
        sightings: Sequence[Sighting],
        final: Sequence[ObjectEstimate],
        depth: DepthPoints | None,
        stamp_s: float,
    ) -> None:
        """Keeps the views of one frame, posed for the track's shape where that is certified."""
        for (track, own), settled in zip(sightings, final, strict=True):
            estimate = settled if settled.certified else own
            wanted = estimate.certified or not self._settings.views.certified_only
            if not wanted or depth is None or own.label not in depth.labels:
                continue
            if track.views is None:
                middle = (track.shape.lower + track.shape.upper) / 2.0
                track.views = ViewBuffer(self._settings.views, middle, self._device)
            row = depth.labels.index(own.label)
            added = track.views.add(
                depth.points[row],
                depth.valid[row],
                invert(estimate.T_camera_object),
                estimate.certified,
                estimate.score,
            )
            if added is Added.NEW and len(track.views) > 1 and track.waits_since_s is None:
                track.waits_since_s = stamp_s

    def solve(self, tracks: Iterable[Track]) -> None:
        """Solves for the shapes of tracks that have new views, those that wait longest first."""
        waiting = [t for t in tracks if t.waits_since_s is not None and t.views is not None]
        waiting.sort(key=lambda t: t.waits_since_s or 0.0)
        waiting = waiting[: self._settings.solves_per_frame]
        if not waiting or self._library is None:
            return
        shapes = [t.shape for t in waiting]
        solved = pooled_shape(
            self._decoder,
            self._library,
            [t.views.pooled() for t in waiting if t.views is not None],
            self._tensor([s.code for s in shapes]),
            self._tensor([s.lower for s in shapes]),
            self._tensor([s.upper for s in shapes]),
            self._settings.pooled,
        )
        changed, eigenvalues = solved.changed.tolist(), solved.tangent_eigenvalue.tolist()
        for i, track in enumerate(waiting):
            track.waits_since_s = None
            if changed[i]:
                self._change(track, solved.codes[i], solved.lower[i], solved.upper[i])
            track.views_used = max(1, len(track.views or ()))
            track.smallest_eigenvalue = eigenvalues[i]

    def check(self, tracks: Iterable[Track], certificate: CertificateSettings) -> None:
        """Tries other library shapes on tracks that have three times the views of last time.

        Args:
            tracks: those seen in this frame.
            certificate: of the estimator; what another shape would have to get.
        """
        settings = self._settings.alternatives
        due = [t for t in tracks if t.views and len(t.views) >= max(1, 3 * t.views_checked)]
        due = due[: self._settings.checks_per_frame]
        if settings is None or self._library is None or not due:
            return
        if self._library_surfaces is None:
            self._library_surfaces = library_surfaces(self._decoder, self._library, _SURFACE_POINTS)
        points, valid, _ = stacked([t.views.pooled() for t in due if t.views])
        codes, lower, upper = (
            self._tensor([getattr(t.shape, part) for t in due])
            for part in ("code", "lower", "upper")
        )
        still = torch.eye(4, device=self._device).expand(len(due), 4, 4)
        found = alternatives(
            self._decoder,
            Fitted(points, points, valid.to(points.dtype), valid, still, still, codes),
            surface_points(self._decoder, codes, lower, upper, _SURFACE_POINTS),
            self._library,
            self._library_surfaces,
            certificate.quantile,
            certificate.threshold_m,
            settings,
        )
        told = zip(due, found.degenerate.tolist(), found.tangent_eigenvalue.tolist(), strict=True)
        for track, degenerate, eigenvalue in told:
            track.degenerate, track.smallest_eigenvalue = degenerate, eigenvalue
            track.views_checked = len(track.views or ())

    def _change(self, track: Track, code: Tensor, lower: Tensor, upper: Tensor) -> None:
        shape = dataclasses.replace(
            track.shape,
            code=code.float().cpu().numpy(),
            lower=lower.double().cpu().numpy(),
            upper=upper.double().cpu().numpy(),
        )
        track.take_shape(shape)
        track.shape_score = 0.0
        if self._settings.joint and track.views is not None:
            track.views.pose_anew(self._decoder, code, self._settings.pose)

    def _of_other_shape(self, sightings: Sequence[Sighting]) -> list[int]:
        """Which sightings show another shape than their track's.

        Codes of two library shapes are told apart by name; others by their signed distances.
        """
        other, unsure = [], []
        for i, (track, estimate) in enumerate(sightings):
            if np.array_equal(estimate.code, track.shape.code):
                continue
            own, kept = self._known.index(estimate.code), self._known.index(track.shape.code)
            if own < 0 or kept < 0:
                unsure.append(i)
            elif own != kept:
                other.append(i)
        if unsure:
            pairs = [(sightings[i].estimate, sightings[i].track.shape) for i in unsure]
            apart = shape_distances(
                self._decoder,
                *(self._tensor([e.code for e in part]) for part in zip(*pairs, strict=True)),
                self._tensor([np.minimum(a.lower, b.lower) for a, b in pairs]),
                self._tensor([np.maximum(a.upper, b.upper) for a, b in pairs]),
            ).tolist()
            limit = self._settings.pooled.change_m
            other += [i for i, d in zip(unsure, apart, strict=True) if d > limit]
        return sorted(other)

    def _tensor(self, rows: Sequence[NDArray[np.floating]]) -> Tensor:
        return torch.from_numpy(np.stack(rows)).to(self._device, torch.float32)
