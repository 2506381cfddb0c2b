"""Pose and shape errors of an estimator on SPE3R, in the measures of its table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import trimesh

from crisp_ros.cluster import MapFunction
from crisp_ros.data.files import DatasetError
from crisp_ros.data.meshes import surface_samples
from crisp_ros.data.spe3r import Spe3rDataset, Spe3rImage
from crisp_ros.evaluation.chamfers import l1_chamfer
from crisp_ros.evaluation.frame_estimates import (
    Estimated,
    FrameEstimator,
    SampledEvaluationSettings,
    estimate_frame,
)
from crisp_ros.evaluation.metrics import add_s, rotation_error, translation_error


@dataclass(frozen=True)
class SatelliteErrors:
    """Errors of one image, infinite where nothing was estimated.

    Attributes:
        e_shape_l1: L1 Chamfer distance between reconstructed and true surface, object frame.
        e_pose_l1: L1 Chamfer distance between the true surface at both poses.
        add_s_m, translation_error_m: in the unit of the data set.
        rotation_error_rad: without symmetries.
        certified: the estimator vouches for its estimate.
        missed: why nothing was estimated, "" where something was.
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
        values = {
            "e_shape_l1": self.e_shape_l1,
            "e_pose_l1": self.e_pose_l1,
            "add_s_m": self.add_s_m,
            "rotation_error_deg": math.degrees(self.rotation_error_rad),
            "translation_error_m": self.translation_error_m,
        }
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        return {
            **self.image._asdict(),
            **finite,
            "certified": self.certified,
            "missed": self.missed,
        }


@dataclass(frozen=True)
class Spe3rEvaluation:
    """Errors on a split; `config` states what was run on what."""

    images: tuple[SatelliteErrors, ...]
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def e_shape_l1(self) -> dict[str, float]:
        """Mean and median; one missed image makes the mean infinite."""
        return _spread([errors.e_shape_l1 for errors in self.images])

    @property
    def e_pose_l1(self) -> dict[str, float]:
        """Mean and median; one missed image makes the mean infinite."""
        return _spread([errors.e_pose_l1 for errors in self.images])

    @property
    def certified_share(self) -> float:
        """Certified estimates over all images."""
        return float(np.mean([errors.certified for errors in self.images]))

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        spreads = {"e_shape_l1": self.e_shape_l1, "e_pose_l1": self.e_pose_l1}
        return {
            "images": [errors.to_json() for errors in self.images],
            **{
                name: {k: v if math.isfinite(v) else None for k, v in spread.items()}
                for name, spread in spreads.items()
            },
            "certified_share": self.certified_share,
            "config": dict(self.config),
        }


class _Measure:
    """What is found in an image, and its errors."""

    def __init__(
        self, estimator: FrameEstimator, dataset: Spe3rDataset, settings: SampledEvaluationSettings
    ) -> None:
        self._estimator, self._dataset, self._settings = estimator, dataset, settings
        self._truths: dict[str, np.ndarray] = {}

    def __call__(self, image: Spe3rImage) -> tuple[SatelliteErrors, Estimated | None]:
        frame, settings = self._dataset.frame(image), self._settings
        if image.satellite not in self._truths:
            mesh = self._dataset.satellites[image.satellite].mesh
            rng = np.random.default_rng(settings.seed)
            self._truths[image.satellite] = surface_samples(mesh, settings.samples, rng).points
        answer = estimate_frame(
            self._estimator, frame.rgb, frame.depth, frame.labels, frame.intrinsics
        )
        if 1 not in answer.found:
            return SatelliteErrors(image, missed=answer.missed(1)), None
        points, found = self._truths[image.satellite], answer.found[1]
        return _errors(image, found, points, frame.T_camera_object, settings), found


def evaluate_spe3r(
    estimator: FrameEstimator,
    dataset: Spe3rDataset,
    settings: SampledEvaluationSettings | None = None,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
    on_image: Callable[[Estimated, SatelliteErrors], None] = lambda estimated, errors: None,
    mapped: MapFunction = map,
) -> Spe3rEvaluation:
    """Runs an estimator over the images of a split, each with its mask and its derived depth.

    Args:
        on_frame: called after each image with the number done and the total.
        on_image: called with each estimate and its errors.
        mapped: does the images; see `crisp_ros.cluster.mapping`.

    Raises:
        DatasetError: no image, or a file is missing or malformed.
        crisp_ros.data.meshes.MeshError: a mesh cannot be read.
    """
    settings = settings or SampledEvaluationSettings()
    chosen = dataset.images[:: settings.every]
    if not chosen:
        raise DatasetError(f"{dataset.folder}: no image in split {dataset.split}")
    measured = []
    images = mapped(_Measure(estimator, dataset, settings), chosen)
    for done, (errors, estimated) in enumerate(images, start=1):
        measured.append(errors)
        if estimated is not None:
            on_image(estimated, errors)
        on_frame(done, len(chosen))
    config = {"dataset": str(dataset.folder), "split": dataset.split}
    return Spe3rEvaluation(tuple(measured), {**config, "evaluation": asdict(settings)})


def _errors(
    image: Spe3rImage,
    estimated: Estimated,
    points: np.ndarray,
    T_truth: np.ndarray,
    settings: SampledEvaluationSettings,
) -> SatelliteErrors:
    T, mesh = estimated.T_camera_object, estimated.mesh
    e_shape = math.inf
    if len(mesh.faces) > 0:
        surface = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        rng = np.random.default_rng([settings.seed, 1])  # drawn apart from the truth
        e_shape = l1_chamfer(surface_samples(surface, settings.samples, rng).points, points)
    return SatelliteErrors(
        image=image,
        e_shape_l1=e_shape,
        e_pose_l1=l1_chamfer(
            trimesh.transform_points(points, T), trimesh.transform_points(points, T_truth)
        ),
        add_s_m=add_s(points, T, T_truth),
        rotation_error_rad=float(rotation_error(T[:3, :3], T_truth[:3, :3])),
        translation_error_m=float(translation_error(T[:3, 3], T_truth[:3, 3])),
        certified=estimated.certified,
    )


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "median": float(np.median(values))}
