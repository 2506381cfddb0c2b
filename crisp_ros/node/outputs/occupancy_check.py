"""Occupancy of an unseen object's place, judged from the depth of a frame."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crisp_ros.geometry.se3 import transform
from crisp_ros.observation.frame import Frame


class Occupancy(enum.Enum):
    """Occupancy of an object's place.

    Attributes:
        FREE: the camera sees through the place, so the object is gone.
        OCCUPIED: something is there or in front of it: the object, or for example a gripper.
        UNKNOWN: most of the place is outside the image or has no depth.
    """

    FREE = "free"
    OCCUPIED = "occupied"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class OccupancyCheckSettings:
    """Settings of `check_occupancy`.

    Attributes:
        margin_m: a point is seen through if the depth exceeds its own by more than this, metres;
            covers the errors of sensor and pose.
        free_share: share of the measured points that are seen through from which the place is free.
        measured_share: share of all points that must have depth for a verdict.
        points: upper bound of the surface points that are checked.
    """

    margin_m: float = 0.02
    free_share: float = 0.5
    measured_share: float = 0.25
    points: int = 300


def check_occupancy(
    surface: ArrayLike,
    T_camera_object: NDArray[np.float64],
    frame: Frame,
    settings: OccupancyCheckSettings | None = None,
) -> Occupancy:
    """Check whether the place of an unseen object is free, from the depth of a frame.

    A place whose depth is nearer than the object's far side is occupied: it is covered, or shows
    the object itself, which was not segmented.

    Args:
        surface: (V, 3) points on the object, object frame, metres.
        T_camera_object: (4, 4) its last pose in the camera of the frame.
        frame: the current frame.
        settings: see `OccupancyCheckSettings`.
    """
    settings = settings or OccupancyCheckSettings()
    points = np.asarray(surface, np.float64)
    points = points[:: max(1, -(-len(points) // settings.points))]
    if len(points) == 0:
        return Occupancy.UNKNOWN
    points = transform(T_camera_object, points)
    in_front = points[points[:, 2] > settings.margin_m]
    camera = frame.camera
    u, v = np.round(camera.project(in_front)).T
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    depth = frame.depth[v[inside].astype(int), u[inside].astype(int)]
    measured = depth > 0
    if np.count_nonzero(measured) < settings.measured_share * len(points):
        return Occupancy.UNKNOWN
    through = depth[measured] > in_front[inside, 2][measured] + settings.margin_m
    return Occupancy.FREE if through.mean() >= settings.free_share else Occupancy.OCCUPIED
