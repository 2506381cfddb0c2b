"""Which sightings of a frame are turned by a symmetry that only the print breaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.tracking.known_shapes import KnownShapes
from crisp_ros.tracking.look_alikes import LookAlikes
from crisp_ros.tracking.track import Sighting, Track, invert, posed


class SteadyTurns:
    """Lets the certified sightings of each track vote for its turn; see `TurnVotes`."""

    def __init__(self, look_alikes: LookAlikes) -> None:
        self._look_alikes = look_alikes

    def outvoted(
        self,
        sightings: Sequence[Sighting],
        known: KnownShapes,
        T_fixed_camera: NDArray[np.float64],
    ) -> dict[int, ObjectEstimate]:
        """The outvoted sightings by their index, at the pose that the track has instead.

        A shape takes part once `prepare` has seen it.
        """
        turned: dict[int, ObjectEstimate] = {}
        for i, (track, estimate) in enumerate(sightings):
            shape = known.index(estimate.code)
            group = self._look_alikes.known(shape)
            if group is None or len(group.transforms) == 1:
                continue
            if not estimate.certified or known.index(track.shape.code) != shape:
                continue
            T = T_fixed_camera @ estimate.T_camera_object
            box = estimate.lower, estimate.upper
            settled = track.votes.settled(T, shape, group, *box)
            if settled is not T:
                found = posed(estimate, invert(T_fixed_camera) @ settled)
                moved = found.T_camera_object[:3, 3] - estimate.T_camera_object[:3, 3]
                covariance = about(estimate.covariance, moved)
                turned[i] = dataclasses.replace(found, covariance=covariance)
        return turned

    def prepare(self, tracks: Sequence[Track], known: KnownShapes) -> None:
        """Finds the look-alike turns of one new shape at most, which takes about 0.1 s."""
        for track in tracks:
            shape = known.index(track.shape.code)
            if shape >= 0 and self._look_alikes.known(shape) is None:
                self._look_alikes.find(shape)
                return


def about(
    covariance: NDArray[np.float64] | None, moved: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The covariance (6, 6) of a pose whose origin is moved by (3,), along the camera's axes."""
    if covariance is None:
        return None
    x, y, z = moved
    lever = np.eye(6)
    lever[:3, 3:] = [[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]
    return lever @ covariance @ lever.T
