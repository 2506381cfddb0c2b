"""Input of every solver: depth points with object coordinates, and the shapes of objects."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import subsample, take_rows
from crisp_ros.geometry.cuda_graphs import run_captured
from crisp_ros.geometry.se3 import transform


class Correspondences(NamedTuple):
    """Depth points of B objects and the network's object coordinates of the same points.

    Attributes:
        points: (B, N, 3) depth points X, camera frame, metres.
        pnc: (B, N, 3) pose-normalised coordinates Z of these points, object frame, metres.
        weights: (B, N) of the coordinates, not negative, zero for outliers.
        valid: (B, N) bool, depth points that count.
    """

    points: Tensor
    pnc: Tensor
    weights: Tensor
    valid: Tensor

    @classmethod
    def of_points(cls, points: Tensor, valid: Tensor) -> Correspondences:
        """Points (B, N, 3) without object coordinates: these have no weight."""
        return cls(points, points, torch.zeros_like(points[..., 0]), valid)

    def rows(self, which: Tensor | slice) -> Correspondences:
        """Some of the objects, by index, mask or slice."""
        return take_rows(self, which)

    def repeated(self, count: int) -> Correspondences:
        """Each object `count` times in a row, (B * count, N, ...)."""
        return Correspondences(
            *(p[:, None].expand(-1, count, *p.shape[1:]).flatten(0, 1) for p in self)
        )

    def subsample(self, count: int) -> Correspondences:
        """At most `count` points of each object, evenly spaced among its valid ones."""
        return subsample(self, self.valid, count)

    def sanitized(self) -> Correspondences:
        """The same without anything that is not finite.

        Points that are not finite are not valid and become zero; coordinates that are not finite,
        or whose point is not valid, get no weight and become zero where they have none.
        """
        valid = finite_and_valid(self.points, self.valid)
        points = torch.where(valid[..., None], self.points, 0.0)
        weights = torch.where(finite_and_valid(self.pnc, valid), self.weights, 0.0)
        pnc = torch.where((weights > 0)[..., None], self.pnc, 0.0)
        return Correspondences(points, pnc, weights, valid)

    def aligned_to(self, T_object_camera: Tensor) -> Correspondences:
        """The same with coordinates that agree with poses (B, 4, 4): z = R x + t of Lemma 5."""
        pnc = transform(T_object_camera, self.points)
        return self._replace(pnc=pnc, weights=self.valid.to(pnc.dtype))

    @property
    def size_ratios(self) -> Tensor:
        """Sizes (B,) by depth over sizes by the coordinates, of the objects; NaN if not known.

        Medians of the distances between points over those between their coordinates, of points in
        scan order: pairs a third of them apart belong to different parts of the object.
        """
        return run_captured(_size_ratios, (), self.points, self.pnc, self.valid)[0]


def _size_ratios(points: Tensor, pnc: Tensor, valid: Tensor) -> tuple[Tensor]:
    shift = points.shape[1] // 3

    def spans(values: Tensor) -> Tensor:
        return torch.linalg.norm(values - values.roll(shift, 1), dim=-1)

    pairs = valid & valid.roll(shift, 1)
    ratios = spans(points) / spans(pnc).clamp_min(1e-6)
    return (torch.where(pairs, ratios, torch.nan).nanmedian(-1).values,)


class Shapes(NamedTuple):
    """Shapes by their codes, with what is known of them; leading dimensions are free.

    Attributes:
        codes: (..., C) shape codes h.
        lower: (..., 3) lower corner of the shape's box, object frame, metres; NaN if not known.
        upper: (..., 3) upper corner.
        index: (...,) long, row in the shape library; -1 where the shape is not one of the library.
    """

    codes: Tensor
    lower: Tensor
    upper: Tensor
    index: Tensor

    @classmethod
    def of_codes(cls, codes: Tensor) -> Shapes:
        """Shapes outside the library, with unknown boxes, of codes (..., C)."""
        corner = codes.new_full((*codes.shape[:-1], 3), torch.nan)
        outside = torch.full(codes.shape[:-1], -1, dtype=torch.long, device=codes.device)
        return cls(codes, corner, corner, outside)

    def rows(self, which: Tensor | slice) -> Shapes:
        """Some of the shapes, by index, mask or slice of the first dimension."""
        return take_rows(self, which)

    def repeated(self, count: int) -> Shapes:
        """Each shape `count` times in a row, (B * count, ...)."""
        return Shapes(*(part.repeat_interleave(count, dim=0) for part in self))

    def unsqueeze(self, dim: int) -> Shapes:
        """The shapes with a leading dimension more, at position `dim`."""
        return Shapes(*(part.unsqueeze(dim) for part in self))

    @property
    def diameters(self) -> Tensor:
        """Diagonals (...,) of the boxes, metres; NaN if not known."""
        return torch.linalg.norm(self.upper - self.lower, dim=-1)


class ObjectPoints(NamedTuple):
    """Points on the surfaces of B objects in their own frames, of one view or of several.

    Attributes:
        points: (B, N, 3) object frame, metres.
        weights: (B, N) not negative; zero for points that do not count.
    """

    points: Tensor
    weights: Tensor

    @classmethod
    def of(cls, points: Tensor, valid: Tensor) -> ObjectPoints:
        """Points (B, N, 3) of which the valid ones (B, N) count the same."""
        return cls(points, valid.to(points.dtype))

    @property
    def valid(self) -> Tensor:
        """Mask of the points with positive weight, (B, N) bool."""
        return self.weights > 0

    def subsample(self, count: int) -> ObjectPoints:
        """At most `count` points of each object, evenly spaced among its valid ones."""
        return subsample(self, self.valid, count)

    def sanitized(self) -> ObjectPoints:
        """The same with zeros for points that are not finite or have no weight."""
        valid = finite_and_valid(self.points, self.valid)
        return ObjectPoints(
            torch.where(valid[..., None], self.points, 0.0),
            torch.where(valid, self.weights, 0.0),
        )


def finite_and_valid(points: Tensor, valid: Tensor) -> Tensor:
    """Return which points (B, N) are valid and finite."""
    return valid & torch.isfinite(points).all(-1)
