"""Pose, size and shape errors of an estimator on NOCS, in the metrics of its tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crisp_ros.data.files import DatasetError
from crisp_ros.data.meshes import surface_samples
from crisp_ros.data.nocs import CLASSES, NocsDataset, NocsFrame, NocsImage, NocsInstance
from crisp_ros.data.nocs_truth import read_detections
from crisp_ros.evaluation.dataset_loop import (
    DatasetLoop,
    MeasuredImage,
    SampledEvaluationSettings,
)
from crisp_ros.evaluation.frame_estimates import (
    Estimated,
    FrameEstimates,
    FrameEstimator,
    estimate_frame,
)
from crisp_ros.evaluation.metrics import Surface, reconstructed_points, squared_chamfer
from crisp_ros.evaluation.nocs_metrics import (
    Box,
    ImageBoxes,
    NocsPrecision,
    nocs_precision,
    overlap,
    pose_difference,
    published_box_iou,
)
from crisp_ros.evaluation.summary_statistics import finite_or_none, share


@dataclass(frozen=True)
class NocsErrors:
    """Errors of one annotated instance, infinite where it was missed.

    Attributes:
        image: of the data set.
        label: in the image.
        category: one of `CLASSES`.
        e_shape: squared two-sided Chamfer distance, both surfaces divided by the true diagonal.
        e_shape_floor: the same for other samples of the true surface in place of an estimate.
        iou: overlap of the boxes.
        degrees: see `pose_difference`.
        centimetres: see `pose_difference`.
        certified: the estimate has a certificate.
        missed: the reason why there is no estimate or no surface, "" where there is one.
    """

    image: NocsImage
    label: int
    category: str
    e_shape: float = math.inf
    e_shape_floor: float = math.inf
    iou: float = 0.0
    degrees: float = math.inf
    centimetres: float = math.inf
    certified: bool = False
    missed: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON fields; a missed instance has null errors."""
        return {
            "scene": self.image.scene,
            "image": self.image.index,
            "label": self.label,
            "category": self.category,
            "e_shape": finite_or_none(self.e_shape),
            "degrees": finite_or_none(self.degrees),
            "cm": finite_or_none(self.centimetres),
            "iou": self.iou,
            "certified": self.certified,
            "missed": self.missed,
        }


@dataclass(frozen=True)
class NocsEvaluation:
    """Errors on a subset.

    Attributes:
        instances: errors of each.
        precision: with exact overlaps of boxes.
        published: with the overlaps that the published script computes.
        config: model, data set and settings.
    """

    instances: tuple[NocsErrors, ...]
    precision: NocsPrecision
    published: NocsPrecision
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def e_shape(self) -> dict[str, float]:
        """Mean over the instances with a surface, times 1000, by category; and their average."""
        return _thousandths((i.category, i.e_shape) for i in self.instances)

    @property
    def e_shape_floor(self) -> dict[str, float]:
        """The `e_shape` between two samplings of the true surfaces of the same instances."""
        return _thousandths((i.category, i.e_shape_floor) for i in self.instances)

    @property
    def certified_share(self) -> float:
        """Certified estimates over all instances."""
        return share([errors.certified for errors in self.instances])

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return {
            "instances": [errors.to_json() for errors in self.instances],
            "e_shape": self.e_shape,
            "e_shape_floor": self.e_shape_floor,
            "map_iou": _known(self.precision.mean_iou),
            "map_pose": _known(self.precision.mean_pose),
            "published_map_iou": _known(self.published.mean_iou),
            "published_map_pose": _known(self.published.mean_pose),
            "certified_share": self.certified_share,
            "config": dict(self.config),
        }


def evaluate_nocs(
    estimator: FrameEstimator,
    dataset: NocsDataset,
    settings: SampledEvaluationSettings | None = None,
    detections: Path | None = None,
    loop: DatasetLoop | None = None,
) -> NocsEvaluation:
    """Run an estimator over the images of a subset.

    Args:
        estimator: of the objects.
        dataset: with annotations.
        settings: see `SampledEvaluationSettings`.
        detections: a folder of published detections, results_..._SCENE_IIII.pkl, whose masks,
            classes and scores are used; None uses the true masks and classes, with score 1.
        loop: progress and distribution of the images.

    Raises:
        DatasetError: no instance to measure, or a file is missing or malformed.
        crisp_ros.data.meshes.MeshError: a mesh cannot be read.
    """
    settings, loop = settings or SampledEvaluationSettings(), loop or DatasetLoop()
    measure = _Measure(estimator, dataset, settings, detections)
    images = list(loop.run(measure, dataset.images[:: settings.every]))
    instances = tuple(errors for image in images for errors, _ in image.instances)
    if not instances:
        raise DatasetError(f"{dataset.images_folder}: no annotated instance to measure")
    boxes = [image.boxes for image in images]
    return NocsEvaluation(
        instances,
        nocs_precision(boxes),
        nocs_precision(boxes, published_box_iou),
        {
            "dataset": str(dataset.folder),
            "subset": dataset.subset,
            "detections": str(detections) if detections else None,
            "evaluation": asdict(settings),
        },
    )


class _Truth(NamedTuple):
    """The surface of a true object, in units of its diagonal.

    Attributes:
        points: (N, 3) samples.
        floor: see `NocsErrors.e_shape_floor`.
    """

    points: NDArray[np.float64]
    floor: float


