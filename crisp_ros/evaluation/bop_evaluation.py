"""Pose and shape errors of an estimator on a BOP data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import trimesh

from crisp_ros.data.bop import BopDataset, BopFrame, BopImage, BopInstance, DatasetError
from crisp_ros.data.depth_units import scale_by_widths
from crisp_ros.data.meshes import surface_samples
from crisp_ros.evaluation.bop_csv import BopResult
from crisp_ros.evaluation.bop_metrics import (
    PoseError,
    average_recall,
    mspd,
    mssd,
)
from crisp_ros.evaluation.bop_results import BopResults
from crisp_ros.evaluation.bop_true_model import TrueModel
from crisp_ros.evaluation.cad_registration import CadRegistration
from crisp_ros.evaluation.dataset_loop import DatasetLoop, MeasuredImage
from crisp_ros.evaluation.frame_estimates import (
    FrameEstimates,
    FrameEstimator,
    estimate_frame,
)
from crisp_ros.evaluation.mask_overlap import OverlapSummary
from crisp_ros.evaluation.metrics import (
    ADD_S_POINTS,
    CHAMFER_SAMPLES,
    add,
    add_s,
    one_sided_normalised_chamfer,
    pose_at_depth_centroid,
    reconstructed_points,
    rotation_error,
    translation_error,
)
from crisp_ros.evaluation.pose_summary import PoseSummary, summarize_poses
from crisp_ros.evaluation.summary_statistics import (
    ADD_S_THRESHOLDS_M,
    SHAPE_THRESHOLDS_M,
    areas,
    finite_or_none,
    share,
)
from crisp_ros.evaluation.visible_surface_discrepancy import VisibleSurfaces
from crisp_ros.geometry.chamfer import sampled_chamfer

if TYPE_CHECKING:
    from crisp_ros.geometry.isosurface import TriangleMesh


@dataclass(frozen=True)
class BopEvaluationSettings:
    """Settings of the error metrics.

    Attributes:
        model_points: points sampled on each true model for ADD and ADD-S.
        chamfer_samples: points sampled on each of two surfaces for the shape error.
        min_visible_share: instances that the data set states to be less visible are left out.
        seed: of the samples.
        vsd: also measure the visible surface discrepancy, which renders each instance.
    """

    model_points: int = ADD_S_POINTS
    chamfer_samples: int = CHAMFER_SAMPLES
    min_visible_share: float = 0.1
    seed: int = 0
    vsd: bool = False


@dataclass(frozen=True)
class InstanceErrors:
    """Errors of one annotated instance; infinite where it was missed.

    Attributes:
        scene: of the data set.
        image: of the scene.
        obj_id: of the model.
        baseline_add_s_m: ADD-S of the object at its depth centroid with the identity rotation.
        add_s_m: metres.
        add_m: metres.
        rotation_error_rad: smallest over the symmetries that the data set states.
        translation_error_m: metres.
        chamfer_m: between reconstructed and true surface in the object frame, metres.
        certified: the estimate has a certificate.
        one_sided_chamfer: see `one_sided_normalised_chamfer`, in diameters.
        bop: the errors of the BOP benchmark.
        result: the estimate, None where there is none.
        missed: the reason why there is no estimate, "" where there is one.
        orientation_certified: the certificate covers the orientation too.
        orientation_reason: why it does not.
        shape_source: see `ObjectEstimate`; "" where it was missed.
        depth_scale: see `ObjectEstimate`; NaN where it was missed.
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
    orientation_certified: bool = False
    orientation_reason: str = ""
    shape_source: str = ""
    depth_scale: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """JSON fields; a missed instance has null errors."""
        return {
            "scene": self.scene,
            "image": self.image,
            "obj_id": self.obj_id,
            "add_s_m": finite_or_none(self.add_s_m),
            "add_m": finite_or_none(self.add_m),
            "rotation_error_deg": finite_or_none(math.degrees(self.rotation_error_rad)),
            "translation_error_m": finite_or_none(self.translation_error_m),
            "chamfer_m": finite_or_none(self.chamfer_m),
            "certified": self.certified,
            "orientation_certified": self.orientation_certified,
            "orientation_reason": self.orientation_reason,
            "shape_source": self.shape_source,
        }


