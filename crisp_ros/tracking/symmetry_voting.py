"""A can's print in one frame does not turn the can: of look-alike turns, the last frames decide."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.symmetry_group import SymmetryGroup, nearest_symmetric_pose

_SMALL_RAD = np.deg2rad(40.0)  # a turn by less is taken for what it is


class TurnVotes:
    """Which of the poses that look alike to depth a track has.

    The certificate sees depth alone, and a single image may misread the print, so that a certified
    pose may be turned by a symmetry of the shape. Every certified frame votes for the turn that it
    saw, relative to the last such frame's pose as it was settled; the turn on which most of the
    last frames agree, to within 40 degrees, is the object's. Turns by less are no such mistakes,
    and are left in the pose.
    """

    def __init__(self, window: int) -> None:
        """Starts without votes; `window` is the number of frames that vote."""
        self._votes: deque[NDArray[np.float64]] = deque(maxlen=window)
        self._shape = -1
        self._last: NDArray[np.float64] | None = None

    def settled(
        self,
        T: NDArray[np.float64],
        shape: int,
        group: SymmetryGroup,
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Takes the vote of a frame; the look-alike of its pose that the object has, or T itself.

        Args:
            T: (4, 4) the frame's pose of the object, in a frame in which it rests or moves little.
            shape: index in the library; the votes for another one are forgotten.
            group: of that shape.
            lower, upper: (3,) corners of its box, object frame, metres.
        """
        if shape != self._shape:
            self._votes.clear()
            self._shape, self._last = shape, None
        last = T if self._last is None else self._last
        near = nearest_symmetric_pose(T, last, group, lower, upper)
        turn = np.linalg.solve(T, near)
        self._votes.append(turn)
        votes = np.array(self._votes)
        rotations = votes[:, :3, :3]
        # The unit comes first, so that the track stays as it is where votes are even.
        candidates = np.concatenate([np.eye(3)[None], rotations])
        cost = np.minimum(_angles_between(candidates, rotations), _SMALL_RAD).sum(1)
        best = int(cost.argmin())
        if cost[best] < cost[0] - 0.5 * _SMALL_RAD:
            back = np.linalg.inv(votes[best - 1])
            self._votes.extend([vote @ back for vote in votes])
            turn = turn @ back
        angle = _angles_between(np.eye(3)[None], turn[None, :3, :3]).item()
        self._last = T if angle < _SMALL_RAD else T @ turn
        return self._last


def _angles_between(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles (A, B) between rotations (A, 3, 3) and (B, 3, 3), radians; from the trace of A^T B."""
    cosines = (a.reshape(-1, 9) @ b.reshape(-1, 9).T - 1.0) / 2.0
    return np.arccos(cosines.clip(-1.0, 1.0))
