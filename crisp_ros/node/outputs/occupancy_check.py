"""Is an object that is not seen still where it was? The depth at its place may tell."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crisp_ros.geometry.se3 import transform
from crisp_ros.observation.frame import Frame


class Presence(enum.Enum):
    """What a frame's depth says about an object's place.

    GONE: the camera looks through it. POSSIBLE: something is there or before it, such as a gripper.
    UNKNOWN: it lies outside the image or has no depth, for the most part.
    """

    GONE = "gone"
    POSSIBLE = "possible"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class PresenceSettings:
    """Settings of `presence`.

    Attributes:
        margin_m: depth that is farther than a point by more than this is seen through it, metres;
            sensors and poses are not exact.
        gone_share: share of the points with depth that are seen through from which on it is gone.
        measured_share: share of all points that need depth for a verdict.
        points: of the surface that are looked at, at most.
    """

    margin_m: float = 0.02
    gone_share: float = 0.5
    measured_share: float = 0.25
    points: int = 300


def presence(
    surface: ArrayLike,
    T_camera_object: NDArray[np.float64],
    frame: Frame,
    settings: PresenceSettings | None = None,
) -> Presence:
    """What the depth of a frame says about an object that was not seen in it.

    A thing that covers the place (its depth is nearer than the object's far side) leaves the
    question open, and so does the object itself where it was merely not segmented.

    Args:
        surface: (V, 3) points on the object, object frame, metres.
        T_camera_object: (4, 4) where it was, seen from the camera of the frame.
        frame: a frame.
        settings: see `PresenceSettings`.
    """
    settings = settings or PresenceSettings()
    points = np.asarray(surface, np.float64)
    points = points[:: max(1, -(-len(points) // settings.points))]
    if len(points) == 0:
        return Presence.UNKNOWN
    points = transform(T_camera_object, points)
    in_front = points[points[:, 2] > settings.margin_m]
    camera = frame.camera
    u, v = np.round(camera.project(in_front)).T
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    depth = frame.depth[v[inside].astype(int), u[inside].astype(int)]
    measured = depth > 0
    if np.count_nonzero(measured) < settings.measured_share * len(points):
        return Presence.UNKNOWN
    through = depth[measured] > in_front[inside, 2][measured] + settings.margin_m
    return Presence.GONE if through.mean() >= settings.gone_share else Presence.POSSIBLE