@dataclass(frozen=True)
class BopEvaluation:
    """Errors on a whole data set.

    Attributes:
        instances: errors of each.
        config: model, data set and settings.
        segmentation: of the predicted masks, None where the true ones were used.
    """

    instances: tuple[InstanceErrors, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    segmentation: OverlapSummary | None = None

    @property
    def auc_add_s(self) -> dict[str, float]:
        """Area under the ADD-S accuracy curve, 0 to 1, by threshold."""
        return areas([i.add_s_m for i in self.instances], ADD_S_THRESHOLDS_M)

    @property
    def auc_e_shape(self) -> dict[str, float]:
        """Area under the Chamfer accuracy curve, 0 to 1, by threshold."""
        return areas([i.chamfer_m for i in self.instances], SHAPE_THRESHOLDS_M)

    @property
    def baseline_auc_add_s(self) -> dict[str, float]:
        """`auc_add_s` of the depth centroid with the identity rotation."""
        return areas([i.baseline_add_s_m for i in self.instances], ADD_S_THRESHOLDS_M)

    @property
    def auc_one_sided(self) -> dict[str, float]:
        """The one-sided Chamfer distance like `auc_e_shape`; "cm" are hundredths of a diameter, as
        in the authors' code."""
        return areas([i.one_sided_chamfer for i in self.instances], SHAPE_THRESHOLDS_M)

    @property
    def average_recall(self) -> dict[str, float]:
        """Average recall of the BOP benchmark, 0 to 1: mssd, mspd, and vsd if it was measured."""
        return average_recall([i.bop for i in self.instances if i.bop is not None])

    @property
    def certified_share(self) -> float:
        """Certified estimates over all instances."""
        return share([i.certified for i in self.instances])

    @property
    def depth_scale(self) -> float | None:
        """Factor by which depth is too large, see `scale_by_widths`; None without a clear case."""
        by_image: dict[tuple[int, int], list[float]] = {}
        for i in self.instances:
            by_image.setdefault((i.scene, i.image), []).append(i.depth_scale)
        return scale_by_widths(list(by_image.values()))

    @property
    def results(self) -> list[BopResult]:
        """The estimates that were found."""
        return [i.result for i in self.instances if i.result is not None]

    @property
    def poses(self) -> PoseSummary:
        """Pose errors of all instances."""
        return summarize_poses(self.instances)

    @property
    def poses_by_object(self) -> dict[int, PoseSummary]:
        """Pose errors by object id."""
        ids = sorted({i.obj_id for i in self.instances})
        return {
            obj_id: summarize_poses([i for i in self.instances if i.obj_id == obj_id])
            for obj_id in ids
        }

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "instances": [instance.to_json() for instance in self.instances],
            "auc_add_s": self.auc_add_s,
            "auc_e_shape": self.auc_e_shape,
            "baseline_auc_add_s": self.baseline_auc_add_s,
            "certified_share": self.certified_share,
            "poses": self.poses.to_json(),
            "poses_by_object": {str(k): p.to_json() for k, p in self.poses_by_object.items()},
            **({"depth_scale": self.depth_scale} if self.depth_scale else {}),
            **({"segmentation": self.segmentation._asdict()} if self.segmentation else {}),
            "config": dict(self.config),
        }


def evaluate_bop(
    estimator: FrameEstimator | BopResults | CadRegistration,
    dataset: BopDataset,
    settings: BopEvaluationSettings | None = None,
    loop: DatasetLoop | None = None,
) -> BopEvaluation:
    """Run an estimator over a data set and measure every annotated instance.

    Estimates belong to the instance with their label; the estimator gets neither object ids nor
    poses. True and reconstructed shapes are compared in the frame of the true model. If the data
    set lists targets, only their objects are measured.

    Args:
        estimator: or results of another method, which have poses only, or the baseline.
        dataset: with annotations.
        settings: see `BopEvaluationSettings`.
        loop: progress and distribution of the images.

    Raises:
        DatasetError: no instance to measure, or a model or an image is missing.
    """
    settings, loop = settings or BopEvaluationSettings(), loop or DatasetLoop()
    measure = _Measure(estimator, dataset, settings)
    images = loop.run(measure, dataset.images)
    instances = tuple(errors for image in images for errors, _ in image.instances)
    if not instances:
        raise DatasetError(f"{dataset.folder}: no annotated instance to measure in its images")
    return BopEvaluation(
        instances,
        {"dataset": str(dataset.folder), "split": dataset.split, "evaluation": asdict(settings)},
    )


