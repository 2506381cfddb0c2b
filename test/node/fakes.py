"""Estimates and an estimator with known results."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import trimesh

from crisp_ros.correction.prepared_library import PreparedLibrary
from crisp_ros.correction.shape_field import DecoderField
from crisp_ros.geometry.isosurface import TriangleMesh
from crisp_ros.network.decoder import SignedDistance
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.observation.frame import Frame
from crisp_ros.observation.observe import Rejected
from crisp_ros.pipeline import EstimatorSettings, FrameEstimate, ObjectEstimate, Trace
from crisp_ros.pipeline.added_shapes import ExpectedObject
from crisp_ros.tracking.track import TrackedObject, TrackState

HALF_EDGES = np.array([0.03, 0.04, 0.05])
OFF_CENTRE = 50  # label of an object whose frame's origin is not the middle of its box
OFFSET = np.array([0.02, -0.01, 0.015])  # of that box
SYMMETRIC = 60  # label of an object that is symmetric under 180 degrees about its z axis
AMBIGUOUS = 70  # label of an object whose orientation is not certified
WITHHELD_FROM = 100  # labels from here on get no certificate
CODE_LENGTH = 8
REASON = "q98 13 mm > 10 mm"
LOOK_ALIKE = "two orientations 180 degrees apart look alike"


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
    offset = OFFSET if label == OFF_CENTRE else np.zeros(3)
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
        lower=offset - HALF_EDGES,
        upper=offset + HALF_EDGES,
        shape_index=0 if label == SYMMETRIC else -1,
        orientation_certified=certified and label != AMBIGUOUS,
        orientation_reason=LOOK_ALIKE if label == AMBIGUOUS else "",
    )


def tracked(
    id: str, found: ObjectEstimate, version: int = 1, seen: bool = True, class_name: str = ""
) -> TrackedObject:
    """Return an estimate as a tracker reports it."""
    state = TrackState.VISIBLE if seen else TrackState.HIDDEN
    T = found.T_camera_object
    return TrackedObject(
        id, state, seen, found, T, found, version, 1, False, math.nan, class_name, 0.0, 0.0, 1
    )


class FakeDecoder:
    """Spheres, as large as their codes say."""

    def sdf(self, points: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """(..., N) of points (..., N, 3) and codes (..., C)."""
        return torch.linalg.norm(points, dim=-1) - 1e-3 * codes[..., None, 0]

    def sdf_and_gradient(self, points: torch.Tensor, codes: torch.Tensor) -> SignedDistance:
        """Signed distances and their gradients."""
        out = torch.nn.functional.normalize(points, dim=-1)
        return SignedDistance(self.sdf(points, codes), out)


def half_rotation() -> np.ndarray:
    """Rotation (4, 4) by 180 degrees about z."""
    return np.diag([-1.0, -1.0, 1.0, 1.0])


class FakeEstimator:
    """Estimator that puts a box, aligned with the camera, around each label's mean depth point.

    The red value of the image's first pixel goes into the shape codes, so that a publisher can
    change the shapes; where the green one is odd, the symmetric object is turned by half a turn. A
    frame whose first pixel is (0, 0, 1) makes it fail, with (0, 0, 2) it takes until it is stopped.
    """

    model_version = "fake-1"
    remembers = False
    prior_model = prior_field = None
    prior_version = ""
    search_status = None
    device = torch.device("cpu")
    decoder = FakeDecoder()
    field = DecoderField(decoder)
    library = ShapeLibrary(
        ("can",),
        torch.full((1, CODE_LENGTH), float(SYMMETRIC)),
        -torch.from_numpy(HALF_EDGES).float()[None],
        torch.from_numpy(HALF_EDGES).float()[None],
        (torch.from_numpy(np.stack([np.eye(4), half_rotation()])).float(),),
    )

    def __init__(self) -> None:
        self.settings = EstimatorSettings()
        self.prepared_library = PreparedLibrary(self.field, self.library)
        self.meshes_made = 0

    def warm_up(self, on_progress: Callable[[str, int, int], None]) -> None:
        """Nothing to warm up."""

    def forget(self) -> None:
        """Nothing is remembered."""

    def stop_searches(self) -> None:
        """Nothing is searched."""

    def trace(
        self,
        frame: Frame,
        stopped: Callable[[], bool] = lambda: False,
        T_fixed_camera: np.ndarray | None = None,
        expected: Sequence[ExpectedObject] = (),
    ) -> Trace:
        """See the class."""
        start = time.perf_counter()
        red, green, blue = frame.rgb[0, 0].tolist()
        if blue == 1:
            raise RuntimeError("the fake fails when asked to")
        while blue == 2 and not stopped():
            time.sleep(0.01)
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
            if label == OFF_CENTRE:
                T[:3, 3] -= OFFSET
            if label == SYMMETRIC and green % 2:
                T = T @ half_rotation()
            code = np.full(CODE_LENGTH, label + red, np.float32)
            objects.append(estimate(label, T, certified=label < WITHHELD_FROM, code=code))
        stages = {"network": 1e3 * (time.perf_counter() - start)}
        found = FrameEstimate(tuple(objects), tuple(rejected), stages, self.model_version)
        return Trace(found, ())

    def meshes(self, estimates: list[ObjectEstimate], grown_m: float = 0.0) -> list[TriangleMesh]:
        """Boxes of the sizes of the estimates."""
        self.meshes_made += len(estimates)
        bounds = [np.stack([e.lower - grown_m, e.upper + grown_m]) for e in estimates]
        boxes = [trimesh.creation.box(bounds=b) for b in bounds]
        return [
            TriangleMesh(box.vertices.astype(np.float32), box.faces.astype(np.int32))
            for box in boxes
        ]
