"""Pose and shape errors of an estimator on a BOP data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.cluster import MapFunction
from crisp_ros.data.bop import BopDataset, BopFrame, BopImage, BopInstance, DatasetError
from crisp_ros.data.meshes import surface_samples
from crisp_ros.evaluation.bop_csv import BopResult
from crisp_ros.evaluation.bop_metrics import (
    SYMMETRY_STEPS,
    PoseError,
    average_recall,
    mspd,
    mssd,
)
from crisp_ros.evaluation.bop_results import BopResults
from crisp_ros.evaluation.chamfers import one_sided_normalised_chamfer
from crisp_ros.evaluation.frame_estimates import (
    Estimated,
    FrameEstimates,
    FrameEstimator,
    estimate_frame,
)
from crisp_ros.evaluation.metrics import (
    ADD_S_POINTS,
    CHAMFER_SAMPLES,
    add,
    add_s,
    auc,
    chamfer,
    rotation_error,
    translation_error,
)
from crisp_ros.evaluation.visible_surface_discrepancy import VisibleSurfaces

if TYPE_CHECKING:
    from crisp_ros.geometry.isosurface import TriangleMesh

ADD_S_THRESHOLDS_M = {"1cm": 0.01, "2cm": 0.02, "3cm": 0.03}
SHAPE_THRESHOLDS_M = {"3cm": 0.03, "5cm": 0.05, "10cm": 0.10}


@dataclass(frozen=True)
class BopEvaluationSettings:
    """How errors are measured.

    Attributes:
        model_points: points drawn on each true model for ADD and ADD-S.
        chamfer_samples: points drawn on each of two surfaces for the shape error.
        min_visible_share: instances that the data set states to be less visible are left out.
        seed: of the drawn points.
        vsd: the visible surface discrepancy is measured, too, which takes renders of each instance.
    """

    model_points: int = ADD_S_POINTS
    chamfer_samples: int = CHAMFER_SAMPLES
    min_visible_share: float = 0.1
    seed: int = 0
    vsd: bool = False


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
        one_sided_chamfer: see `one_sided_normalised_chamfer`, in diameters.
        bop: the errors of the BOP benchmark.
        result: the estimate, None where there is none.
        missed: why nothing was estimated, "" where something was.
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
    one_sided_chamfer: float = math.inf
    bop: PoseError | None = None
    result: BopResult | None = None
    missed: str = ""

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
    def auc_one_sided(self) -> dict[str, float]:
        """As `auc_e_shape`, of the one-sided Chamfer distance; "cm" are hundredths of a diameter,
        as in the authors' code."""
        return _areas([i.one_sided_chamfer for i in self.instances], SHAPE_THRESHOLDS_M)

    @property
    def average_recall(self) -> dict[str, float]:
        """Of the BOP benchmark, 0 to 1: mssd, mspd, and vsd where it was asked for."""
        return average_recall([i.bop for i in self.instances if i.bop is not None])

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
    """points: (N, 3) drawn on its mesh, metres. rotations: (S, 3, 3) of its symmetries, by whole
    degrees. symmetries: (S, 4, 4), in the steps of the BOP benchmark."""

    mesh: trimesh.Trimesh
    points: NDArray[np.float64]
    rotations: NDArray[np.float64]
    symmetries: NDArray[np.float64]
    diameter_m: float


class _Measure:
    """What is found in an image, and its errors."""

    def __init__(
        self,
        estimator: FrameEstimator | BopResults,
        dataset: BopDataset,
        settings: BopEvaluationSettings,
    ) -> None:
        self._estimator, self._dataset, self._settings = estimator, dataset, settings
        self._models: dict[int, _TrueModel] = {}
        self._surfaces = VisibleSurfaces()

    def __call__(self, image: BopImage) -> list[tuple[InstanceErrors, Estimated | None]]:
        dataset, settings = self._dataset, self._settings
        frame = dataset.frame(image)
        if isinstance(self._estimator, BopResults):
            answer = self._estimator.estimates(frame)
        else:
            answer = estimate_frame(
                self._estimator, frame.rgb, frame.depth, frame.labels, frame.intrinsics
            )
        measured = []
        for instance in frame.instances:
            share = instance.visible_share
            if share is not None and share < settings.min_visible_share:
                continue
            if not dataset.is_target(image, instance.obj_id):
                continue
            if instance.obj_id not in self._models:
                self._models[instance.obj_id] = _true_model(dataset, instance.obj_id, settings)
            truth = self._models[instance.obj_id]
            estimated = answer.found.get(instance.label)
            errors = _errors(frame, instance, truth, answer, settings)
            if settings.vsd:
                visible = self._surfaces.vsd(
                    frame, instance, truth.mesh, truth.diameter_m, estimated
                )
                errors = replace(errors, bop=errors.bop._replace(vsd=visible))
            measured.append((errors, estimated))
        return measured


