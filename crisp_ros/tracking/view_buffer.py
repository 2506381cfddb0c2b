"""Buffer of views of one object (Remark 3): at most 50, from different directions."""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crisp_ros.correction.batch import evenly_spaced
from crisp_ros.correction.correspondences import (
    Correspondences,
    ObjectPoints,
    Shapes,
    finite_and_valid,
)
from crisp_ros.correction.pose_lm import PoseLmSettings, refine_pose
from crisp_ros.correction.shape_field import ShapeField
from crisp_ros.geometry.se3 import transform
from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class ViewBufferSettings:
    """Settings of `ViewBuffer`.

    Attributes:
        max_views: largest number of views (the paper: 50).
        points_per_view: depth points stored of each, chosen evenly.
        min_angle_rad: two views have the same direction where their viewing rays, in the object
            frame, differ by less, and their distances by less than `min_distance_ratio`.
        min_distance_ratio: factor between two distances of the camera.
        certified_only: only certified estimates are stored.
        outlier_m: a view that is fitted to another shape is dropped if more than a tenth of its
            points stay farther from that shape, metres.
    """

    max_views: int = ranged(50, 1, 1000)
    points_per_view: int = ranged(96, 8, 10000)
    min_angle_rad: float = ranged(math.radians(10.0), 1e-3, math.pi)
    min_distance_ratio: float = ranged(1.25, 1.001, 100.0)
    certified_only: bool = True
    outlier_m: float = ranged(0.01, 0.0001, 1.0)

    def __post_init__(self) -> None:
        check_ranges(self)


class Insertion(enum.Enum):
    """Outcome of `ViewBuffer.add`."""

    NEW = "from a new direction"
    BETTER = "replaces worse ones from the same direction"
    REFUSED = "the buffer has better ones"


class _View(NamedTuple):
    slot: int
    number: int  # in the order of arrival
    camera: tuple[float, float, float]  # position in the object frame, from the object's centre
    certified: bool
    score: float

    def rank(self) -> tuple[bool, float, int]:
        """Sort key: the view of higher rank is kept."""
        return self.certified, self.score, self.number


