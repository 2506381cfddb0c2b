"""Majority vote of frames on which of several depth-equivalent poses an object has.

A single frame may misread what is printed on a can, and the certificate, which sees depth alone,
cannot tell: the last frames decide together.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.symmetry_motions import SymmetryKind
from crisp_ros.geometry.se3 import invert
from crisp_ros.geometry.symmetry_group import SymmetryGroup, nearest_symmetric_pose
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.track import Detection, Track, with_pose

_CERTIFIED_WEIGHT = 5.0  # votes of a frame whose orientation is certified
_SMALL_RAD = np.deg2rad(40.0)  # a smaller rotation is a motion, not a misread symmetry


class Box(NamedTuple):
    """A box around a shape.

    Attributes:
        lower: (3,) corner, object frame, metres.
        upper: (3,) opposite corner.
    """

    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


class SymmetryVotes:
    """The votes of a track's last certified frames.

    Each certified frame votes for the symmetry that maps its pose to the one nearest to the last
    resolved pose. The symmetry on which most of the last frames agree, to within 40 degrees, is
    applied. Smaller rotations are no such mistakes and stay in the pose. A frame whose orientation
    is certified counts as several others.
    """

    def __init__(self, window: int) -> None:
        """Start without votes; `window` is the number of frames that vote."""
        self._votes: deque[NDArray[np.float64]] = deque(maxlen=window)
        self._weights: deque[float] = deque(maxlen=window)
        self._shape = -1
        self._last: NDArray[np.float64] | None = None

    def resolve(
        self,
        T: NDArray[np.float64],
        shape: int,
        group: SymmetryGroup,
        box: Box,
        certified: bool = False,
    ) -> NDArray[np.float64]:
        """Add the vote of a frame, and choose the pose on which most frames agree.

        Args:
            T: (4, 4) the frame's pose of the object, in a frame in which it rests or moves little.
            shape: index in the library; the votes for another shape are dropped.
            group: symmetries of that shape to a depth camera.
            box: of that shape.
            certified: the orientation of the frame's pose is certified.

        Returns:
            (4, 4), T itself where the frame agrees with the majority.
        """
        if shape != self._shape:
            self._votes.clear()
            self._weights.clear()
            self._shape, self._last = shape, None
        last = T if self._last is None else self._last
        symmetry = invert(T) @ nearest_symmetric_pose(T, last, group, *box)
        self._votes.append(symmetry)
        self._weights.append(_CERTIFIED_WEIGHT if certified else 1.0)
        votes = np.array(self._votes)
        rotations = votes[:, :3, :3]
        # The identity comes first, so that the track stays as it is where votes are even.
        candidates = np.concatenate([np.eye(3)[None], rotations])
        cost = np.minimum(_angles_between(candidates, rotations), _SMALL_RAD) @ self._weights
        best = int(cost.argmin())
        if cost[best] < cost[0] - 0.5 * _SMALL_RAD:
            back = invert(votes[best - 1])
            self._votes.clear()
            self._votes.extend([vote @ back for vote in votes])
            symmetry = symmetry @ back
        angle = _angles_between(np.eye(3)[None], symmetry[None, :3, :3]).item()
        self._last = T if angle < _SMALL_RAD else T @ symmetry
        return self._last


class SymmetryVoting:
    """Lets the certified detections of each track vote."""

    def __init__(self, library: PreparedLibrary, window: int) -> None:
        """Start without votes.

        Args:
            library: the known shapes, whose surfaces have symmetries that their print breaks.
            window: number of frames that vote.
        """
        self._library = library
        self._window = window
        self._prepared: set[int] = set()
        self._votes: WeakKeyDictionary[Track, SymmetryVotes] = WeakKeyDictionary()

    def overruled(
        self, detections: Sequence[Detection], T_fixed_camera: NDArray[np.float64]
    ) -> dict[int, ObjectEstimate]:
        """Find the detections that the majority overrules.

        A shape takes part once `prepare` has found its symmetries.

        Returns:
            By index, the estimates at the pose of the majority.
        """
        overruled: dict[int, ObjectEstimate] = {}
        for i, (track, estimate, _) in enumerate(detections):
            shape = estimate.shape_index
            same = shape >= 0 and shape == track.shape.shape_index
            if not (same and estimate.certified and shape in self._prepared):
                continue
            group = self._library.symmetry_group(shape, SymmetryKind.SAME_SHAPE)
            if len(group.transforms) == 1:
                continue
            T = T_fixed_camera @ estimate.T_camera_object
            votes = self._votes.setdefault(track, SymmetryVotes(self._window))
            box = Box(estimate.lower, estimate.upper)
            resolved = votes.resolve(T, shape, group, box, estimate.orientation_certified)
            if resolved is not T:
                found = with_pose(estimate, invert(T_fixed_camera) @ resolved)
                offset = found.T_camera_object[:3, 3] - estimate.T_camera_object[:3, 3]
                covariance = shift_covariance(estimate.covariance, offset)
                overruled[i] = dataclasses.replace(found, covariance=covariance)
        return overruled

    def prepare(self, tracks: Sequence[Track]) -> None:
        """Find the symmetries of one new shape at most, which may take about 0.1 s."""
        for track in tracks:
            shape = track.shape.shape_index
            if shape >= 0 and shape not in self._prepared:
                self._library.symmetry_group(shape, SymmetryKind.SAME_SHAPE)
                self._prepared.add(shape)
                return


def shift_covariance(
    covariance: NDArray[np.float64] | None, offset: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Propagate the covariance (6, 6) of a pose to an origin shifted by (3,) metres.

    Rows and columns are translation, then rotation, along the camera's axes; None stays None.
    """
    if covariance is None:
        return None
    x, y, z = offset
    lever = np.eye(6)
    lever[:3, 3:] = [[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]
    return lever @ covariance @ lever.T


def _angles_between(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles (A, B) between rotations (A, 3, 3) and (B, 3, 3), radians; from the trace of A^T B."""
    cosines = (a.reshape(-1, 9) @ b.reshape(-1, 9).T - 1.0) / 2.0
    return np.arccos(cosines.clip(-1.0, 1.0))
