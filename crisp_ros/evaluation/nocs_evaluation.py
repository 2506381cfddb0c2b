"""Pose, size and shape errors of an estimator on NOCS, in the measures of its tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import trimesh
from numpy.typing import NDArray

from crisp_ros.cluster import MapFunction
from crisp_ros.data.files import DatasetError
from crisp_ros.data.meshes import surface_samples
from crisp_ros.data.nocs import CLASSES, NocsDataset, NocsFrame, NocsImage, NocsInstance
from crisp_ros.data.nocs_truth import read_detections
from crisp_ros.evaluation.chamfers import squared_chamfer
from crisp_ros.evaluation.frame_estimates import (
    Estimated,
    FrameEstimator,
    SampledEvaluationSettings,
    estimate_frame,
)
from crisp_ros.evaluation.nocs_metrics import (
    Box,
    ImageBoxes,
    NocsPrecision,
    nocs_precision,
    overlap,
    pose_difference,
    published_box_iou,
)


@dataclass(frozen=True)
class NocsErrors:
    """Errors of one annotated instance, infinite where nothing was estimated.

    Attributes:
        e_shape: squared two-sided Chamfer distance, both surfaces divided by the true diagonal.
        e_shape_floor: the same of the true surface, drawn once more, in place of an estimate.
        iou: overlap of the boxes. degrees, centimetres: see `pose_difference`.
        certified: the estimator vouches for its estimate.
        missed: why there is no estimate or no surface of it, "" where there is.
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
        values = {"e_shape": self.e_shape, "degrees": self.degrees, "cm": self.centimetres}
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}
        return {
            "scene": self.image.scene,
            "image": self.image.index,
            "label": self.label,
            "category": self.category,
            **finite,
            "iou": self.iou,
            "certified": self.certified,
            "missed": self.missed,
        }


@dataclass(frozen=True)
class NocsEvaluation:
    """Errors on a subset; `config` states what was run on what.

    precision: with boxes as they stand. published: as the published script has them.
    """

    instances: tuple[NocsErrors, ...]
    precision: NocsPrecision
    published: NocsPrecision
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def e_shape(self) -> dict[str, float]:
        """Thousand times the mean of the instances with a surface, by category; their average."""
        return _thousandths((i.category, i.e_shape) for i in self.instances)

    @property
    def e_shape_floor(self) -> dict[str, float]:
        """The same of the true surfaces, drawn once more, of the same instances."""
        return _thousandths((i.category, i.e_shape_floor) for i in self.instances)

    @property
    def certified_share(self) -> float:
        """Certified estimates over all instances."""
        return float(np.mean([errors.certified for errors in self.instances]))

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


class _Truth(NamedTuple):
    """points: (N, 3) drawn on the surface, in diagonals. floor: see `NocsErrors`."""

    points: NDArray[np.float64]
    floor: float


class _Measured(NamedTuple):
    """boxes: of the image. instances: errors of each, with its estimate."""

    boxes: ImageBoxes
    instances: list[tuple[NocsErrors, Estimated | None]]


class _Measure:
    """What is found in an image, and its errors."""

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

    def __call__(self, image: NocsImage) -> _Measured:
        settings = self._settings
        frame = self._dataset.frame(image)
        labels, given = _segmentation(self._dataset, frame, self._detections)
        answer = estimate_frame(self._estimator, frame.rgb, frame.depth, labels, frame.intrinsics)
        boxes = {
            label: _box(estimated, *given[label])
            for label, estimated in answer.found.items()
            if len(estimated.mesh.faces) > 0
        }
        measured = _Measured(
            ImageBoxes([_true_box(i) for i in frame.instances], list(boxes.values())), []
        )
        for instance in frame.instances:
            estimated = None
            label = _answering(instance, frame, labels, given, answer.found)
            if label is None:
                label = _answering(instance, frame, labels, given, answer.rejected)
                reason = answer.rejected.get(label, "no mask of its category on it")
                errors = NocsErrors(image, instance.label, instance.category, missed=reason)
            elif label not in boxes:
                errors = NocsErrors(image, instance.label, instance.category, missed="no surface")
            else:
                key = (instance.model.name, instance.diagonal_m)
                if key not in self._truths:
                    self._truths[key] = _truth(instance, settings)
                estimated, truth = answer.found[label], self._truths[key]
                errors = _errors(image, instance, estimated, boxes[label], truth, settings)
            measured.instances.append((errors, estimated))
        return measured


