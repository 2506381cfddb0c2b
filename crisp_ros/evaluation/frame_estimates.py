"""Estimates of one image of a data set, with reconstructed surfaces and the time they took."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from crisp_ros.observation.frame import Frame, RecordedImages

if TYPE_CHECKING:
    from crisp_ros.geometry.isosurface import TriangleMesh
    from crisp_ros.pipeline import FrameEstimate, ObjectEstimate


class FrameEstimator(Protocol):
    """Anything that estimates a frame as `crisp_ros.pipeline.Estimator` does."""

    def estimate(self, frame: Frame) -> FrameEstimate:
        """Estimate the objects of one frame, each under its label."""

    def meshes(self, estimates: Sequence[ObjectEstimate]) -> list[TriangleMesh]:
        """Reconstruct the surfaces of estimates in their object frames, metres."""


class Estimated(NamedTuple):
    """One estimated object of one image.

    Attributes:
        rgb: (H, W, 3) uint8, the image.
        labels: (H, W) of the image.
        intrinsics: (3, 3) px.
        label: of the object.
        T_camera_object: (4, 4) metres.
        mesh: the reconstructed surface, object frame, metres; no faces where there is none.
        certified: the estimate has a certificate.
        score: in [0, 1].
        orientation_certified: the certificate covers the orientation too.
        orientation_reason: why it does not.
        shape_source: see `ObjectEstimate`.
        depth_scale: see `ObjectEstimate`.
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.int32]
    intrinsics: NDArray[np.float64]
    label: int
    T_camera_object: NDArray[np.float64]
    mesh: TriangleMesh
    certified: bool
    score: float
    orientation_certified: bool = False
    orientation_reason: str = ""
    shape_source: str = ""
    depth_scale: float = math.nan


class FrameEstimates(NamedTuple):
    """The estimates of one image.

    Attributes:
        found: by label.
        rejected: the reason by label, where there is no estimate.
        seconds: time of the estimation without the surfaces.
    """

    found: dict[int, Estimated]
    rejected: dict[int, str]
    seconds: float

    def missed(self, label: int) -> str:
        """The reason why a label has no estimate; "" where it has one."""
        return "" if label in self.found else self.rejected.get(label, "no pixel of its mask")


def estimate_frame(estimator: FrameEstimator, images: RecordedImages) -> FrameEstimates:
    """Estimate all labelled objects of an image and reconstruct their surfaces."""
    frame = Frame.from_recorded(images)
    start = time.perf_counter()
    estimate = estimator.estimate(frame)
    seconds = time.perf_counter() - start
    found = {
        e.label: Estimated(
            images.rgb,
            images.labels,
            images.intrinsics,
            e.label,
            e.T_camera_object,
            mesh,
            bool(e.certified),
            e.score,
            bool(e.orientation_certified),
            e.orientation_reason,
            e.shape_source,
            e.depth_scale,
        )
        for e, mesh in zip(estimate.objects, estimator.meshes(estimate.objects), strict=True)
    }
    return FrameEstimates(found, dict(estimate.rejected), seconds)