class _Measure:
    """Estimates an image and measures its instances."""

    def __init__(
        self,
        estimator: FrameEstimator | BopResults | CadRegistration,
        dataset: BopDataset,
        settings: BopEvaluationSettings,
    ) -> None:
        self._estimator, self._dataset, self._settings = estimator, dataset, settings
        self._models: dict[int, TrueModel] = {}
        self._surfaces = VisibleSurfaces()

    def __call__(self, image: BopImage) -> MeasuredImage[InstanceErrors]:
        frame = self._dataset.frame(image)
        if isinstance(self._estimator, (BopResults, CadRegistration)):
            estimates = self._estimator.estimates(frame)
        else:
            estimates = estimate_frame(self._estimator, frame)
        return MeasuredImage(
            [
                (self._errors(frame, instance, estimates), estimates.found.get(instance.label))
                for instance in frame.instances
                if self._counts(image, instance)
            ]
        )

    def _counts(self, image: BopImage, instance: BopInstance) -> bool:
        visible = instance.visible_share
        if visible is not None and visible < self._settings.min_visible_share:
            return False
        return self._dataset.is_target(image, instance.obj_id)

    def _errors(
        self, frame: BopFrame, instance: BopInstance, estimates: FrameEstimates
    ) -> InstanceErrors:
        if instance.obj_id not in self._models:
            points, seed = self._settings.model_points, self._settings.seed
            model = TrueModel.of(self._dataset, instance.obj_id, points, seed)
            self._models[instance.obj_id] = model
        truth = self._models[instance.obj_id]
        errors = _errors(frame, instance, truth, estimates, self._settings)
        if self._settings.vsd:
            visible = self._surfaces.vsd(
                frame, instance, truth.mesh, truth.diameter_m, estimates.found.get(instance.label)
            )
            errors = replace(errors, bop=errors.bop._replace(vsd=visible))
        return errors


def _errors(
    frame: BopFrame,
    instance: BopInstance,
    truth: TrueModel,
    estimates: FrameEstimates,
    settings: BopEvaluationSettings,
) -> InstanceErrors:
    estimated = estimates.found.get(instance.label)
    missed = InstanceErrors(
        frame.scene_id,
        frame.image_id,
        instance.obj_id,
        _baseline_add_s(frame, instance, truth),
        bop=PoseError(math.inf, math.inf, truth.diameter_m, frame.rgb.shape[1]),
        missed=estimates.missed(instance.label),
    )
    if estimated is None:
        return missed
    T_estimate, T_truth = estimated.T_camera_object, instance.T_camera_object
    R_estimate, R_truth = T_estimate[:3, :3], T_truth[:3, :3]
    corners = truth.mesh.convex_hull.vertices
    return replace(
        missed,
        add_s_m=add_s(truth.points, T_estimate, T_truth),
        add_m=float(add(truth.points, T_estimate, T_truth)),
        rotation_error_rad=float(rotation_error(R_estimate, R_truth, truth.rotations)),
        translation_error_m=float(translation_error(T_estimate[:3, 3], T_truth[:3, 3])),
        certified=estimated.certified,
        orientation_certified=estimated.orientation_certified,
        orientation_reason=estimated.orientation_reason,
        shape_source=estimated.shape_source,
        depth_scale=estimated.depth_scale,
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
            estimates.seconds,
        ),
        **_shape_errors(estimated.mesh, truth.mesh, settings),
    )


def _shape_errors(
    mesh: TriangleMesh, true_mesh: trimesh.Trimesh, settings: BopEvaluationSettings
) -> dict[str, float]:
    """Errors of a reconstruction; none where it has no surface."""
    rng = np.random.default_rng(settings.seed)
    estimate = reconstructed_points(mesh, settings.chamfer_samples, rng)
    if not len(estimate):
        return {}
    truth = surface_samples(true_mesh, settings.chamfer_samples, rng).points
    return {
        "chamfer_m": sampled_chamfer(estimate, truth),
        "one_sided_chamfer": one_sided_normalised_chamfer(estimate, truth),
    }


def _baseline_add_s(frame: BopFrame, instance: BopInstance, truth: TrueModel) -> float:
    mask = (frame.labels == instance.label) & (frame.depth > 0.0)
    if not mask.any():
        return math.inf
    T_baseline = pose_at_depth_centroid(mask, frame.depth, frame.intrinsics)
    return add_s(truth.points, T_baseline, instance.T_camera_object)
