"""Views of an object whose shape is fitted under a prior, and their points in its own frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from crisp_ros.correction.batch import batch_of, concatenate, take_rows
from crisp_ros.correction.correspondences import ObjectPoints
from crisp_ros.correction.empty_space import EmptyPoints
from crisp_ros.correction.prior_shape import PriorObservation
from crisp_ros.geometry.se3 import transform

Points = TypeVar("Points", ObjectPoints, EmptyPoints)


class PriorView(NamedTuple):
    """A view of an object, in the object's frame.

    Attributes:
        seen: depth points (N, 3).
        empty: points (M, 3) where the camera saw that nothing is.
        direction: (3,) unit, to the camera.
    """

    seen: ObjectPoints
    empty: EmptyPoints
    direction: Tensor

    @classmethod
    def of(cls, observation: PriorObservation, T_object_camera: Tensor, count: int) -> PriorView:
        """The view of an object at a pose (4, 4), with `count` points of each sort at most."""
        seen, empty = (batch_of(part).subsample(count) for part in observation[:2])
        return cls(
            moved_points(take_rows(seen, 0), T_object_camera),
            moved_points(take_rows(empty, 0), T_object_camera),
            view_direction(depth_points(observation), T_object_camera),
        )

    def moved(self, motion: Tensor) -> PriorView:
        """The same after a motion (4, 4) of the object's frame."""
        direction = motion[:3, :3] @ self.direction
        return PriorView(
            moved_points(self.seen, motion), moved_points(self.empty, motion), direction
        )


def pooled_views(views: Sequence[PriorView]) -> PriorObservation:
    """All views of an object in its frame; the support is known in each view by its points."""
    parts = []
    for name in ("seen", "empty"):
        points = [getattr(view, name) for view in views]
        parts.append(concatenate(points))
    return PriorObservation(*parts, None)


def depth_points(observation: PriorObservation) -> Tensor:
    """The depth points (N, 3) of an object that count, camera frame."""
    return observation.seen.points[observation.seen.valid]


def view_direction(points: Tensor, T_object_camera: Tensor) -> Tensor:
    """Unit vector (3,) to the camera from the middle of depth points (N, 3), object frame."""
    away = T_object_camera[:3, 3] - middle_of(points, T_object_camera)
    return torch.nn.functional.normalize(away, dim=0)


def middle_of(points: Tensor, motion: Tensor) -> Tensor:
    """The mean (3,) of points (N, 3) after a motion (4, 4)."""
    return transform(motion, points.mean(0)[None])[0]


def moved_points(part: Points, motion: Tensor) -> Points:
    """The points after a motion (4, 4)."""
    return part._replace(points=transform(motion, part.points))
