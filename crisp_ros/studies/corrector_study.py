"""Pose and shape errors by each solver of the corrector, on frames with ground truth (Table 10)."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from crisp_ros import __version__
from crisp_ros.adaptation.recipes import RECIPES
from crisp_ros.correction.certificate import certify
from crisp_ros.correction.corrector import Correction, CorrectorSettings, correct
from crisp_ros.correction.correspondences import Shapes
from crisp_ros.correction.hypotheses import Hypotheses
from crisp_ros.data.recorded_frame import RecordedFrame, TrueObject
from crisp_ros.evaluation.metrics import (
    rotation_error,
)
from crisp_ros.evaluation.true_shapes import TrueShape
from crisp_ros.geometry.chamfer import pairwise_distances, sampled_chamfer
from crisp_ros.geometry.isosurface import IsosurfaceSettings
from crisp_ros.geometry.se3 import invert, transform
from crisp_ros.network.checkpoint import Model
from crisp_ros.network.library import ShapeLibrary
from crisp_ros.observation.frame import Frame
from crisp_ros.pipeline import Estimator, EstimatorSettings, ObjectEstimate, Solution
from crisp_ros.pipeline.paper_settings import as_in_paper
from crisp_ros.studies.corrector_instances import (
    METHODS,
    MISSED,
    MULTI_VIEW,
    NO_CORRECTOR,
    SETTINGS,
    SYMMETRIES,
    Errors,
    Instance,
)
from crisp_ros.tracking.tracker import Tracker
from crisp_ros.training.library_quality import BoxedShape, decoded_mesh

MIN_VISIBLE_SHARE = 0.1
_SURFACE_SAMPLES = 10_000
_VOXELS = 48
_FRAME_PERIOD_S = 0.25
_CERTIFICATE = RECIPES["ycbv"].certificate


class _Estimate(NamedTuple):
    """An estimate by one method.

    Attributes:
        T_camera_object: (4, 4) metres.
        code: (C,) shape code.
        certified: see `Errors`.
        cpu_s: processor time of the corrector, NaN where it was not measured.
    """

    T_camera_object: NDArray[np.float64]
    code: Tensor
    certified: bool
    cpu_s: float = math.nan

    @classmethod
    def of(cls, estimate: ObjectEstimate) -> _Estimate:
        code = torch.from_numpy(estimate.code)
        return cls(estimate.T_camera_object, code, estimate.certified)


_ByLabel = dict[int, _Estimate]


class CorrectorStudy:
    """Runs all methods on frames and measures their errors."""

    def __init__(
        self,
        model: Model,
        shapes: Mapping[str, TrueShape],
        device: torch.device | str = "cpu",
    ) -> None:
        """Prepare the study of a model.

        Args:
            model: with a shape library.
            shapes: true ones by name.
            device: of the estimator.

        Raises:
            ValueError: the model has no shape library.
        """
        if model.library is None:
            raise ValueError("the model has no shape library, which the shape solvers need")
        self._estimator = Estimator(model, EstimatorSettings(), device)
        self._decoder = model.network.decoder
        self._library: ShapeLibrary = model.library.to(device)
        self._shapes = shapes
        self._trees: dict[str, cKDTree] = {}
        self._shape_errors: dict[tuple[str, bytes], float] = {}

    @property
    def made_from(self) -> str:
        """A text with everything that the errors depend on, apart from the frames."""
        version = self._estimator.model_version
        return f"{__version__} {version} {self._estimator.settings} {SETTINGS}"

    def measured(
        self,
        scene: str,
        frames: Sequence[RecordedFrame],
        on_frame: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Instance]:
        """Measure the instances of a sequence that have ground truth.

        Objects are tracked, too, if all frames have a camera pose. Objects that are less than 10 %
        visible are left out.

        Args:
            scene: name of the sequence.
            frames: in their order.
            on_frame: called after each frame with the number done and the total.
        """
        tracker = self._tracker(frames)
        methods = METHODS if tracker is not None else METHODS[:-1]
        instances: list[Instance] = []
        for index, recorded in enumerate(frames):
            frame = Frame.from_recorded(recorded)
            estimates = self._single_view(frame)
            trace = self._estimator.trace(frame)
            by_label = {e.label: e for e in trace.estimate.objects}
            estimates[SYMMETRIES] = {label: _Estimate.of(e) for label, e in by_label.items()}
            if tracker is not None:
                tracked = tracker.update(index * _FRAME_PERIOD_S, trace, recorded.T_world_camera)
                estimates[MULTI_VIEW] = {
                    o.estimate.label: _Estimate.of(o.estimate) for o in tracked.objects
                }
            instances += self._instances(scene, index, recorded, by_label, estimates, methods)
            on_frame(index + 1, len(frames))
        return instances

    def _tracker(self, frames: Sequence[RecordedFrame]) -> Tracker | None:
        if any(frame.T_world_camera is None for frame in frames):
            return None
        return Tracker(
            self._estimator.field,
            self._estimator.prepared_library,
            verification=self._estimator.settings.verification,
            device=self._estimator.device,
        )

    def _single_view(self, frame: Frame) -> dict[str, _ByLabel]:
        """The estimates of each single-view method, from the network's answer as it is.

        Whatever moves an object afterwards would change its coordinates and registration, from
        which all methods begin. The masks are those of the node.
        """
        settings = self._estimator.settings
        estimates: dict[str, _ByLabel] = {}
        plain = dataclasses.replace(as_in_paper(settings), masks=settings.masks)
        self._estimator.settings = plain
        try:
            for solution in self._estimator.trace(frame).solutions:
                for method, by_label in self._corrected(solution):
                    estimates.setdefault(method, {}).update(by_label)
        finally:
            self._estimator.settings = settings
        return estimates

    def _corrected(self, solution: Solution) -> Iterator[tuple[str, _ByLabel]]:
        """Correct the same points and network output by each single-view method."""
        own = Shapes.of_codes(solution.codes)
        yield NO_CORRECTOR, self._by_label(solution, solution.registration.T_object_camera, own)
        for method, settings in SETTINGS.items():
            start = time.process_time()
            correction = self._corrected_by(settings, solution)
            cpu_s = (time.process_time() - start) / len(own.codes)
            yield (
                method,
                self._by_label(solution, correction.T_object_camera, correction.shapes, cpu_s),
            )

    def _corrected_by(self, settings: CorrectorSettings, solution: Solution) -> Correction:
        """Correct with as many points as the second-order solver uses: gradient steps are slow."""
        return correct(
            self._estimator.field,
            solution.correspondences.subsample(settings.second_order.points),
            Shapes.of_codes(solution.codes),
            solution.registration.T_object_camera,
            self._estimator.prepared_library,
            settings,
        )

    def _by_label(
        self, solution: Solution, T_object_camera: Tensor, shapes: Shapes, cpu_s: float = math.nan
    ) -> _ByLabel:
        """The estimates of a frame's objects, certified by all of their points."""
        hypotheses = Hypotheses(
            solution.correspondences,
            T_object_camera,
            shapes,
            solution.observations.labels,
            solution.registration.T_object_camera,
            torch.ones_like(T_object_camera[:, 0, 0]),
        )
        certified = certify(self._estimator.field, hypotheses, _CERTIFICATE).certified.tolist()
        T, codes = invert(T_object_camera.double()).cpu().numpy(), shapes.codes.float().cpu()
        labels = solution.observations.labels.tolist()
        return {k: _Estimate(T[i], codes[i], certified[i], cpu_s) for i, k in enumerate(labels)}

    def _instances(
        self,
        scene: str,
        index: int,
        recorded: RecordedFrame,
        by_label: Mapping[int, ObjectEstimate],
        estimates: Mapping[str, _ByLabel],
        methods: Sequence[str],
    ) -> Iterator[Instance]:
        for true in recorded.truth:
            if true.visible_share < MIN_VISIBLE_SHARE:
                continue
            estimate = by_label.get(true.label)
            found = {method: estimates.get(method, {}).get(true.label) for method in methods}
            yield Instance(
                scene,
                index,
                true.name,
                true.visible_share,
                estimate is not None and estimate.certified,
                estimate.reason if estimate is not None else "not estimated",
                {method: self._errors(true, one) for method, one in found.items()},
                {m: one.cpu_s for m, one in found.items() if one and not math.isnan(one.cpu_s)},
            )

    def _errors(self, true: TrueObject, estimate: _Estimate | None) -> Errors:
        if estimate is None:
            return MISSED
        shape = self._shapes[true.name]
        # In the true object frame the true surface is fixed, so its tree is built only once.
        motion = invert(true.T_camera_object) @ estimate.T_camera_object
        if true.name not in self._trees:
            self._trees[true.name] = cKDTree(shape.points)
        tree = self._trees[true.name]
        away = tree.query(trimesh.transform_points(shape.points, motion))[0].mean()
        back = tree.query(transform(invert(motion), shape.points))[0].mean()
        rotation = rotation_error(
            estimate.T_camera_object[:3, :3], true.T_camera_object[:3, :3], shape.symmetries
        )
        return Errors(
            float(away + back) / 2.0,
            self._shape_error(true.name, estimate.code),
            float(back),
            float(rotation),
            self._known_name(estimate.code),
            estimate.certified,
        )

    def _known_name(self, code: Tensor) -> str:
        same = (self._library.codes.cpu() == code).all(-1).nonzero()
        return self._library.names[int(same[0])] if len(same) else ""

    def _shape_error(self, name: str, code: Tensor) -> float:
        """The error of a code as the shape of an object; each pair is measured once."""
        key = (name, code.numpy().tobytes())
        if key not in self._shape_errors:
            code = code.to(self._library.codes.device)
            nearest = int(pairwise_distances(code[None], self._library.codes).argmin())
            lower, upper = self._library.lower[nearest], self._library.upper[nearest]
            if not self._known_name(code.cpu()):
                margin = 0.25 * (upper - lower).max()
                lower, upper = lower - margin, upper + margin
            shape = BoxedShape(code, lower, upper)
            mesh = decoded_mesh(self._decoder, shape, IsosurfaceSettings(_VOXELS))
            error = math.inf
            if len(mesh.faces) > 0:
                rng = np.random.default_rng(0)
                points = trimesh.sample.sample_surface(mesh, _SURFACE_SAMPLES, seed=rng)[0]
                error = sampled_chamfer(points, self._shapes[name].points)
            self._shape_errors[key] = error
        return self._shape_errors[key]
