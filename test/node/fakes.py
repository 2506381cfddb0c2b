"""Estimates and an estimator whose answers a test can foretell."""

from __future__ import annotations

import time

import numpy as np
import trimesh

from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.objects import Rejected
from crisp_ros.pipeline import EstimatorSettings, FrameEstimate, ObjectEstimate

HALF_EDGES = np.array([0.03, 0.04, 0.05])
WITHHELD_FROM = 100  # labels from here on get no certificate
CODE_LENGTH = 8
REASON = "q98 13 mm > 10 mm"


def estimate(
    label: int,
    T_camera_object: np.ndarray,
    certified: bool = True,
    residual_m: float | None = None,
    code: np.ndarray | None = None,
) -> ObjectEstimate:
    """An estimate of a box."""
    if residual_m is None:
        residual_m = 0.004 if certified else 0.013
    return ObjectEstimate(
        label=label,
        T_camera_object=T_camera_object,
        code=np.full(CODE_LENGTH, label, np.float32) if code is None else code,
        certified=certified,
        residual_m=residual_m,
        quantile=0.98,
        threshold_m=0.01,
        score=0.86 if certified else 0.3,
        reason="" if certified else REASON,
        inlier_share=0.9,
        n_points=100,
        lower=-HALF_EDGES,
        upper=HALF_EDGES,
    )


class FakeEstimator:
    """Puts a box, axes along the camera's, at each label's mean depth point.

    The red value of the image's first pixel goes into the shape codes, so that a publisher can
    change the shapes. A frame whose first pixel is (0, 0, 1) makes it fail.
    """

    model_version = "fake-1"

    def __init__(self) -> None:
        self.settings = EstimatorSettings()
        self.meshes_made = 0

    def warm_up(self) -> None:
        """Nothing to warm up."""

    def estimate(self, frame: Frame) -> FrameEstimate:
        """See the class."""
        start = time.perf_counter()
        red, _, blue = frame.rgb[0, 0].tolist()
        if blue == 1:
            raise RuntimeError("the fake fails when asked to")
        objects, rejected = [], []
        for label in np.unique(frame.labels[frame.labels > 0]).tolist():
            v, u = np.nonzero((frame.labels == label) & (frame.depth > 0))
            if len(u) < 30:
                pixels = np.count_nonzero(frame.labels == label)
                rejected.append(Rejected(label, f"depth on {len(u)} of {pixels} px, needs 30"))
                continue
            z = frame.depth[v, u]
            camera = frame.camera
            T = np.eye(4)
            T[:3, 3] = (
                np.mean((u - camera.cx) / camera.fx * z),
                np.mean((v - camera.cy) / camera.fy * z),
                np.mean(z),
            )
            code = np.full(CODE_LENGTH, label + red, np.float32)
            objects.append(estimate(label, T, certified=label < WITHHELD_FROM, code=code))
        stages = {"network": 1e3 * (time.perf_counter() - start)}
        return FrameEstimate(tuple(objects), tuple(rejected), stages, self.model_version)

    def meshes(self, estimates: list[ObjectEstimate]) -> list[TriangleMesh]:
        """Boxes of the estimates' sizes."""
        self.meshes_made += len(estimates)
        box = trimesh.creation.box(2 * HALF_EDGES)
        vertices, faces = box.vertices.astype(np.float32), box.faces.astype(np.int32)
        return [TriangleMesh(vertices, faces) for _ in estimates]
