"""Pose and shape errors of an estimator on SPE3R, in the metrics of its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import trimesh

from crisp_ros.data.files import DatasetError
from crisp_ros.data.meshes import surface_samples
from crisp_ros.data.spe3r import Spe3rDataset, Spe3rImage
from crisp_ros.evaluation.dataset_loop import (
    DatasetLoop,
    MeasuredImage,
    SampledEvaluationSettings,
)
from crisp_ros.evaluation.frame_estimates import Estimated, FrameEstimator, estimate_frame
from crisp_ros.evaluation.metrics import (
    add_s,
    l1_chamfer,
    reconstructed_points,
    rotation_error,
    translation_error,
)
from crisp_ros.evaluation.summary_statistics import finite_or_none, share

_LABEL = 1  # of the only satellite of an image


@dataclass(frozen=True)
class SatelliteErrors:
    """Errors of one image, infinite where the satellite was missed.

    Attributes:
        image: of the data set.
        e_shape_l1: L1 Chamfer distance between reconstructed and true surface, object frame.
        e_pose_l1: L1 Chamfer distance between the true surface at both poses.
        add_s_m: in the unit of the data set.
        rotation_error_rad: without symmetries.
        translation_error_m: in the unit of the data set.
        certified: the estimate has a certificate.
        missed: the reason why there is no estimate, "" where there is one.
    """

    image: Spe3rImage
    e_shape_l1: float = math.inf
    e_pose_l1: float = math.inf
    add_s_m: float = math.inf
    rotation_error_rad: float = math.inf
    translation_error_m: float = math.inf
    certified: bool = False
    missed: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON fields; a missed satellite has null errors."""
        return {
            **self.image._asdict(),
            "e_shape_l1": finite_or_none(self.e_shape_l1),
            "e_pose_l1": finite_or_none(self.e_pose_l1),
            "add_s_m": finite_or_none(self.add_s_m),
            "rotation_error_deg": finite_or_none(math.degrees(self.rotation_error_rad)),
            "translation_error_m": finite_or_none(self.translation_error_m),
            "certified": self.certified,
            "missed": self.missed,
        }


@dataclass(frozen=True)
class Spe3rEvaluation:
    """Errors on a split.

    Attributes:
        images: errors of each.
        config: model, data set and settings.
        uncorrected: the same images without a corrector; None where they were not measured.
    """

    images: tuple[SatelliteErrors, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    uncorrected: Spe3rEvaluation | None = None

    @property
    def e_shape_l1(self) -> dict[str, float]:
        """Mean and median; one missed image makes the mean infinite."""
        return _mean_and_median([errors.e_shape_l1 for errors in self.images])

    @property
    def e_pose_l1(self) -> dict[str, float]:
        """Mean and median; one missed image makes the mean infinite."""
        return _mean_and_median([errors.e_pose_l1 for errors in self.images])

    @property
    def certified_share(self) -> float:
        """Certified estimates over all images."""
        return share([errors.certified for errors in self.images])

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        without = {"uncorrected": self.uncorrected._figures()} if self.uncorrected else {}
        return {**self._figures(), **without, "config": dict(self.config)}

    def _figures(self) -> dict[str, Any]:
        return {
            "images": [errors.to_json() for errors in self.images],
            "e_shape_l1": {k: finite_or_none(v) for k, v in self.e_shape_l1.items()},
            "e_pose_l1": {k: finite_or_none(v) for k, v in self.e_pose_l1.items()},
            "certified_share": self.certified_share,
        }


def evaluate_spe3r(
    estimator: FrameEstimator,
    dataset: Spe3rDataset,
    settings: SampledEvaluationSettings | None = None,
    loop: DatasetLoop | None = None,
) -> Spe3rEvaluation:
    """Run an estimator over the images of a split, each with its mask and its derived depth.

    Args:
        estimator: of the satellites.
        dataset: with derived depth maps.
        settings: see `SampledEvaluationSettings`.
        loop: progress and distribution of the images.

    Raises:
        DatasetError: no image, or a file is missing or malformed.
        crisp_ros.data.meshes.MeshError: a mesh cannot be read.
    """
    settings, loop = settings or SampledEvaluationSettings(), loop or DatasetLoop()
    chosen = dataset.images[:: settings.every]
    if not chosen:
        raise DatasetError(f"{dataset.folder}: no image in split {dataset.split}")
    images = loop.run(_Measure(estimator, dataset, settings), chosen)
    return Spe3rEvaluation(
        tuple(errors for image in images for errors, _ in image.instances),
        {"dataset": str(dataset.folder), "split": dataset.split, "evaluation": asdict(settings)},
    )


class _Measure:
    """Estimates an image and measures its satellite."""

    def __init__(
        self, estimator: FrameEstimator, dataset: Spe3rDataset, settings: SampledEvaluationSettings
    ) -> None:
        self._estimator, self._dataset, self._settings = estimator, dataset, settings
        self._truths: dict[str, np.ndarray] = {}

    def __call__(self, image: Spe3rImage) -> MeasuredImage[SatelliteErrors]:
        frame, settings = self._dataset.frame(image), self._settings
        if image.satellite not in self._truths:
            mesh = self._dataset.satellites[image.satellite].mesh
            rng = np.random.default_rng(settings.seed)
            self._truths[image.satellite] = surface_samples(mesh, settings.samples, rng).points
        estimates = estimate_frame(self._estimator, frame)
        estimated = estimates.found.get(_LABEL)
        if estimated is None:
            return MeasuredImage([(SatelliteErrors(image, missed=estimates.missed(_LABEL)), None)])
        points = self._truths[image.satellite]
        errors = _errors(image, estimated, points, frame.T_camera_object, settings)
        return MeasuredImage([(errors, estimated)])


def _errors(
    image: Spe3rImage,
    estimated: Estimated,
    points: np.ndarray,
    T_truth: np.ndarray,
    settings: SampledEvaluationSettings,
) -> SatelliteErrors:
    T = estimated.T_camera_object
    rng = np.random.default_rng([settings.seed, 1])  # other samples than those of the truth
    reconstructed = reconstructed_points(estimated.mesh, settings.samples, rng)
    return SatelliteErrors(
        image=image,
        e_shape_l1=l1_chamfer(reconstructed, points) if len(reconstructed) else math.inf,
        e_pose_l1=l1_chamfer(
            trimesh.transform_points(points, T), trimesh.transform_points(points, T_truth)
        ),
        add_s_m=add_s(points, T, T_truth),
        rotation_error_rad=float(rotation_error(T[:3, :3], T_truth[:3, :3])),
        translation_error_m=float(translation_error(T[:3, 3], T_truth[:3, 3])),
        certified=estimated.certified,
    )


def _mean_and_median(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "median": float(np.median(values))}