class ViewBuffer:
    """Depth points of one object from different directions.

    The memory is allocated once and never grows. Views are stored as camera points with their
    poses, so that the poses can be fitted to another shape.
    """

    def __init__(
        self, settings: ViewBufferSettings, centre: NDArray[np.float64], device: torch.device | str
    ) -> None:
        """Allocate the memory.

        Args:
            settings: see `ViewBufferSettings`.
            centre: (3,) of the object, object frame, metres; viewing rays start there.
            device: where the points are stored.
        """
        self._settings = settings
        self._centre = np.array(centre, np.float64)
        shape = (settings.max_views, settings.points_per_view)
        self._points = torch.zeros(*shape, 3, device=device)
        self._valid = torch.zeros(*shape, dtype=torch.bool, device=device)
        self._poses = torch.eye(4, device=device).repeat(settings.max_views, 1, 1)
        self._views: list[_View] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._views)

    @property
    def element_count(self) -> int:
        """Number of elements allocated on the device, which never changes."""
        return self._points.numel() + self._valid.numel() + self._poses.numel()

    @property
    def cameras(self) -> NDArray[np.float64]:
        """Positions (V, 3) of the cameras relative to the object's centre, object frame, metres."""
        return np.array([view.camera for view in self._views]).reshape(-1, 3)

    def add(
        self,
        points: Tensor,
        valid: Tensor,
        T_object_camera: NDArray[np.float64],
        certified: bool,
        score: float,
    ) -> Insertion:
        """Add a view if it is better than the stored ones.

        Of views from the same direction the best one stays: certified before uncertified, then by
        score, then the newer one. In a full buffer, one of the two nearest viewpoints is dropped:
        the uncertified one, otherwise the one with the nearer second neighbour. The least distance
        of two certified viewpoints therefore never shrinks.

        Args:
            points: (N, 3) camera frame, metres.
            valid: (N,) bool.
            T_object_camera: (4, 4) pose of the estimate; for a symmetric object the one consistent
                with the earlier views.
            certified: the estimate has the certificate.
            score: of the certificate, positive.
        """
        if self._settings.certified_only and not certified:
            return Insertion.REFUSED
        camera = T_object_camera[:3, 3] - self._centre
        if not (np.isfinite(T_object_camera).all() and np.linalg.norm(camera) > 0):
            return Insertion.REFUSED
        self._number += 1
        view = _View(-1, self._number, tuple(camera.tolist()), certified, score)
        near = self._separation(camera) < 1.0
        same = [v for v, n in zip(self._views, near, strict=True) if n]
        if any(v.rank() > view.rank() for v in same):
            return Insertion.REFUSED
        self._views = [v for v, n in zip(self._views, near, strict=True) if not n]
        if len(self._views) == self._settings.max_views:
            crowded = self._most_crowded(view)
            if crowded is view:
                return Insertion.REFUSED
            self._views.remove(crowded)
        slot = min(set(range(self._settings.max_views)) - {v.slot for v in self._views})
        self._views.append(view._replace(slot=slot))
        valid = finite_and_valid(points, valid)
        chosen = evenly_spaced(valid[None], self._settings.points_per_view)[0]
        self._points[slot] = torch.where(valid[chosen, None], points[chosen], 0.0)
        self._valid[slot] = valid[chosen]
        self._poses[slot] = torch.from_numpy(T_object_camera).to(self._poses)
        return Insertion.BETTER if same else Insertion.NEW

    def pooled(self) -> ObjectPoints:
        """The points (1, M, 3) of all views in the object frame: Z* of Remark 3.

        The weights of a view sum to its score.
        """
        slots = self._slots()
        points = transform(self._poses[slots], self._points[slots])
        valid = self._valid[slots]
        scores = points.new_tensor([view.score for view in self._views])
        share = scores / valid.sum(-1).clamp_min(1)
        weights = torch.where(valid, share[:, None], 0.0)
        return ObjectPoints(points.flatten(0, 1)[None], weights.flatten()[None])

    def refit_poses(
        self, field: ShapeField, shape: Shapes, pose: PoseLmSettings | None = None
    ) -> int:
        """Fit the pose of every view to a shape, in one batch, starting at its present pose.

        A view that does not fit afterwards is dropped: it was posed for a shape in an unrelated
        object frame, or shows another object.

        Args:
            field: f_d.
            shape: one shape, without leading dimensions.
            pose: settings of the solver.

        Returns:
            The number of views that were dropped.
        """
        if not self._views:
            return 0
        slots = self._slots()
        points, valid = self._points[slots], self._valid[slots]
        observed = Correspondences.of_points(points, valid).aligned_to(self._poses[slots])
        shapes = shape.unsqueeze(0).repeated(len(slots))
        step = refine_pose(field, observed, shapes, self._poses[slots], pose)
        self._poses[slots] = step.T_object_camera
        sdf = field.sdf(transform(step.T_object_camera, points), shapes)
        far = ((sdf.abs() > self._settings.outlier_m) & valid).sum(-1) > 0.1 * valid.sum(-1)
        dropped = far.tolist()
        self._views = [view for view, out in zip(self._views, dropped, strict=True) if not out]
        return sum(dropped)

    def clear(self) -> None:
        """Remove all views; the memory stays allocated."""
        self._views.clear()

    def _slots(self) -> Tensor:
        slots = [view.slot for view in self._views]
        return torch.tensor(slots, dtype=torch.long, device=self._points.device)

    def _separation(self, camera: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distances (V,) of a viewpoint to the stored ones; below one it is the same."""
        angle, ratio = self._settings.min_angle_rad, self._settings.min_distance_ratio
        return viewpoint_distances(camera[None], self.cameras, angle, ratio)[0]

    def _most_crowded(self, view: _View) -> _View:
        views = [*self._views, view]
        cameras = np.array([v.camera for v in views])
        angle, ratio = self._settings.min_angle_rad, self._settings.min_distance_ratio
        apart = viewpoint_distances(cameras, cameras, angle, ratio)
        np.fill_diagonal(apart, np.inf)
        nearest = np.sort(apart, axis=1)[:, :2]
        pair = np.unravel_index(apart.argmin(), apart.shape)
        return views[min(pair, key=lambda i: (views[i].certified, nearest[i, -1], i))]


def viewpoint_distances(
    a: NDArray[np.float64], b: NDArray[np.float64], angle_rad: float, ratio: float
) -> NDArray[np.float64]:
    """Measure the distances (A, B) between viewpoints.

    The larger of two ratios: the angle of the viewing rays over `angle_rad`, and the logarithm of
    the quotient of the distances over that of `ratio`.

    Args:
        a: (A, 3) positions of cameras relative to the object's centre, not zero.
        b: (B, 3) likewise.
        angle_rad: angle that counts as one.
        ratio: quotient of distances that counts as one.
    """
    near, far = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    rays = (a / near[:, None])[:, None], (b / far[:, None])[None]
    # Accurate for small angles too, unlike the arc cosine.
    sine, cosine = np.linalg.norm(np.cross(*rays), axis=-1), (rays[0] * rays[1]).sum(-1)
    angles = np.arctan2(sine, cosine)
    logs = np.abs(np.log(near[:, None] / far))
    return np.maximum(angles / angle_rad, logs / math.log(ratio))


def stack_views(views: Sequence[ObjectPoints]) -> ObjectPoints:
    """The points of B objects as one batch, filled up with points of no weight."""
    most = max(v.points.shape[1] for v in views)

    def filled(parts: Sequence[Tensor]) -> Tensor:
        batch = parts[0].new_zeros(len(parts), most, *parts[0].shape[2:])
        for row, values in zip(batch, parts, strict=True):
            row[: values.shape[1]] = values[0]
        return batch

    return ObjectPoints(*(filled(parts) for parts in zip(*views, strict=True)))