def evaluate_bop(
    estimator: FrameEstimator | BopResults,
    dataset: BopDataset,
    settings: BopEvaluationSettings | None = None,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
    on_instance: Callable[[Estimated, InstanceErrors], None] = lambda estimated, errors: None,
    mapped: MapFunction = map,
) -> BopEvaluation:
    """Runs an estimator over a data set and measures every annotated instance.

    Estimates belong to the instance whose label they carry; the estimator learns neither object
    ids nor poses. True and reconstructed shapes are compared in the frame of the true model.
    Results that are there already are measured in an estimator's stead, without shapes.
    Where the data set lists targets, only their objects are measured.

    Args:
        on_frame: called after each image with the number done and the total.
        on_instance: called with each estimate and its errors.
        mapped: does the images; see `crisp_ros.cluster.mapping`.

    Raises:
        DatasetError: no instance to measure, or a model or an image is missing.
    """
    settings = settings or BopEvaluationSettings()
    measured: list[InstanceErrors] = []
    images = mapped(_Measure(estimator, dataset, settings), dataset.images)
    for done, image in enumerate(images, start=1):
        for errors, estimated in image:
            measured.append(errors)
            if estimated is not None:
                on_instance(estimated, errors)
        on_frame(done, len(dataset.images))
    if not measured:
        raise DatasetError(f"{dataset.folder}: no annotated instance to measure in its images")
    return BopEvaluation(
        tuple(measured),
        {"dataset": str(dataset.folder), "split": dataset.split, "evaluation": asdict(settings)},
    )


def _errors(
    frame: BopFrame,
    instance: BopInstance,
    truth: _TrueModel,
    answer: FrameEstimates,
    settings: BopEvaluationSettings,
) -> InstanceErrors:
    estimated = answer.found.get(instance.label)
    missed = InstanceErrors(
        frame.scene_id,
        frame.image_id,
        instance.obj_id,
        _baseline_add_s(frame, instance, truth),
        bop=PoseError(math.inf, math.inf, truth.diameter_m, frame.rgb.shape[1]),
        missed=answer.missed(instance.label),
    )
    if estimated is None:
        return missed
    T_estimate, T_truth = estimated.T_camera_object, instance.T_camera_object
    corners = truth.mesh.convex_hull.vertices
    return replace(
        missed,
        add_s_m=add_s(truth.points, T_estimate, T_truth),
        add_m=float(add(truth.points, T_estimate, T_truth)),
        rotation_error_rad=float(
            rotation_error(T_estimate[:3, :3], T_truth[:3, :3], truth.rotations)
        ),
        translation_error_m=float(translation_error(T_estimate[:3, 3], T_truth[:3, 3])),
        certified=estimated.certified,
        bop=PoseError(
            mssd(corners, T_estimate, T_truth, truth.symmetries),
            mspd(truth.mesh.vertices, T_estimate, T_truth, truth.symmetries, frame.intrinsics),
            truth.diameter_m,
            frame.rgb.shape[1],
        ),
        result=BopResult(
            frame.scene_id,
            frame.image_id,
            instance.obj_id,
            estimated.score,
            T_estimate,
            answer.seconds,
        ),
        **_shape_errors(estimated.mesh, truth.mesh, settings),
    )


def _shape_errors(
    mesh: TriangleMesh, true_mesh: trimesh.Trimesh, settings: BopEvaluationSettings
) -> dict[str, float]:
    """Of a reconstruction; nothing where it has no surface."""
    if len(mesh.faces) == 0:
        return {}
    surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    rng = np.random.default_rng(settings.seed)
    estimate = surface_samples(surface, settings.chamfer_samples, rng).points
    truth = surface_samples(true_mesh, settings.chamfer_samples, rng).points
    return {
        "chamfer_m": chamfer(estimate, truth),
        "one_sided_chamfer": one_sided_normalised_chamfer(estimate, truth),
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
    rotations = model.symmetries()[:, :3, :3]
    symmetries = model.symmetries(SYMMETRY_STEPS)
    return _TrueModel(model.mesh, points, rotations, symmetries, model.diameter_m)


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
