"""The views of one object (Remark 3): at most 50, from different sides, on the device."""

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

from crisp_ros.correction.pose_lm import SecondOrderSettings, refine
from crisp_ros.correction.residuals import evenly_chosen, usable
from crisp_ros.geometry.se3 import transform
from crisp_ros.network.decoder import ShapeDecoder
from crisp_ros.validation import check_ranges, ranged


@dataclass(frozen=True)
class ViewBufferSettings:
    """Settings of `ViewBuffer`.

    Attributes:
        max_views: most views kept (the paper: 50).
        points_per_view: depth points kept of each, chosen evenly.
        min_angle_rad: two views are the same one where their viewing rays, in the object frame,
            differ by less than this ...
        min_distance_ratio: ... and their distances by less than this factor.
        certified_only: only certified estimates are kept.
        outlier_m: where a view is posed anew for another shape, it is dropped if more than a tenth
            of its points stay farther than this from the shape.
    """

    max_views: int = ranged(50, 1, 1000)
    points_per_view: int = ranged(96, 8, 10000)
    min_angle_rad: float = ranged(math.radians(10.0), 1e-3, math.pi)
    min_distance_ratio: float = ranged(1.25, 1.001, 100.0)
    certified_only: bool = True
    outlier_m: float = ranged(0.01, 0.0001, 1.0)

    def __post_init__(self) -> None:
        check_ranges(self)


class Added(enum.Enum):
    """What became of a view that was offered."""

    NEW = "from a new side"
    BETTER = "in place of worse ones from the same side"
    REFUSED = "the buffer has better ones"


class PooledViews(NamedTuple):
    """The points of all views together, object frame.

    points: (M, 3) metres. valid: (M,) bool. weights: (M,), zero where not valid; those of a view
    sum to its score. All on the device.
    """

    points: Tensor
    valid: Tensor
    weights: Tensor


class _View(NamedTuple):
    slot: int
    number: int  # in the order of arrival
    camera: tuple[float, float, float]  # position in the object frame, from the object's middle
    certified: bool
    score: float

    def rank(self) -> tuple[bool, float, int]:
        """The greater, the rather the view is kept."""
        return self.certified, self.score, self.number


