"""The depth points behind a frame's estimates, which the shape from many views needs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Trace


class DepthPoints(NamedTuple):
    """Depth points of B objects of one frame, on the estimator's device.

    labels: of the objects. points: (B, N, 3) camera frame, metres. valid: (B, N) bool.
    coordinates: (B, N, 3) the network's, object frame, metres. weights: (B, N) of these, zero for
    outliers. T_object_camera: (B, 4, 4) the estimated poses. registered: (B,) bool, the network's
    coordinates agreed on a pose. frame: the images, for the
    conditions of free space and silhouette; None leaves these out.
    """

    labels: tuple[int, ...]
    points: Tensor
    valid: Tensor
    coordinates: Tensor
    weights: Tensor
    T_object_camera: Tensor
    registered: Tensor
    frame: Frame | None


def depth_points(trace: Trace, frame: Frame | None = None) -> DepthPoints | None:
    """The depth points that `Estimator.trace` used; None where it estimated nothing.

    Args:
        trace: of the frame.
        frame: the same frame.
    """
    parts = [s.observations for s in trace.solutions]
    if not parts:
        return None
    return DepthPoints(
        tuple(label for part in parts for label in part.labels.tolist()),
        torch.cat([part.points for part in parts]),
        torch.cat([part.valid for part in parts]),
        torch.cat([s.correspondences.pnc for s in trace.solutions]),
        torch.cat([s.correspondences.weights for s in trace.solutions]),
        torch.cat([s.correction.T_object_camera for s in trace.solutions]),
        torch.cat([s.registration.converged for s in trace.solutions]),
        frame,
    )
