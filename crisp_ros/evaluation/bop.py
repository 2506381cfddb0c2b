"""Pose and shape errors of an estimator on a BOP data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.data.bop import BopDataset, BopFrame, BopInstance, DatasetError
from crisp_ros.data.meshes import surface_samples
from crisp_ros.evaluation.metrics import (
    CHAMFER_SAMPLES,
    add,
    add_s,
    auc,
    rotation_error,
    shape_error,
    translation_error,
)
from crisp_ros.observation.frame import Camera, Frame

if TYPE_CHECKING:
    from crisp_ros.geometry.isosurface import TriangleMesh
    from crisp_ros.pipeline import FrameEstimate, ObjectEstimate

ADD_S_THRESHOLDS_M = {"1cm": 0.01, "2cm": 0.02, "3cm": 0.03}
SHAPE_THRESHOLDS_M = {"3cm": 0.03, "5cm": 0.05, "10cm": 0.10}


class FrameEstimator(Protocol):
    """What is evaluated: anything that answers a frame as `crisp_ros.pipeline.Estimator` does."""

    def estimate(self, frame: Frame) -> FrameEstimate:
        """Estimates the objects of one frame, each under its label."""

    def meshes(self, estimates: Sequence[ObjectEstimate]) -> list[TriangleMesh]:
        """Surfaces of estimates in their object frames, metres."""


@dataclass(frozen=True)
class BopEvaluationSettings:
    """How errors are measured.

    Attributes:
        model_points: points drawn on each true model for ADD and ADD-S.
        chamfer_samples: points drawn on each of two surfaces for the shape error.
        min_visible_share: instances that the data set states to be less visible are left out.
        seed: of the drawn points.
    """

    model_points: int = 5_000
    chamfer_samples: int = CHAMFER_SAMPLES
    min_visible_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class InstanceErrors:
    """Errors of one annotated instance; infinite where nothing was estimated.

    Attributes:
        add_s_m, add_m: metres.
        rotation_error_rad: smallest over the symmetries that the data set states.
        translation_error_m: metres.
        chamfer_m: between reconstructed and true surface in the object frame, metres.
        certified: the estimator vouches for its estimate.
        baseline_add_s_m: ADD-S of the object at the centroid of its depth, not rotated.
    """

    scene: int
    image: int
    obj_id: int
    baseline_add_s_m: float
    add_s_m: float = math.inf
    add_m: float = math.inf
    rotation_error_rad: float = math.inf
    translation_error_m: float = math.inf
    chamfer_m: float = math.inf
    certified: bool = False

    def to_json(self) -> dict[str, Any]:
        """JSON fields; a missed instance has null errors."""
        return {
            "scene": self.scene,
            "image": self.image,
            "obj_id": self.obj_id,
            "add_s_m": _finite(self.add_s_m),
            "add_m": _finite(self.add_m),
            "rotation_error_deg": _finite(math.degrees(self.rotation_error_rad)),
            "translation_error_m": _finite(self.translation_error_m),
            "chamfer_m": _finite(self.chamfer_m),
            "certified": self.certified,
        }


@dataclass(frozen=True)
class BopEvaluation:
    """Errors on a whole data set; `config` states what was run on what."""

    instances: tuple[InstanceErrors, ...]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def auc_add_s(self) -> dict[str, float]:
        """Area under the ADD-S accuracy curve, 0 to 1, by threshold."""
        return _areas([i.add_s_m for i in self.instances], ADD_S_THRESHOLDS_M)

    @property
    def auc_e_shape(self) -> dict[str, float]:
        """Area under the Chamfer accuracy curve, 0 to 1, by threshold."""
        return _areas([i.chamfer_m for i in self.instances], SHAPE_THRESHOLDS_M)

    @property
    def baseline_auc_add_s(self) -> dict[str, float]:
        """`auc_add_s` of the depth centroid with the identity rotation."""
        return _areas([i.baseline_add_s_m for i in self.instances], ADD_S_THRESHOLDS_M)

    @property
    def certified_share(self) -> float:
        """Certified estimates over all instances."""
        return float(np.mean([i.certified for i in self.instances]))

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "instances": [instance.to_json() for instance in self.instances],
            "auc_add_s": self.auc_add_s,
            "auc_e_shape": self.auc_e_shape,
            "baseline_auc_add_s": self.baseline_auc_add_s,
            "certified_share": self.certified_share,
            "config": dict(self.config),
        }


class _TrueModel(NamedTuple):
    mesh: trimesh.Trimesh
    points: NDArray[np.float64]
    symmetries: NDArray[np.float64]


def evaluate_bop(
    estimator: FrameEstimator,
    dataset: BopDataset,
    settings: BopEvaluationSettings | None = None,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> BopEvaluation:
    """Runs an estimator over a data set and measures every annotated instance.

    Estimates belong to the instance whose label they carry; the estimator learns neither object
    ids nor poses. True and reconstructed shapes are compared in the frame of the true model.

    Args:
        on_frame: called after each image with the number done and the total.

    Raises:
        DatasetError: no instance to measure, or a model or an image is missing.
    """
    settings = settings or BopEvaluationSettings()
    models: dict[int, _TrueModel] = {}
    measured: list[InstanceErrors] = []
    for done, frame in enumerate(dataset.frames(), start=1):
        height, width = frame.depth.shape
        camera = Camera.from_matrix(frame.intrinsics, width, height)
        result = estimator.estimate(Frame(frame.rgb, frame.depth, frame.labels, camera))
        meshes = estimator.meshes(result.objects)
        found = {e.label: (e, m) for e, m in zip(result.objects, meshes, strict=True)}
        for instance in frame.instances:
            share = instance.visible_share
            if share is not None and share < settings.min_visible_share:
                continue
            if instance.obj_id not in models:
                models[instance.obj_id] = _true_model(dataset, instance.obj_id, settings)
            truth = models[instance.obj_id]
            baseline = _baseline_add_s(frame, instance, truth)
            identity = (frame.scene_id, frame.image_id, instance.obj_id, baseline)
            if instance.label in found:
                errors = _errors(instance, truth, *found[instance.label], settings)
                measured.append(InstanceErrors(*identity, **errors))
            else:
                measured.append(InstanceErrors(*identity))
        on_frame(done, len(dataset.images))
    if not measured:
        raise DatasetError(f"{dataset.folder}: no annotated instance to measure in its images")
    return BopEvaluation(
        tuple(measured),
        {"dataset": str(dataset.folder), "split": dataset.split, "evaluation": asdict(settings)},
    )


def _errors(
    instance: BopInstance,
    truth: _TrueModel,
    estimate: ObjectEstimate,
    mesh: TriangleMesh,
    settings: BopEvaluationSettings,
) -> dict[str, Any]:
    T_estimate, T_truth = estimate.T_camera_object, instance.T_camera_object
    chamfer_m = math.inf
    if len(mesh.faces) > 0:
        surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        rng = np.random.default_rng(settings.seed)
        chamfer_m = shape_error(surface, truth.mesh, rng, settings.chamfer_samples)
    return {
        "add_s_m": add_s(truth.points, T_estimate, T_truth),
        "add_m": float(add(truth.points, T_estimate, T_truth)),
        "rotation_error_rad": float(
            rotation_error(T_estimate[:3, :3], T_truth[:3, :3], truth.symmetries)
        ),
        "translation_error_m": float(translation_error(T_estimate[:3, 3], T_truth[:3, 3])),
        "chamfer_m": chamfer_m,
        "certified": bool(estimate.certified),
    }


def _true_model(dataset: BopDataset, obj_id: int, settings: BopEvaluationSettings) -> _TrueModel:
    if obj_id not in dataset.models:
        raise DatasetError(
            f"{dataset.folder / 'models' / 'models_info.json'}: no model {obj_id},"
            " but an image shows it"
        )
    model = dataset.models[obj_id]
    rng = np.random.default_rng(settings.seed)
    points = surface_samples(model.mesh, settings.model_points, rng).points
    return _TrueModel(model.mesh, points, model.symmetries()[:, :3, :3])


def _baseline_add_s(frame: BopFrame, instance: BopInstance, truth: _TrueModel) -> float:
    v, u = np.nonzero((frame.labels == instance.label) & (frame.depth > 0.0))
    if len(u) == 0:
        return math.inf
    pixels = np.stack([u, v, np.ones_like(u)], axis=1)
    rays = pixels @ np.linalg.inv(frame.intrinsics).T
    T_baseline = np.eye(4)
    T_baseline[:3, 3] = (frame.depth[v, u, None] * rays).mean(axis=0)
    return add_s(truth.points, T_baseline, instance.T_camera_object)


def _areas(errors: Sequence[float], thresholds: Mapping[str, float]) -> dict[str, float]:
    return {name: auc(errors, threshold) for name, threshold in thresholds.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