def evaluate_nocs(
    estimator: FrameEstimator,
    dataset: NocsDataset,
    settings: SampledEvaluationSettings | None = None,
    detections: Path | None = None,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
    on_instance: Callable[[Estimated, NocsErrors], None] = lambda estimated, errors: None,
    mapped: MapFunction = map,
) -> NocsEvaluation:
    """Runs an estimator over the images of a subset.

    Args:
        detections: a folder of published detections, results_..._SCENE_IIII.pkl, whose masks,
            classes and scores are used; None takes the true masks and classes, with score 1.
        on_frame: called after each image with the number done and the total.
        on_instance: called with each estimate of a true instance and its errors.
        mapped: does the images; see `crisp_ros.cluster.mapping`.

    Raises:
        DatasetError: no instance to measure, or a file is missing or malformed.
        crisp_ros.data.meshes.MeshError: a mesh cannot be read.
    """
    settings = settings or SampledEvaluationSettings()
    chosen = dataset.images[:: settings.every]
    images: list[ImageBoxes] = []
    measured: list[NocsErrors] = []
    found = mapped(_Measure(estimator, dataset, settings, detections), chosen)
    for done, (boxes, instances) in enumerate(found, start=1):
        images.append(boxes)
        for errors, estimated in instances:
            measured.append(errors)
            if estimated is not None:
                on_instance(estimated, errors)
        on_frame(done, len(chosen))
    if not measured:
        raise DatasetError(f"{dataset.images_folder}: no annotated instance to measure")
    return NocsEvaluation(
        tuple(measured),
        nocs_precision(images),
        nocs_precision(images, published_box_iou),
        {
            "dataset": str(dataset.folder),
            "subset": dataset.subset,
            "detections": str(detections) if detections else None,
            "evaluation": asdict(settings),
        },
    )


def _segmentation(
    dataset: NocsDataset, frame: NocsFrame, folder: Path | None
) -> tuple[NDArray[np.int32], dict[int, tuple[str, float]]]:
    """Labels (H, W), and category and score by label."""
    if folder is None:
        return frame.labels, {i.label: (i.category, 1.0) for i in frame.instances}
    scene, index = frame.image
    part = dataset.subset.removeprefix("camera_")
    names = [f"results_{p}_{scene}_{index}.pkl" for p in (part, part.removeprefix("real_"))]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise DatasetError(f"{folder / names[0]}: no such file; expected the image's detections")
    detections = read_detections(path, frame.depth.shape)
    labels = np.zeros(frame.depth.shape, np.int32)
    given = {}
    for position in np.argsort(detections.scores):  # the surest is drawn last, over all others
        label = int(position) + 1
        labels[detections.masks[position]] = label
        category = CLASSES[detections.class_ids[position] - 1]
        given[label] = (category, float(detections.scores[position]))
    return labels, given


def _answering(
    instance: NocsInstance,
    frame: NocsFrame,
    labels: NDArray[np.int32],
    given: Mapping[int, tuple[str, float]],
    among: Iterable[int],
) -> int | None:
    """Of some labels, that of its category which most of its pixels have."""
    votes = np.bincount(labels[frame.labels == instance.label])
    possible = [
        label
        for label in among
        if given[label][0] == instance.category and label < len(votes) and votes[label] > 0
    ]
    return max(possible, key=lambda label: votes[label], default=None)


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
    again = _drawn(instance.mesh, settings) / instance.diagonal_m
    return _Truth(points, squared_chamfer(again, points))


def _drawn(surface: trimesh.Trimesh, settings: SampledEvaluationSettings) -> NDArray[np.float64]:
    """Points of a surface, drawn apart from those of the truth."""
    rng = np.random.default_rng([settings.seed, 1])
    return surface_samples(surface, settings.samples, rng).points


def _errors(
    image: NocsImage,
    instance: NocsInstance,
    estimated: Estimated,
    box: Box,
    truth: _Truth,
    settings: SampledEvaluationSettings,
) -> NocsErrors:
    surface = trimesh.Trimesh(estimated.mesh.vertices, estimated.mesh.faces, process=False)
    points = _drawn(surface, settings) / instance.diagonal_m
    true_box = _true_box(instance)
    degrees, centimetres = pose_difference(true_box, box)
    return NocsErrors(
        image=image,
        label=instance.label,
        category=instance.category,
        e_shape=squared_chamfer(points, truth.points),
        e_shape_floor=truth.floor,
        iou=overlap(true_box, box),
        degrees=degrees,
        centimetres=centimetres,
        certified=estimated.certified,
    )


def _thousandths(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Thousand times the mean of the finite values by category, and their average."""
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
