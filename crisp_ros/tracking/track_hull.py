"""The observed hull of a track: kept in the fixed frame until what is seen has changed."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.pipeline import ObjectEstimate
from crisp_ros.pipeline.estimates import ObservedHull


class TrackHull(NamedTuple):
    """The hull that is published for an unknown object.

    Attributes:
        hull: its mesh; its pose is that relative to the camera of that time.
        T_fixed_hull: (4, 4) its pose in the fixed frame.
    """

    hull: ObservedHull
    T_fixed_hull: NDArray[np.float64]

    @classmethod
    def of(cls, hull: ObservedHull, T_fixed_camera: NDArray[np.float64]) -> TrackHull:
        """The hull of a frame's estimate."""
        return cls(hull, T_fixed_camera @ hull.T_camera_hull)

    def difference(self, other: TrackHull) -> float:
        """The largest distance between the outlines of two hulls in some directions, metres."""
        reach, others = (
            (transform(h.T_fixed_hull, h.hull.mesh.vertices) @ _DIRECTIONS.T).max(axis=0)
            for h in (self, other)
        )
        return float(np.abs(reach - others).max())

    def shown(
        self, estimate: ObjectEstimate, T_fixed_camera: NDArray[np.float64]
    ) -> ObjectEstimate:
        """The estimate of a frame with this hull in place of its shape."""
        T_camera_hull = invert(T_fixed_camera) @ self.T_fixed_hull
        return replace(estimate, hull=ObservedHull(T_camera_hull, self.hull.mesh)).observed()


def _directions() -> NDArray[np.float64]:
    """Unit vectors (26, 3) to the faces, edges and corners of a cube."""
    steps = np.array(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3)).reshape(3, -1).T
    steps = steps[np.abs(steps).sum(axis=1) > 0]
    return steps / np.linalg.norm(steps, axis=1, keepdims=True)


_DIRECTIONS = _directions()
