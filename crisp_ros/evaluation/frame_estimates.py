"""Running what is evaluated on the images of a data set."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from crisp_ros.observation.frame import Camera, Frame

if TYPE_CHECKING:
    from crisp_ros.geometry.isosurface import TriangleMesh
    from crisp_ros.pipeline import FrameEstimate, ObjectEstimate


@dataclass(frozen=True)
class SampledEvaluationSettings:
    """How errors are measured on a data set's images.

    Attributes:
        samples: points drawn on the true and on the reconstructed surface.
        every: of the images only each so-manieth is taken; 1 takes all.
        seed: of the drawn points.
    """

    samples: int = 2_500
    every: int = 1
    seed: int = 0


class FrameEstimator(Protocol):
    """What is evaluated: anything that answers a frame as `crisp_ros.pipeline.Estimator` does."""

    def estimate(self, frame: Frame) -> FrameEstimate:
        """Estimates the objects of one frame, each under its label."""

    def meshes(self, estimates: Sequence[ObjectEstimate]) -> list[TriangleMesh]:
        """Surfaces of estimates in their object frames, metres."""


class Estimated(NamedTuple):
    """One object of one frame.

    rgb, labels, intrinsics: of the frame. label: of the object. T_camera_object: (4, 4) metres.
    mesh: the reconstructed surface, object frame, metres; without faces where there is none.
    score: in [0, 1].
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.int32]
    intrinsics: NDArray[np.float64]
    label: int
    T_camera_object: NDArray[np.float64]
    mesh: TriangleMesh
    certified: bool
    score: float


class FrameEstimates(NamedTuple):
    """What was found in a frame.

    found: the estimates by label. rejected: why there is none, by label. seconds: that the
    estimates took without their meshes.
    """

    found: dict[int, Estimated]
    rejected: dict[int, str]
    seconds: float

    def missed(self, label: int) -> str:
        """Why there is no estimate of this label; "" where there is one."""
        return "" if label in self.found else self.rejected.get(label, "no pixel of its mask")


def estimate_frame(
    estimator: FrameEstimator,
    rgb: NDArray[np.uint8],
    depth: NDArray[np.float32],
    labels: NDArray[np.int32],
    intrinsics: NDArray[np.float64],
) -> FrameEstimates:
    """The estimates of a frame's labels."""
    height, width = depth.shape
    frame = Frame(rgb, depth, labels, Camera.from_matrix(intrinsics, width, height))
    start = time.perf_counter()
    estimate = estimator.estimate(frame)
    seconds = time.perf_counter() - start
    found = {
        e.label: Estimated(
            rgb, labels, intrinsics, e.label, e.T_camera_object, mesh, bool(e.certified), e.score
        )
        for e, mesh in zip(estimate.objects, estimator.meshes(estimate.objects), strict=True)
    }
    return FrameEstimates(found, dict(estimate.rejected), seconds)
