"""The tracks of a tracker: births, assignment of estimates, and ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.geometry.chamfer import pairwise_distances
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.association import Candidates, assign, code_differences, costs
from crisp_ros.tracking.pose_filter import PoseFilter
from crisp_ros.tracking.track import Track, box_centre
from crisp_ros.tracking.tracker_settings import TrackerSettings


class TrackList:
    """The living tracks; ids are never given twice.

    Attributes:
        settings: may be replaced between frames.
    """

    def __init__(self, library: PreparedLibrary | None, settings: TrackerSettings) -> None:
        """Start without tracks.

        Args:
            library: whose shapes give the unit in which codes differ.
            settings: of the tracker.
        """
        self.settings = settings
        self._code_unit = None if library is None else _median_distance(library)
        self._tracks: list[Track] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._tracks)

    def __iter__(self) -> Iterator[Track]:
        return iter(self._tracks)

    def end_expired(self, stamp_s: float) -> tuple[str, ...]:
        """End the tracks that were not seen for too long, and return their ids."""
        limits = {True: self.settings.death_s, False: self.settings.tentative_s}
        expired = [t for t in self._tracks if stamp_s - t.last_seen_s > limits[t.confirmed]]
        return self._end(expired)

    def end_surplus(self) -> tuple[str, ...]:
        """End the longest unseen tracks where there are too many, and return their ids."""
        by_age = sorted(self._tracks, key=lambda t: (t.last_seen_s, t.first_seen_s))
        return self._end(by_age[: max(0, len(by_age) - self.settings.max_tracks)])

    def end_all(self) -> tuple[str, ...]:
        """End all tracks and return their ids."""
        return self._end(tuple(self._tracks))

    def _end(self, tracks: Sequence[Track]) -> tuple[str, ...]:
        ids = {track.id for track in tracks}
        if ids:
            self._tracks = [t for t in self._tracks if t.id not in ids]
        return tuple(track.id for track in tracks)

    def assign(
        self,
        stamp_s: float,
        estimates: Sequence[ObjectEstimate],
        T_fixed_camera: NDArray[np.float64],
        names: Mapping[int, str],
    ) -> list[Track]:
        """Find or start the track of each estimate.

        Args:
            stamp_s: of the frame, seconds.
            estimates: of the frame, finite.
            T_fixed_camera: (4, 4) pose of the camera.
            names: class names of labels, as far as known.
        """
        T = [T_fixed_camera @ estimate.T_camera_object for estimate in estimates]
        pairs = self._pairs(stamp_s, estimates, T, names)
        result = []
        for i, estimate in enumerate(estimates):
            name = names.get(estimate.label, "")
            track = pairs.get(i) or self._start(stamp_s, estimate, T[i], name)
            track.class_name = name or track.class_name
            result.append(track)
        return result

    def _pairs(
        self,
        stamp_s: float,
        estimates: Sequence[ObjectEstimate],
        T_fixed_object: Sequence[NDArray[np.float64]],
        names: Mapping[int, str],
    ) -> dict[int, Track]:
        """The living tracks of estimates, by their indices."""
        if not self._tracks or not estimates:
            return {}
        tracks = Candidates(
            np.stack([t.expected_centre(stamp_s) for t in self._tracks]),
            np.array([t.estimate.label for t in self._tracks]),
            tuple(t.class_name for t in self._tracks),
        )
        candidates = Candidates(
            np.stack([box_centre(*pair) for pair in zip(estimates, T_fixed_object, strict=True)]),
            np.array([e.label for e in estimates]),
            tuple(names.get(e.label, "") for e in estimates),
        )
        shapes = _shape_differences([t.estimate for t in self._tracks], estimates, self._code_unit)
        unseen_s = np.array([stamp_s - t.last_seen_s for t in self._tracks])
        matrix = costs(tracks, unseen_s, candidates, shapes, self.settings.association)
        return {column: self._tracks[row] for row, column in assign(matrix)}

    def _start(
        self, stamp_s: float, estimate: ObjectEstimate, T: NDArray[np.float64], name: str
    ) -> Track:
        self._count += 1
        smoothing = self.settings.pose_filter
        track = Track(
            id=f"{_tf_name(name)}_{self._count}",
            class_name=name,
            first_seen_s=stamp_s,
            last_seen_s=stamp_s,
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


def _shape_differences(
    before: Sequence[ObjectEstimate], now: Sequence[ObjectEstimate], unit: float | None
) -> NDArray[np.float64]:
    """Differences of shapes (A, B) in [0, 1]; shapes of two decoders differ entirely.

    Args:
        before: A estimates.
        now: B estimates.
        unit: of the codes of the library's decoder, see `code_differences`.
    """
    differences = np.ones((len(before), len(now)))
    for of_prior_model in (False, True):
        rows, columns = (
            [i for i, e in enumerate(part) if e.of_prior_model is of_prior_model]
            for part in (before, now)
        )
        if rows and columns:
            differences[np.ix_(rows, columns)] = code_differences(
                np.stack([before[i].code for i in rows]),
                np.stack([now[i].code for i in columns]),
                None if of_prior_model else unit,
            )
    return differences


def _median_distance(library: PreparedLibrary) -> float:
    """The median distance of the codes of two library shapes; of one shape, its code's length."""
    codes = library.codes.detach().float()
    distances = pairwise_distances(codes, codes)
    between = distances[~torch.eye(len(codes), dtype=torch.bool, device=codes.device)]
    return float(between.median() if len(between) else codes.norm())


def _tf_name(class_name: str) -> str:
    """Replace what a TF frame's name cannot contain by underscores."""
    return re.sub(r"\W+", "_", class_name, flags=re.ASCII).strip("_") or "object"