class ViewBuffer:
    """Depth points of one object from different sides.

    The memory is taken once and never grows. Views are kept as camera points with their poses, so
    that they can be posed anew when the shape turns out to be another one.
    """

    def __init__(
        self, settings: ViewBufferSettings, middle: NDArray[np.float64], device: torch.device | str
    ) -> None:
        """Takes the memory.

        Args:
            settings: see `ViewBufferSettings`.
            middle: (3,) of the object, object frame, metres; viewing rays start there.
            device: where the points are kept.
        """
        self._settings = settings
        self._middle = np.array(middle, np.float64)
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
        """Numbers held on the device, which never changes."""
        return self._points.numel() + self._valid.numel() + self._poses.numel()

    @property
    def cameras(self) -> NDArray[np.float64]:
        """Positions (V, 3) of the cameras about the object's middle, object frame, metres."""
        return np.array([view.camera for view in self._views]).reshape(-1, 3)

    def add(
        self,
        points: Tensor,
        valid: Tensor,
        T_object_camera: NDArray[np.float64],
        certified: bool,
        score: float,
    ) -> Added:
        """Offers a view.

        Where views from the same side are there already, the best of all stays: certified before
        not, then by the score, then the newer. Where the buffer is full, one of the two views that
        lie nearest together goes: the uncertified one, else the one with the nearer other
        neighbour. So the least distance of two certified viewpoints never shrinks then.

        Args:
            points: (N, 3) camera frame, metres.
            valid: (N,) bool.
            T_object_camera: (4, 4) pose of the estimate; for a symmetric object the one that fits
                the earlier ones.
            certified: the estimate has the certificate.
            score: of the certificate, positive.
        """
        if self._settings.certified_only and not certified:
            return Added.REFUSED
        camera = T_object_camera[:3, 3] - self._middle
        if not (np.isfinite(T_object_camera).all() and np.linalg.norm(camera) > 0):
            return Added.REFUSED
        self._number += 1
        view = _View(-1, self._number, tuple(camera.tolist()), certified, score)
        near = self._apart(camera) < 1.0
        same = [v for v, n in zip(self._views, near, strict=True) if n]
        if any(v.rank() > view.rank() for v in same):
            return Added.REFUSED
        self._views = [v for v, n in zip(self._views, near, strict=True) if not n]
        if len(self._views) == self._settings.max_views:
            crowded = self._most_crowded(view)
            if crowded is view:
                return Added.REFUSED
            self._views.remove(crowded)
        slot = min(set(range(self._settings.max_views)) - {v.slot for v in self._views})
        self._views.append(view._replace(slot=slot))
        valid = usable(points, valid)
        chosen = evenly_chosen(valid[None], self._settings.points_per_view)[0]
        self._points[slot] = torch.where(valid[chosen, None], points[chosen], 0.0)
        self._valid[slot] = valid[chosen]
        self._poses[slot] = torch.from_numpy(T_object_camera).to(self._poses)
        return Added.BETTER if same else Added.NEW

    def pooled(self) -> PooledViews:
        """The points of all views in the object frame: Z* of Remark 3."""
        slots = self._slots()
        points = transform(self._poses[slots], self._points[slots])
        valid = self._valid[slots]
        scores = points.new_tensor([view.score for view in self._views])
        share = scores / valid.sum(-1).clamp_min(1)
        weights = torch.where(valid, share[:, None], 0.0)
        return PooledViews(points.flatten(0, 1), valid.flatten(), weights.flatten())

    def pose_anew(
        self, decoder: ShapeDecoder, code: Tensor, pose: SecondOrderSettings | None = None
    ) -> int:
        """Fits the pose of every view to a shape, all in one batch, from where it was posed.

        A view that then still does not lie on the shape is dropped: it was posed for a shape whose
        frame has nothing to do with this one, or shows another object.

        Args:
            decoder: f_d.
            code: (C,) of the shape.
            pose: settings of the solver.

        Returns:
            Number of views that were dropped.
        """
        if not self._views:
            return 0
        slots = self._slots()
        points, valid = self._points[slots], self._valid[slots]
        step = refine(
            decoder,
            points,
            transform(self._poses[slots], points),
            valid.to(points.dtype),
            valid,
            code.expand(len(slots), -1),
            self._poses[slots],
            pose,
        )
        self._poses[slots] = step.T_object_camera
        sdf = decoder.sdf(transform(step.T_object_camera, points), code)
        far = ((sdf.abs() > self._settings.outlier_m) & valid).sum(-1) > 0.1 * valid.sum(-1)
        dropped = far.tolist()
        self._views = [view for view, out in zip(self._views, dropped, strict=True) if not out]
        return sum(dropped)

    def clear(self) -> None:
        """Forgets all views; the memory stays."""
        self._views.clear()

    def _slots(self) -> Tensor:
        slots = [view.slot for view in self._views]
        return torch.tensor(slots, dtype=torch.long, device=self._points.device)

    def _apart(self, camera: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far (V,) a viewpoint is from those kept; below one it is the same."""
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
    """How far viewpoints lie apart, (A, B): the angle of their rays over `angle_rad`, or the log of
    the ratio of their distances over that of `ratio`, whichever is larger.

    Args:
        a, b: (A, 3) and (B, 3) positions of cameras about the object's middle, not zero.
    """
    near, far = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    rays = (a / near[:, None])[:, None], (b / far[:, None])[None]
    # Exact for small angles too, unlike the arc cosine.
    sine, cosine = np.linalg.norm(np.cross(*rays), axis=-1), (rays[0] * rays[1]).sum(-1)
    angles = np.arctan2(sine, cosine)
    logs = np.abs(np.log(near[:, None] / far))
    return np.maximum(angles / angle_rad, logs / math.log(ratio))


def stacked(views: Sequence[PooledViews]) -> PooledViews:
    """The pooled views of B objects as one batch: (B, M, 3), (B, M), (B, M), filled up."""
    most = max(len(v.points) for v in views)

    def filled(rows: Sequence[Tensor]) -> Tensor:
        batch = rows[0].new_zeros(len(rows), most, *rows[0].shape[1:])
        for row, values in zip(batch, rows, strict=True):
            row[: len(values)] = values
        return batch

    return PooledViews(*(filled(rows) for rows in zip(*views, strict=True)))