class _Segmentation(NamedTuple):
    """The masks that the estimator gets.

    Attributes:
        labels: (H, W) int32.
        classes: category and score by label.
    """

    labels: NDArray[np.int32]
    classes: Mapping[int, tuple[str, float]]

    def label_of(
        self, instance: NocsInstance, frame: NocsFrame, among: Iterable[int]
    ) -> int | None:
        """The label, of some, of the instance's category that covers most of its pixels."""
        votes = np.bincount(self.labels[frame.labels == instance.label])
        possible = [
            label
            for label in among
            if self.classes[label][0] == instance.category
            and label < len(votes)
            and votes[label] > 0
        ]
        return max(possible, key=lambda label: votes[label], default=None)


class _Measure:
    """Estimates an image and measures its instances."""

    def __init__(
        self,
        estimator: FrameEstimator,
        dataset: NocsDataset,
        settings: SampledEvaluationSettings,
        detections: Path | None,
    ) -> None:
        self._estimator, self._dataset = estimator, dataset
        self._settings, self._detections = settings, detections
        self._truths: dict[tuple[str, float], _Truth] = {}

    def __call__(self, image: NocsImage) -> MeasuredImage[NocsErrors]:
        frame = self._dataset.frame(image)
        given = _segmentation(self._dataset, frame, self._detections)
        estimates = estimate_frame(self._estimator, replace(frame, labels=given.labels))
        boxes = {
            label: _box(estimated, *given.classes[label])
            for label, estimated in estimates.found.items()
            if len(estimated.mesh.faces) > 0
        }
        return MeasuredImage(
            [self._measured(image, i, frame, given, estimates, boxes) for i in frame.instances],
            ImageBoxes([_true_box(i) for i in frame.instances], list(boxes.values())),
        )

    def _measured(
        self,
        image: NocsImage,
        instance: NocsInstance,
        frame: NocsFrame,
        given: _Segmentation,
        estimates: FrameEstimates,
        boxes: Mapping[int, Box],
    ) -> tuple[NocsErrors, Estimated | None]:
        missed = NocsErrors(image, instance.label, instance.category)
        label = given.label_of(instance, frame, estimates.found)
        if label is None:
            label = given.label_of(instance, frame, estimates.rejected)
            reason = estimates.rejected.get(label, "no mask of its category on it")
            return replace(missed, missed=reason), None
        if label not in boxes:
            return replace(missed, missed="no surface"), None
        key = (instance.model.name, instance.diagonal_m)
        if key not in self._truths:
            self._truths[key] = _truth(instance, self._settings)
        estimated, truth = estimates.found[label], self._truths[key]
        return _errors(missed, instance, estimated, boxes[label], truth, self._settings), estimated


def _segmentation(dataset: NocsDataset, frame: NocsFrame, folder: Path | None) -> _Segmentation:
    """The true masks, or those of a folder of detections."""
    if folder is None:
        return _Segmentation(frame.labels, {i.label: (i.category, 1.0) for i in frame.instances})
    scene, index = frame.image
    part = dataset.subset.removeprefix("camera_")
    names = [f"results_{p}_{scene}_{index}.pkl" for p in (part, part.removeprefix("real_"))]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise DatasetError(f"{folder / names[0]}: no such file; expected the image's detections")
    detections = read_detections(path, frame.depth.shape)
    labels = np.zeros(frame.depth.shape, np.int32)
    classes = {}
    for position in np.argsort(detections.scores):  # the highest score is drawn last, on top
        label = int(position) + 1
        labels[detections.masks[position]] = label
        category = CLASSES[detections.class_ids[position] - 1]
        classes[label] = (category, float(detections.scores[position]))
    return _Segmentation(labels, classes)


def _true_box(instance: NocsInstance) -> Box:
    half = instance.size_m / 2.0
    return Box(
        instance.category,
        instance.T_camera_object,
        -half,
        half,
        handle_visible=instance.handle_visible,
    )


def _box(estimated: Estimated, category: str, score: float) -> Box:
    vertices = np.asarray(estimated.mesh.vertices, np.float64)
    return Box(
        category, estimated.T_camera_object, vertices.min(axis=0), vertices.max(axis=0), score
    )


def _truth(instance: NocsInstance, settings: SampledEvaluationSettings) -> _Truth:
    rng = np.random.default_rng(settings.seed)
    points = surface_samples(instance.mesh, settings.samples, rng).points / instance.diagonal_m
    again = _other_samples(instance.mesh, settings) / instance.diagonal_m
    return _Truth(points, squared_chamfer(again, points))


def _other_samples(surface: Surface, settings: SampledEvaluationSettings) -> NDArray[np.float64]:
    """Samples of a surface that are independent of those of the truth."""
    rng = np.random.default_rng([settings.seed, 1])
    return reconstructed_points(surface, settings.samples, rng)


def _errors(
    missed: NocsErrors,
    instance: NocsInstance,
    estimated: Estimated,
    box: Box,
    truth: _Truth,
    settings: SampledEvaluationSettings,
) -> NocsErrors:
    points = _other_samples(estimated.mesh, settings) / instance.diagonal_m
    true_box = _true_box(instance)
    degrees, centimetres = pose_difference(true_box, box)
    return replace(
        missed,
        e_shape=squared_chamfer(points, truth.points) if len(points) else math.inf,
        e_shape_floor=truth.floor,
        iou=overlap(true_box, box),
        degrees=degrees,
        centimetres=centimetres,
        certified=estimated.certified,
    )


def _thousandths(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The mean of the finite values by category, times 1000, and the average of the means."""
    by_category: dict[str, list[float]] = {category: [] for category in CLASSES}
    for category, value in values:
        if math.isfinite(value):
            by_category[category].append(value)
    means = {name: 1e3 * float(np.mean(found)) for name, found in by_category.items() if found}
    if means:
        means["average"] = float(np.mean(list(means.values())))
    return means


def _known(values: Mapping[str, float]) -> dict[str, float | None]:
    return {key: None if math.isnan(value) else value for key, value in values.items()}
