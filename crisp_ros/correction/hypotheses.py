"""Hypotheses of pose and shape, with the measurements by which they are judged."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.correction.batch import take_rows
from crisp_ros.correction.correspondences import Correspondences, Shapes


class Hypotheses(NamedTuple):
    """Pose and shape of B objects, and what was measured of them.

    Attributes:
        correspondences: depth points, with the network's coordinates for them.
        T_object_camera: (B, 4, 4) the poses.
        shapes: (B,) the shapes, with boxes.
        labels: (B,) of the objects in the label image.
        T_registered: (B, 4, 4) the poses from the coordinates alone, where other shapes start.
        inlier_share: (B,) of the points that agree with that pose; zero where there is no pose.
    """

    correspondences: Correspondences
    T_object_camera: Tensor
    shapes: Shapes
    labels: Tensor
    T_registered: Tensor
    inlier_share: Tensor

    @classmethod
    def of_points(cls, points: Tensor, valid: Tensor, shapes: Shapes) -> Hypotheses:
        """Hypotheses for points (B, N, 3) that are given in the object frames already."""
        still = torch.eye(4, dtype=points.dtype, device=points.device).expand(len(points), 4, 4)
        correspondences = Correspondences(points, points, valid.to(points.dtype), valid)
        labels = torch.zeros(len(points), dtype=torch.long, device=points.device)
        share = torch.ones(len(points), dtype=points.dtype, device=points.device)
        return cls(correspondences, still, shapes, labels, still, share)

    def rows(self, which: Tensor | slice) -> Hypotheses:
        """Some of the objects, by index, mask or slice."""
        return take_rows(self, which)
